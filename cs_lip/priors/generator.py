"""The contract of a generator: latents in, images in [0, 1] out."""

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from cs_lip.priors.bounded import TooLargeError
from cs_lip.priors.prunable import Prunable

Geometry = Literal["gaussian", "sphere"]
"""How latents are distributed: standard normal, or in a uniform direction, with a length that the network ignores."""

State = tuple[Tensor, ...]
"""What one layer hands to the next; every tensor has the batch in front."""

Layer = Callable[[State], State]

MOST_ROWS, MOST_VALUES = 100, 100 * 3 * 64 * 64
"""Images, and values of images, that are drawn at once: enough to fill the cores, few enough to bound memory."""


class Generator(Prunable, ABC):
    """A network ``G`` that draws images from latents.

    ``G(z)`` maps ``(*batch, *latent_shape)`` to ``(*batch, *image_shape)`` with ``image_shape = (channels, height,
    width)`` and values in [0, 1], whatever range the network itself works in.

    With ``gaussian`` geometry latents follow a standard normal distribution, so ``|z|^2`` is, up to a constant, minus
    twice the logarithm of their density. With ``sphere`` geometry the network normalises its latents, so that their
    length says nothing and a penalty on it means nothing.
    """

    def __init__(
        self, latent_shape: tuple[int, ...], image_shape: tuple[int, int, int], geometry: Geometry = "gaussian"
    ) -> None:
        super().__init__()
        self.latent_shape = latent_shape
        self.image_shape = image_shape
        self.geometry: Geometry = geometry

    @staticmethod
    def wrap(
        module: nn.Module,
        *,
        latent_shape: tuple[int, ...],
        value_range: tuple[float, float],
        geometry: Geometry = "gaussian",
        labels: Tensor | None = None,
    ) -> "Generator":
        """Any module from latents to images as a `Generator`.

        Args:
            module: maps ``(batch, *latent_shape)`` to ``(batch, channels, height, width)``, the same latent always to
                the same image. It is used as it is, in evaluation mode, and not copied; `fold` makes a frozen copy.
            value_range: the values ``(low, high)`` that it gives to black and white, such as (-1, 1) after a tanh.
                They are mapped to [0, 1], and what lies beyond is clipped.
            geometry: ``sphere`` where the module normalises its latents.
            labels: of a conditional module, fixed: one row ``(1, ...)``, which is repeated along the batch and passed
                as the second argument.

        Raises:
            ValueError: the range is empty, there is no such geometry, the latent shape or the labels are none, or the
                module does not give images for such latents, or draws noise of its own.
        """
        return _Wrapped(module, tuple(latent_shape), value_range, geometry, labels)

    @property
    def latent_size(self) -> int:
        """The number of latent unknowns, ``k``."""
        return math.prod(self.latent_shape)

    @property
    def rows_at_once(self) -> int:
        """How many images or tangents to push through the network together; the feature maps grow with the images."""
        return max(1, min(MOST_ROWS, MOST_VALUES // math.prod(self.image_shape)))

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights, and so of the images."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def sample_latents(self, count: int, *, generator: torch.Generator) -> Tensor:
        """``count`` latents from the distribution that the network was trained on, ``(count, *latent_shape)``.

        They are standard normal unless a subclass says otherwise. They are drawn on the CPU from the random
        ``generator`` and then moved, so a seed means the same latents on every device.
        """
        return torch.randn(count, *self.latent_shape, generator=generator).to(self.device, self.dtype)

    def forward(self, latents: Tensor) -> Tensor:
        """Images ``(*batch, *image_shape)`` in [0, 1] for latents ``(*batch, *latent_shape)``.

        Raises:
            ValueError: the trailing shape is not ``latent_shape``.
        """
        dims = len(self.latent_shape)
        batch = latents.shape[: latents.dim() - dims]
        if tuple(latents.shape[latents.dim() - dims :]) != self.latent_shape or latents.dim() < dims:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} do not end in this generator's latent shape "
                f"{self.latent_shape}; try a tensor of shape (batch, {', '.join(map(str, self.latent_shape))})"
            )
        state: State = (latents.reshape(-1, *self.latent_shape),)
        for layer in self.layers().values():
            state = layer(state)
        return state[0].reshape(*batch, *self.image_shape)

    @abstractmethod
    def layers(self) -> dict[str, Layer]:
        """The network cut into named pieces that follow one another.

        The first takes ``(latents,)`` with one batch dimension, each takes what the one before gave, and the last gives
        ``(images,)`` in [0, 1]: composed, they are `forward`. Between any two the search may go on over the
        activations instead of the latents (intermediate-layer optimisation: Daras et al., ICML 2021).
        """

    def push(self, latent: Tensor, tangents: Tensor) -> Tensor:
        """The derivative of the image at ``latent`` along every tangent, ``(rows, *image_shape)``.

        Forward mode (`torch.func.jvp`): one pass for all tangents, the latent's own activations computed once.

        Args:
            latent: ``latent_shape``.
            tangents: ``(rows, *latent_shape)``. Their dtype asks for products in that precision; a generator may use
                the latent's instead. The result is in the tangents' dtype.
        """

        def derivative(tangent: Tensor) -> Tensor:
            image_tangent: Tensor = jvp(self, (latent,), (tangent,))[1]
            return image_tangent

        with warnings.catch_warnings():
            # The first forward-mode derivative in a process makes PyTorch load a module that warns about itself.
            warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
            images: Tensor = vmap(derivative)(tangents.to(latent.dtype))
        return images.to(tangents.dtype)

    def fold(self) -> "Generator":
        """A frozen copy for inference that draws the same images: batch norm folded into the layer before it, the
        first layer as a matrix product, no weight asking for gradients, evaluation mode. Folding twice is harmless.

        Unless a subclass knows better, nothing is folded.
        """
        return copy.deepcopy(self).eval().requires_grad_(False)

    def weight_groups(self) -> dict[str, tuple[str, ...]]:
        """See `Prunable.weight_groups`; as `weights_by_role` finds them, and subclasses may have further groups."""
        return weights_by_role(self)


