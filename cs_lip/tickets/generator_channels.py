"""The hidden channels of every generator's architecture.

Where one number of a constructor sets the channels of several feature maps, as a depth of `PGGAN` does, a channel of
the group is the channel of that index in all of them: they stay or go together.
"""

from cs_lip.priors.dcgan import DCGAN
from cs_lip.priors.decoder import Decoder
from cs_lip.priors.pggan import FIRST, PGGAN
from cs_lip.priors.stylegan2 import StyleGAN2
from cs_lip.tickets.slices import ChannelGroup, Slices


def dcgan_channels(network: DCGAN) -> tuple[ChannelGroup, ...]:
    """Of every feature map between two layers; a transposed convolution's weights are ``(in, out, height, width)``."""
    return tuple(
        ChannelGroup(
            "widths",
            index,
            width,
            made=(Slices(f"main.{3 * index - 3}.weight", 1),),
            read=(Slices(f"main.{3 * index}.weight", 0),),
            beside=tuple(
                Slices(f"main.{3 * index - 2}.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")
            ),
        )
        for index, width in enumerate(network.widths[1:-1], 1)
    )


def decoder_channels(network: Decoder) -> tuple[ChannelGroup, ...]:
    """The hidden units."""
    return tuple(
        ChannelGroup(
            "sizes",
            index,
            network.get_parameter(f"linear.{index}.weight").shape[1],
            made=(Slices(f"linear.{index - 1}.weight", 0),),
            read=(Slices(f"linear.{index}.weight", 1),),
            beside=(Slices(f"linear.{index - 1}.bias", 0),),
        )
        for index in range(1, len(network.linear))
    )


def pggan_channels(network: PGGAN) -> tuple[ChannelGroup, ...]:
    """Of both feature maps of one side. The first layer gives a whole map of each channel, row after row."""
    groups = []
    last = len(network.doublings)
    for index in range(last + 1):
        first, second = (f"doublings.{index - 1}.0", f"doublings.{index - 1}.1") if index else ("format", "start")
        each = 1 if index else FIRST**2
        after = f"doublings.{index}.0" if index < last else "rgb"
        groups.append(
            ChannelGroup(
                "depths",
                index,
                network.get_parameter(f"{second}.weight").shape[0],
                made=(Slices(f"{first}.weight", 0, each=each), Slices(f"{second}.weight", 0)),
                read=(Slices(f"{second}.weight", 1), Slices(f"{after}.weight", 1)),
                beside=(Slices(f"{first}.bias", 0, each=each), Slices(f"{second}.bias", 0)),
                summed=True,
            )
        )
    return tuple(groups)


def stylegan2_channels(network: StyleGAN2) -> tuple[ChannelGroup, ...]:
    """Of both feature maps of one side. A layer's affine map gives a style for every channel that it reads."""
    groups = []
    names = [f"synthesis.{name}" for name in network.synthesis]
    for index, block in enumerate(names):
        made = (f"{block}.conv0", f"{block}.conv1") if index else (f"{block}.conv1",)
        read = (f"{block}.conv1", f"{block}.torgb", *(f"{after}.conv0" for after in names[index + 1 : index + 2]))
        styles = tuple(Slices(f"{layer}.affine.{kind}", 0) for layer in read for kind in ("weight", "bias"))
        start = () if index else (Slices(f"{block}.const", 0),)
        groups.append(
            ChannelGroup(
                "depths",
                index,
                network.get_parameter(f"{block}.conv1.weight").shape[0],
                made=tuple(Slices(f"{layer}.weight", 0) for layer in made),
                read=tuple(Slices(f"{layer}.weight", 1) for layer in read),
                beside=(*start, *styles, *(Slices(f"{layer}.bias", 0) for layer in made)),
            )
        )
    return tuple(groups)
