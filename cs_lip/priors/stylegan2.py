"""StyleGAN2 generators (Karras et al. 2020): a mapping from z to w, and a synthesis of the image that w styles."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cs_lip.priors.generator import Generator, Layer, State
from cs_lip.priors.modulated import FoldedConv, StyledConv, ToRGB, doubled
from cs_lip.priors.stylegan2_mapping import FoldedMapping, Mapping

FIRST = 4
"""The side of the first feature map."""
MOST_DEPTHS = 9
"""As many as images of 1024x1024 have."""

Space = Literal["z", "w", "w+"]
"""Which latents are searched: ``z`` before the mapping, one ``w`` behind it, or one ``w`` for every layer."""


class Block(nn.Module):
    """The layers of one resolution: two convolutions, of which the first doubles the side, and the colours.

    At the first resolution a learned constant ``(depth, side, side)`` takes the place of the first convolution.
    """

    def __init__(self, start: Tensor | StyledConv | FoldedConv, conv1: nn.Module, torgb: nn.Module) -> None:
        super().__init__()
        self.first = isinstance(start, Tensor)
        if isinstance(start, Tensor):
            self.const = nn.Parameter(start)
        else:
            self.conv0 = start
        self.conv1, self.torgb = conv1, torgb

    def forward(self, features: Tensor | None, image: Tensor | None, ws: Tensor) -> tuple[Tensor, Tensor]:
        """The features and the image so far at this resolution, from those at half of it; none at the first.

        ``ws`` is ``(batch, rows, styles)``, one row for each layer; the colours share theirs with the layer that comes
        next.
        """
        if features is None:
            features = self.const.expand(len(ws), -1, -1, -1)
        else:
            features = self.conv0(features, ws[:, 0])
            ws = ws[:, 1:]
        features = self.conv1(features, ws[:, 0])
        colours: Tensor = self.torgb(features, ws[:, 1])
        return features, colours if image is None else doubled(image) + colours

    def folded(self) -> "Block":
        """A copy of folded layers."""
        assert isinstance(self.conv1, StyledConv) and isinstance(self.torgb, ToRGB)
        if self.first:
            start: Tensor | FoldedConv = self.const.detach().clone()
        else:
            assert isinstance(self.conv0, StyledConv)
            start = self.conv0.folded()
        return Block(start, self.conv1.folded(), self.torgb.folded())


class _Styled(Generator):
    """What `StyleGAN2` and its folded twin share: everything but the parts they are made of."""

    w_mean: Tensor
    w_spread: Tensor

    def __init__(
        self, space: Space, sizes: tuple[int, int], channels: int, mapping: nn.Module, blocks: Sequence[Block]
    ) -> None:
        rows, side = 2 * len(blocks), FIRST * 2 ** (len(blocks) - 1)
        shape = {"z": sizes[:1], "w": sizes[1:], "w+": (rows, sizes[1])}[space]
        super().__init__(shape, (channels, side, side), "sphere" if space == "z" else "gaussian")
        self.space, self.sizes, self.rows = space, sizes, rows
        self.mapping = mapping
        self.synthesis = nn.ModuleDict({f"b{FIRST * 2**index}": block for index, block in enumerate(blocks)})

    def layers(self) -> dict[str, Layer]:
        """``mapping`` gives ``(ws,)``, one row for each layer; the blocks follow, one for each resolution.

        The blocks ``b4``, ``b8``, ... give ``(features, image, ws)`` with the image so far, in the network's own range
        [-1, 1], and the last one ``(images,)``.
        """
        last = len(self.synthesis) - 1
        blocks: dict[str, Layer] = {
            name: partial(_synthesise, block, max(2 * index - 1, 0), index == last)
            for index, (name, block) in enumerate(self.synthesis.items())
        }
        return {"mapping": self._start, **blocks}

    def _start(self, state: State) -> State:
        (latents,) = state
        ws = self.mapping(latents) if self.space == "z" else self.w_mean + self.w_spread * latents
        return (ws if self.space == "w+" else ws[:, None].expand(-1, self.rows, -1),)

    def sample_latents(self, count: int, *, generator: torch.Generator) -> Tensor:
        """See `Generator.sample_latents`. In W and W+ the ``w`` of standard normal ``z``, in the units of these
        latents; in W+ all rows are the same.
        """
        z = torch.randn(count, self.sizes[0], generator=generator).to(self.device, self.dtype)
        if self.space == "z":
            return z
        with torch.no_grad():
            latents: Tensor = (self.mapping(z) - self.w_mean) / self.w_spread
        return latents if self.space == "w" else latents[:, None].repeat(1, self.rows, 1)

    def weight_groups(self) -> dict[str, tuple[str, ...]]:
        """See `Generator.weight_groups`: the ``mapping``; the affine maps from ``w`` to a ``style``; the convolutions,
        ``hidden``, and those to colours, ``output``. The learned constant is no weight matrix, so ``input`` is empty.
        """
        names = [name for name, _ in self.named_parameters() if name.endswith(".weight")]
        layers = [name for name in names if name.startswith("synthesis.") and "affine" not in name]
        return {
            "input": (),
            "mapping": tuple(name for name in names if name.startswith("mapping.") and "embed" not in name),
            "style": tuple(name for name in names if ".affine." in name),
            "hidden": tuple(name for name in layers if ".torgb." not in name),
            "output": tuple(name for name in layers if ".torgb." in name),
        }


def _synthesise(block: nn.Module, row: int, last: bool, state: State) -> State:
    """One block; the last one's image is shifted and halved from [-1, 1], and what lies beyond is clipped."""
    *before, ws = state
    features, image = block(*(before or (None, None)), ws[:, row:])
    return (((image + 1) / 2).clamp(0, 1),) if last else (features, image, ws)


