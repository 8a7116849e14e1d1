"""An encoder: from what the measurements say linearly about an image to latents that draw nearly that image."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cs_lip.priors.generator import Generator, Geometry

FLOOR = 1e-4
"""Smallest share of a component's variance that the network tells from none."""

SAME = 0.02
"""Relative difference of probe images up to which a generator counts as the encoder's: far above half precision."""


class Encoder(nn.Module):
    """A learned start ``E`` of the search for latents of one generator ``G``.

    It knows the principal components of G's images: ``x ~ mean + V c`` with ``V^T V = I`` and independent coefficients
    ``c`` of variances ``e``. Measurements or a back-projection tell about ``c`` what linear estimation makes of them, a
    mean and a variance for each component, and a residual network turns these into latents, trained on G's own draws
    for the least squared error (`cs_lip.training.StartTraining`). With ``sphere`` geometry only their direction counts.

    Attributes:
        mean: ``(n,)``, the mean image of the draws.
        basis: ``(components, n)``, orthonormal rows ``V^T``.
        variances: ``(components,)``, ``e``, of images in [0, 1].
        rest: ``()``, the mean squared distance of an image to ``mean + V c``, summed over its pixels.
        centre, spread: ``latent_shape``, mean and standard deviation of the latents that the network learned.
        probe, probe_coefficients: a latent and ``V^T (G(z) - mean)`` for it, by which a generator is known again.

    Source: linear estimate, Kay, Fundamentals of Statistical Signal Processing I (1993), theorem 12.1; an encoder as
    the projector onto the range of a generator, Raj, Li & Bresler, ICCV 2019, section 3.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor
    centre: Tensor
    spread: Tensor
    probe: Tensor
    probe_coefficients: Tensor

    def __init__(
        self,
        latent_shape: Sequence[int],
        image_shape: Sequence[int],
        geometry: Geometry,
        *,
        components: int,
        width: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.latent_shape, self.image_shape = tuple(latent_shape), tuple(image_shape)
        self.geometry = geometry
        n, k = math.prod(image_shape), math.prod(latent_shape)
        for name, shape in (
            ("mean", (n,)),
            ("basis", (components, n)),
            ("variances", (components,)),
            ("rest", ()),
            ("centre", self.latent_shape),
            ("spread", self.latent_shape),
            ("probe", self.latent_shape),
            ("probe_coefficients", (components,)),
        ):
            self.register_buffer(name, torch.ones(shape))
        self.network = ResidualNetwork(2 * components, width, depth, k)

    @property
    def components(self) -> int:
        """How many principal components it looks at."""
        return len(self.variances)

    @property
    def mean_image(self) -> Tensor:
        """``mean`` as an image, ``(1, *image_shape)``."""
        return self.mean.reshape(1, *self.image_shape)

    @property
    def basis_images(self) -> Tensor:
        """``basis`` as images, ``(components, *image_shape)``; their values are not in [0, 1]."""
        return self.basis.reshape(-1, *self.image_shape)

    def forward(self, back_projections: Tensor, level: Tensor | float) -> Tensor:
        """Latents ``(rows, *latent_shape)`` for images in white noise: the projector onto the range of G.

        Args:
            back_projections: ``(rows, *image_shape)``, ``x + noise``, such as the step ``x_t + A^H (y - A x_t) / gain``
                of projected gradient.
            level: standard deviation of that noise in a pixel, a number or ``(rows,)``. For the step above and a random
                operator it is about ``|y - A x_t| / sqrt(gain m)``.
        """
        variance = torch.as_tensor(level, dtype=self.mean.dtype, device=self.mean.device).reshape(-1, 1).square()
        coefficients = (back_projections.flatten(1) - self.mean) @ self.basis.T
        kept = self.variances / (self.variances + variance)
        return self.latents(kept * coefficients, kept * variance)

    def from_measurements(
        self,
        responses: Tensor,
        residuals: Tensor,
        gain: float,
        noise: float = 0.0,
        *,
        perturbed: torch.Generator | None = None,
    ) -> Tensor:
        """Latents ``(rows, *latent_shape)`` for measurements ``y = A x + noise`` by any linear operator.

        They are made of the `linear_estimate`, whose arguments these are.
        """
        told, variances = self.linear_estimate(responses, residuals, gain, noise, perturbed=perturbed)
        return self.latents(told, variances)

    def linear_estimate(
        self,
        responses: Tensor,
        residuals: Tensor,
        gain: float,
        noise: float = 0.0,
        *,
        perturbed: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The coefficients ``c`` ``(rows, components)``, of the image ``mean + V c``, and their error variances.

        With ``B = A V`` the linear estimate of least mean squared error is

            c = P B^T (y - A mean) / r ,   P = (B^T B / r + diag(1 / e))^-1 ,   r = noise^2 + gain rest / m ,

        where what lies outside the components counts as more noise. It needs no back-projection, so it serves as well
        where ``A^H A`` is far from a multiple of the identity.

        Args:
            responses: ``A`` of `basis_images` as real vectors, ``(components, m)``.
            residuals: ``y - A mean`` as real vectors, ``(rows, m)``.
            gain: ``E|A u|^2 / |u|^2``.
            noise: standard deviation of the noise on every real measurement.
            perturbed: draws as much noise again, of variance r, on every row, and the estimate is for both: so many
                rows of one image are as many different starts.
        """
        m = responses.shape[1]
        variance = max(noise**2 + gain * float(self.rest) / m, 1e-12 * gain)
        if perturbed is not None:
            more = torch.randn(residuals.shape, generator=perturbed).to(residuals)
            residuals, variance = residuals + math.sqrt(variance) * more, 2 * variance
        exact = responses.double() / math.sqrt(variance)
        precision = exact @ exact.T + torch.diag(1 / self.variances.double())
        covariance: Tensor = torch.linalg.inv(precision)
        told = residuals.double() / math.sqrt(variance) @ exact.T @ covariance
        return told.to(self.mean), covariance.diagonal().to(self.mean)

    def latents(self, coefficients: Tensor, variances: Tensor) -> Tensor:
        """Latents ``(rows, *latent_shape)`` for linear estimates of the coefficients and their error variances.

        Args:
            coefficients: ``(rows, components)``.
            variances: ``(rows, components)``, or one for all rows or components.
        """
        values = self.network(self.features(coefficients, variances)).reshape(-1, *self.latent_shape)
        latents: Tensor = self.centre + self.spread * values
        return on_sphere(latents) if self.geometry == "sphere" else latents

    def features(self, coefficients: Tensor, variances: Tensor) -> Tensor:
        """What the network sees, ``(rows, 2 components)``: both in units of the components' own variances."""
        unknown = torch.log(variances / self.variances + FLOOR).expand_as(coefficients) / 4
        return torch.cat([coefficients / self.variances.sqrt(), unknown], 1)

    def check(self, generator: Generator) -> None:
        """Make sure that this is a start for that generator.

        Raises:
            ValueError: it has other shapes, or draws another image for the probe.
        """
        same = (generator.latent_shape, generator.image_shape) == (self.latent_shape, self.image_shape)
        if same:
            with torch.no_grad():
                image = generator(self.probe[None].to(generator.device, generator.dtype)).to(self.mean).flatten()
            found = self.basis @ (image - self.mean)
            same = bool((found - self.probe_coefficients).norm() <= SAME * self.variances.sum().sqrt())
        if not same:
            raise ValueError(
                "the learned start belongs to another generator, expected the one that it was trained for; try "
                "`cs-lip train-start` for this generator"
            )


