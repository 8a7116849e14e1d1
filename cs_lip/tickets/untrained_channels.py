"""The hidden channels of every untrained network's architecture.

Where one number of a constructor sets the channels of several feature maps, as a width of `Skip` does, a channel of the
group is the channel of that index in all of them: they stay or go together.
"""

from collections.abc import Sequence

from cs_lip.priors.untrained.deep_decoder import ConvDecoder, DeepDecoder
from cs_lip.priors.untrained.skip import Scale, Skip, Step
from cs_lip.priors.untrained.unet import UNet
from cs_lip.tickets.slices import ChannelGroup, Slices


def chain_channels(network: DeepDecoder | ConvDecoder) -> tuple[ChannelGroup, ...]:
    """Of the feature map behind every convolution but the last, which draws the image."""
    readers = [*(f"convs.{index}.weight" for index in range(1, len(network.convs))), "output.weight"]
    return tuple(
        ChannelGroup(
            "channels",
            index + 1,
            network.get_parameter(reader).shape[1],
            made=(Slices(f"convs.{index}.weight", 0),),
            read=(Slices(reader, 1),),
            beside=(Slices(f"norms.{index}.weight", 0), Slices(f"norms.{index}.bias", 0)),
        )
        for index, reader in enumerate(readers)
    )


def skip_channels(network: Skip) -> tuple[ChannelGroup, ...]:
    """The widths, each of all four maps of a scale, and then the skips."""
    scales = [scale for scale in network.scales if isinstance(scale, Scale)]
    widths = [_skip_width(scales, index) for index in range(len(scales))]
    skips = [_skip_past(index, scale.skip.conv.out_channels) for index, scale in enumerate(scales) if scale.skip]
    return (*widths, *skips)


def _skip_width(scales: Sequence[Scale], index: int) -> ChannelGroup:
    """Of ``x_i`` and ``y_i``: the deeper scale reads the one, the scale before, behind its skip, the other."""
    here, mixes = f"scales.{index}", isinstance(scales[index].mix, Step)
    steps = [f"{here}.{step}" for step in ("halve", "deepen", "join", *(("mix",) if mixes else ()))]
    read = [Slices(f"{here}.deepen.conv.weight", 1)]
    read += [Slices(f"{here}.mix.conv.weight", 1)] if mixes else []
    beside = [Slices(f"{step}.{kind}", 0) for step in steps for kind in ("conv.bias", "norm.weight", "norm.bias")]
    if index + 1 < len(scales):
        after = f"scales.{index + 1}"
        read.append(Slices(f"{after}.halve.conv.weight", 1))
        read += [Slices(f"{after}.skip.conv.weight", 1)] if scales[index + 1].skip else []
    joins = [index] if index + 1 == len(scales) else []  # the deepest x_i goes up where the others' y_{i+1} does
    joins += [index - 1] if index else []
    for scale in joins:
        offset = _skipped(scales[scale])
        read.append(Slices(f"scales.{scale}.join.conv.weight", 1, offset))
        beside += [Slices(f"scales.{scale}.norm.{kind}", 0, offset) for kind in ("weight", "bias")]
    read += [] if index else [Slices("output.weight", 1)]
    return ChannelGroup(
        "widths",
        index,
        scales[index].deepen.conv.out_channels,
        made=tuple(Slices(f"{step}.conv.weight", 0) for step in steps),
        read=tuple(read),
        beside=tuple(beside),
    )


def _skip_past(index: int, channels: int) -> ChannelGroup:
    """Of the skip: the first channels of what is joined."""
    here = f"scales.{index}"
    beside = [f"{here}.{name}" for name in ("skip.conv.bias", "skip.norm.weight", "skip.norm.bias")]
    return ChannelGroup(
        "skips",
        index,
        channels,
        made=(Slices(f"{here}.skip.conv.weight", 0),),
        read=(Slices(f"{here}.join.conv.weight", 1),),
        beside=tuple(Slices(name, 0) for name in (*beside, f"{here}.norm.weight", f"{here}.norm.bias")),
    )


def _skipped(scale: Scale) -> int:
    return 0 if scale.skip is None else scale.skip.conv.out_channels


def unet_channels(network: UNet) -> tuple[ChannelGroup, ...]:
    """Of ``x_i``, of ``up_i`` and of ``y_i``; what grows comes before ``x_i`` where the two are joined."""
    groups = []
    last = len(network.grow)
    for index in range(last + 1):
        down = f"down.{index}"
        width = network.get_parameter(f"{down}.0.weight").shape[0]
        made = [Slices(f"{down}.0.weight", 0), Slices(f"{down}.3.weight", 0)]
        read = [Slices(f"{down}.3.weight", 1)]
        biases = [f"{down}.0", f"{down}.3"]
        if index < last:
            up = f"up.{index}"
            made += [Slices(f"grow.{index}.weight", 1), Slices(f"{up}.0.weight", 0), Slices(f"{up}.2.weight", 0)]
            read += [Slices(f"{up}.0.weight", 1), Slices(f"{up}.0.weight", 1, width), Slices(f"{up}.2.weight", 1)]
            read.append(Slices(f"down.{index + 1}.0.weight", 1))
            biases += [f"grow.{index}", f"{up}.0", f"{up}.2"]
        read.append(Slices(f"grow.{index - 1}.weight", 0) if index else Slices("output.weight", 1))
        beside = tuple(Slices(f"{layer}.bias", 0) for layer in biases)
        groups.append(ChannelGroup("widths", index, width, tuple(made), tuple(read), beside))
    return tuple(groups)