class StyleGAN2(_Styled):
    """A StyleGAN2 generator with skip connections and constant noise: latents to images ``(channels, side, side)``,
    ``side = 4 * 2^(len(depths) - 1)``.

    In the space ``z`` latents are ``(widths[0],)``, and their length is divided out. In ``w`` they are ``(styles,)``,
    ``styles = widths[-1]``, and stand for ``w = w_mean + w_spread * latent``: the offset from the mean of ``w`` in
    units of its spread, so that ``|latent|^2`` says how unusual it is. In ``w+`` every layer has a ``w`` of its own,
    ``(2 len(depths), styles)`` (Abdal, Qin & Wonka 2019).

    The network is linear at the end, trained towards [-1, 1]: its values ``v`` become ``(v + 1) / 2``, clipped to
    [0, 1].

    Args:
        widths: of the mapping from ``z`` to ``w``; nine times 512 in the paper.
        depths: the channels at every side from 4 on; five times 512, 256 and 128 for 256x256.
        channels: of the images.
        space: which latents are searched.
        rate: the learning rate of the mapping relative to the other layers', which scales its weights.
        clamp: the largest absolute value that a layer may give, as in networks trained in half precision; None for
            no bound.
        labels: how many classes a conditional generator knows, 0 for one that knows none.
        label: the class that this generator draws, fixed.
        embedding: the size of the vector that stands for a class.

    Raises:
        ValueError: the label is not one of the classes, there is no such space, a size, the rate or the clamp is not
            positive, or the images would be larger than the 1024x1024 of the paper.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        channels: int = 3,
        space: Space = "z",
        rate: float = 0.01,
        clamp: float | None = None,
        labels: int = 0,
        label: int = 0,
        embedding: int = 0,
    ) -> None:
        if space not in get_args(Space):
            raise ValueError(f"there is no space {str(space)[:20]!r} of latents; try {', '.join(get_args(Space))}")
        if not 1 <= len(depths) <= MOST_DEPTHS or len(widths) < 2 or min(channels, *widths, *depths) < 1:
            raise ValueError(
                f"a StyleGAN2 has positive sizes, 2 widths or more and 1 to {MOST_DEPTHS} depths, got {len(widths)} "
                f"widths and {len(depths)} depths for {channels} channels; try the settings of a trained network"
            )
        if min(labels, embedding) < 0 or not 0 < rate <= 1:
            raise ValueError(
                f"a StyleGAN2 has a rate in (0, 1] and no fewer than 0 labels, got {rate}, {labels} labels and an "
                f"embedding of {embedding}; try the settings of a trained network"
            )
        if labels > 0 and embedding < 1:
            raise ValueError(f"{labels} labels need an embedding of 1 or more, got {embedding}; try one of {widths[0]}")
        if clamp is not None and not clamp > 0:
            raise ValueError(f"the clamp must be positive, got {clamp}; try none")
        styles, blocks = widths[-1], []
        for index, (before, after) in enumerate(pairwise([0, *depths])):
            side = FIRST * 2**index
            start = StyledConv(before, after, styles, side, up=True, clamp=clamp) if index else _constant(after)
            conv1 = StyledConv(after, after, styles, side, clamp=clamp)
            blocks.append(Block(start, conv1, ToRGB(after, channels, styles, clamp=clamp)))
        mapping = Mapping(widths, rate=rate, labels=labels, label=label, embedding=embedding)
        super().__init__(space, (widths[0], styles), channels, mapping, blocks)
        if space != "z":
            self.register_buffer("w_mean", torch.zeros(styles))
            self.register_buffer("w_spread", torch.ones(()))

    def fold(self) -> "FoldedStyleGAN2":
        """The same images from fewer operations; see `Generator.fold` and `FoldedStyleGAN2`."""
        return FoldedStyleGAN2(self)


def _constant(depth: int) -> Tensor:
    """The features that the synthesis starts from, as they are before training."""
    return torch.randn(depth, FIRST, FIRST)


class FoldedStyleGAN2(_Styled):
    """A frozen `StyleGAN2` with the gains of equalised learning rates baked into the weights, the fixed label a part
    of a bias, and everything about a convolution that does not depend on the style computed once.
    """

    def __init__(self, source: StyleGAN2) -> None:
        assert isinstance(source.mapping, Mapping)
        blocks = [block.folded() for block in source.synthesis.values() if isinstance(block, Block)]
        super().__init__(source.space, source.sizes, source.image_shape[0], FoldedMapping(source.mapping), blocks)
        if source.space != "z":
            self.register_buffer("w_mean", source.w_mean.clone())
            self.register_buffer("w_spread", source.w_spread.clone())
        self.eval().requires_grad_(False)
        if source.kept:
            self.keep_nonzero_()

    def fold(self) -> "FoldedStyleGAN2":
        """Itself: it is folded already."""
        return self
