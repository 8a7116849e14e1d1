"""The contract of a pretrained generator: latents in, images in [0, 1] out."""

import math
import warnings
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap


class Generator(nn.Module, ABC):
    """A network ``G`` that draws images from latents.

    ``G(z)`` maps ``(*batch, *latent_shape)`` to ``(*batch, *image_shape)`` with ``image_shape = (channels, height,
    width)`` and values in [0, 1], whatever range the network itself works in. Latents follow a standard normal
    distribution, so ``|z|^2`` is, up to a constant, minus twice the logarithm of their density.
    """

    def __init__(self, latent_shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.latent_shape = latent_shape
        self.image_shape = image_shape

    @property
    def latent_size(self) -> int:
        """The number of latent unknowns, ``k``."""
        return math.prod(self.latent_shape)

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights, and so of the images."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def sample_latents(self, count: int, *, rng: torch.Generator) -> Tensor:
        """``count`` standard normal latents, ``(count, *latent_shape)``.

        They are drawn on the CPU from ``rng`` and then moved, so a seed means the same latents on every device.
        """
        return torch.randn(count, *self.latent_shape, generator=rng).to(self.device, self.dtype)

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
        images = self.draw(latents.reshape(-1, *self.latent_shape))
        return images.reshape(*batch, *self.image_shape)

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

    @abstractmethod
    def draw(self, latents: Tensor) -> Tensor:
        """`forward` for exactly one batch dimension, shapes already checked."""

    @abstractmethod
    def fold(self) -> "Generator":
        """A frozen copy for inference that draws the same images: batch norm folded into the layer before it, the
        first layer as a matrix product, no weight asking for gradients, evaluation mode. Folding twice is harmless.
        """