def weights_by_role(network: nn.Module, inputs: int = 1) -> dict[str, tuple[str, ...]]:
    """The weights of convolutions and linear layers in the order of the network's modules: the first ``inputs`` of them
    are the ``input``, the last is the ``output``, and those between are ``hidden``.
    """
    weights = dict(network.named_parameters())
    names = [
        f"{name}.weight"
        for name, module in network.named_modules()
        # A weight norm makes it from others at every pass.
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and f"{name}.weight" in weights
    ]
    return {
        "input": tuple(names[:inputs]),
        "hidden": tuple(names[inputs:-1]),
        "output": tuple(names[inputs:][-1:]),
    }


class _Wrapped(Generator):
    """See `Generator.wrap`."""

    def __init__(
        self,
        module: nn.Module,
        latent_shape: tuple[int, ...],
        value_range: tuple[float, float],
        geometry: Geometry,
        labels: Tensor | None,
    ) -> None:
        low, high = value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"the value range must be (low, high) with low < high, got {value_range}; try (-1, 1)")
        if geometry not in get_args(Geometry):
            raise ValueError(f"there is no geometry {geometry!r:.40}; try one of {', '.join(get_args(Geometry))}")
        if min(latent_shape, default=1) < 1:
            raise ValueError(f"the latent shape must be positive lengths, got {latent_shape}; try (100,)")
        if labels is not None and tuple(labels.shape[:1]) != (1,):
            raise ValueError(f"the labels must be one row (1, ...), got shape {tuple(labels.shape)}; try labels[:1]")
        super().__init__(latent_shape, _drawn_shape(module, latent_shape, labels), geometry)
        self.module = module
        self.value_range = (low, high)
        self.register_buffer("labels", labels)
        self.eval()

    def layers(self) -> dict[str, Layer]:
        return {"module": self._draw}

    def fold(self) -> Generator:
        """See `Generator.fold`. A spectral or weight norm leaves its last product in the module, and only a product
        without gradients can be copied.
        """
        with torch.no_grad():
            self(torch.zeros(1, *self.latent_shape, device=self.device, dtype=self.dtype))
        return super().fold()

    def _draw(self, state: State) -> State:
        (latents,) = state
        low, high = self.value_range
        values: Tensor = self.module(latents, *_fixed(self.labels, latents))
        return (((values - low) / (high - low)).clamp(0, 1),)


def _fixed(labels: object, latents: Tensor) -> tuple[Tensor, ...]:
    """The labels repeated along the batch, as arguments; none where there are no labels."""
    return (labels.expand(len(latents), *labels.shape[1:]),) if isinstance(labels, Tensor) else ()


def _drawn_shape(module: nn.Module, latent_shape: tuple[int, ...], labels: Tensor | None) -> tuple[int, int, int]:
    """The shape of the images of a module, from a trial.

    Raises:
        ValueError: it draws nothing for two latents, no images, not the same image for the same latent, or values that
            are not finite.
    """
    weight = next(module.parameters(), None)
    if weight is None:
        raise ValueError("the module has no weights, so it is no network; try a generator with its weights loaded")
    latent = torch.randn(1, *latent_shape, generator=torch.Generator().manual_seed(0))
    latents = latent.to(weight.device, weight.dtype).repeat_interleave(2, 0)
    try:
        with torch.no_grad():
            images, again = (module.eval()(latents, *_fixed(labels, latents)) for _ in range(2))
    except TooLargeError:
        raise
    except Exception as error:  # somebody else's module may raise anything
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the module does not take latents of shape (2, {', '.join(map(str, latent_shape))}) ({first}); "
            "try the latent shape that it was trained with"
        ) from None
    shape = tuple(images.shape) if isinstance(images, Tensor) else ()
    if len(shape) != 4 or shape[0] != 2 or 0 in shape:
        given = f"shape {shape}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise ValueError(
            f"the module gives {given} for two latents, expected a tensor (2, channels, height, width); "
            "try a module that draws images and nothing else"
        )
    drawn = torch.cat([images, again]).double()
    if not torch.isfinite(drawn).all():
        raise ValueError("the module draws values that are not finite; try a module whose weights are loaded")
    # Far above the rounding of half precision, far below any noise that is seen.
    if (drawn - drawn[:1]).abs().max() > 0.01 * drawn[0].abs().max():
        raise ValueError(
            "the module draws two images for one latent, so it adds noise of its own, and no search could find a "
            "latent; try to keep its noise constant"
        )
    return shape[1], shape[2], shape[3]