class ResidualNetwork(nn.Module):
    """``h <- h + W silu(norm(h))``, ``depth`` times, between two linear layers."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
            self.first = nn.Linear(inputs, width)
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
            self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            self.last = nn.Linear(width, outputs)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights: uniform within ``1 / sqrt(inputs)`` of zero, as PyTorch does; biases are zero."""
        self.to_empty(device="cpu")
        for layer in (self.first, *self.inner, self.last):
            assert isinstance(layer, nn.Linear)
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)
        for norm in self.norms:
            assert isinstance(norm, nn.LayerNorm)
            norm.reset_parameters()

    def forward(self, features: Tensor) -> Tensor:
        """``(rows, inputs)`` to ``(rows, outputs)``."""
        hidden = self.first(features)
        for norm, layer in zip(self.norms, self.inner, strict=True):
            hidden = hidden + layer(nn.functional.silu(norm(hidden)))
        values: Tensor = self.last(nn.functional.silu(hidden))
        return values


def on_sphere(latents: Tensor) -> Tensor:
    """Latents ``(rows, *latent_shape)`` of the length that standard normal ones have, ``sqrt(k)``."""
    flat = latents.flatten(1)
    length = flat.norm(dim=1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    scaled: Tensor = flat * (math.sqrt(flat.shape[1]) / length)
    return scaled.reshape(latents.shape)
