"""Training a learned start: an encoder that sees nothing but the generator's own draws."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.priors import Encoder, Generator
from cs_lip.priors.encoder import on_sphere
from cs_lip.seeding import stream
from cs_lip.training.random_operators import Estimates, random_estimates

LARGEST_IMAGE, LARGEST_LATENT = 3 * 128 * 128, 2**14
"""Values; beyond them the basis or the last layer would outgrow the generator."""

LARGEST_SAMPLE = 2**27
"""Values of the draws that the principal components are computed from."""

DRAWS_A_COMPONENT = 10
"""As many draws a principal component at least: fewer fit the components to themselves, and leave far less outside them
than of any other draw."""

DRAWN_AT_ONCE = 2000
GROUPS = 8
"""Parts of a batch, each with an operator of its own."""

WHITE = 0.4
"""Share of the groups in white noise, as back-projections by random operators have it (`Encoder.forward`)."""

FINEST = 1e-3
"""Smallest level of white noise, relative to the spread of images; the largest is that of 20 measurements."""

WARM_UP = 100
"""Steps over which the learning rate rises, or a quarter of all where that is less."""


@dataclass(frozen=True)
class StartSettings:
    """Settings of the training of one learned start.

    Attributes:
        draws: of the generator, that the encoder learns from.
        components: principal components of its images that the encoder looks at, at most a tenth of the draws.
        width, depth: of the residual network.
        steps: on the squared error of the latents.
        batch: draws in such a step.
        image_steps: after these, on the squared error of the image that the latents draw, seen through the components.
        image_batch: draws in such a step, which takes a pass through the generator and back.
        latent_weight: of the latents' squared error beside the image's, both relative to their spread.
        learning_rate, image_learning_rate: of Adam in the two phases, rising and falling in each.
        averaging: share that the averaged weights keep of themselves in a step.
        operators: how many random operators there are.
        seed: of draws, operators, noise and initial weights.

    Raises:
        ValueError: a setting out of its range.
    """

    draws: int = 40000
    components: int = 192
    width: int = 768
    depth: int = 3
    steps: int = 4000
    batch: int = 256
    image_steps: int = 400
    image_batch: int = 64
    latent_weight: float = 0.05
    learning_rate: float = 1e-3
    image_learning_rate: float = 3e-4
    averaging: float = 0.99
    operators: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("draws", self.draws, 100),
            ("components", self.components, 1),
            ("width", self.width, 1),
            ("depth", self.depth, 0),
            ("steps", self.steps, 1),
            ("batch", self.batch, GROUPS),
            ("image steps", self.image_steps, 0),
            ("image batch", self.image_batch, GROUPS),
            ("operators", self.operators, 1),
        ):
            if value < least:
                raise ValueError(f"the {name} must be at least {least}, got {value}; try the default")


class StartTraining:
    """The training of an `Encoder` for one generator, in stages of seconds: `advance` until `done` is `total`.

    First the generator draws latents and images, which leave their coefficients in the principal components of the
    first of them (randomised subspace iteration: Halko, Martinsson & Tropp 2011, algorithm 4.4). Then the network
    learns to undo this, from linear estimates of the coefficients as random operators leave them, by Adam: at first
    the latents alone, which is cheap, then the images too,

        |V^T (G(E(c_hat)) - mean) - c|^2 / |e| + weight |E(c_hat) - z|^2 / k .

    No image ever comes from outside. The same settings give the same weights on the same kind of machine.

    Raises:
        ValueError: images or latents too large for an encoder of this kind.
    """

    def __init__(self, generator: Generator, settings: StartSettings) -> None:
        n = math.prod(generator.image_shape)
        for what, size, most in (("images", n, LARGEST_IMAGE), ("latents", generator.latent_size, LARGEST_LATENT)):
            if size > most:
                raise ValueError(
                    f"this generator has {what} of {size} values, expected at most {most} for a learned start; try "
                    "random starts, which every generator has"
                )
        self.settings = settings
        self.generator = generator.fold()
        self.done = 0
        self._sample = max(2, min(settings.draws, 8000, LARGEST_SAMPLE // n))
        components = min(settings.components, n, max(1, self._sample // DRAWS_A_COMPONENT))
        self.encoder = Encoder(
            generator.latent_shape,
            generator.image_shape,
            generator.geometry,
            components=components,
            width=settings.width,
            depth=settings.depth,
        ).requires_grad_(False)
        self.encoder.network.initialise(stream(settings.seed, "start/weights"))
        self.encoder.network.requires_grad_(True)
        self._averaged = [weight.detach().clone() for weight in self.encoder.network.parameters()]
        self._streams = {name: stream(settings.seed, f"start/{name}") for name in ("draws", "operators", "steps")}
        self._latents: list[Tensor] = []
        self._coefficients: list[Tensor] = []
        self._operators: list[Estimates] = []
        self._optimiser = torch.optim.Adam(self.encoder.network.parameters())

    @property
    def stages(self) -> dict[str, int]:
        """The phases in order and how many times `advance` each takes."""
        chunks = 1 + math.ceil(max(0, self.settings.draws - self._sample) / DRAWN_AT_ONCE)
        return {"draw": chunks, "latents": self.settings.steps, "images": self.settings.image_steps}

    @property
    def total(self) -> int:
        """How many times `advance` is to be called."""
        return sum(self.stages.values())

    @property
    def phase(self) -> str:
        """The phase that the next `advance` belongs to; the last one's at the end."""
        return self._place()[0]

    def advance(self) -> float:
        """One chunk of draws or one step; returns the loss of a step, relative to guessing the mean, else NaN.

        Raises:
            ValueError: the generator draws one image only, or what it draws is not finite.
        """
        phase, index = self._place()
        self.done += 1
        if phase == "draw":
            self._draw(first=index == 0)
            return math.nan
        if not self._operators:
            self._gather()
        return self._step(index, images=phase == "images")

    def finished(self) -> Encoder:
        """The encoder with averaged weights, frozen."""
        with torch.no_grad():
            for weight, average in zip(self.encoder.network.parameters(), self._averaged, strict=True):
                weight.copy_(average)
        return self.encoder.eval().requires_grad_(False)

    def _place(self) -> tuple[str, int]:
        index = min(self.done, self.total - 1)
        for phase, count in self.stages.items():
            if index < count:
                return phase, index
            index -= count
        raise AssertionError("the stages are not empty")

    # Draws and their principal components

    def _draw(self, *, first: bool) -> None:
        count = self._sample if first else DRAWN_AT_ONCE
        latents = self.generator.sample_latents(count, generator=self._streams["draws"])
        with torch.no_grad():
            parts = torch.split(latents, self.generator.rows_at_once)
            images = torch.cat([self.generator(part).flatten(1).float() for part in parts])
        if not torch.isfinite(images).all():
            raise ValueError("the generator draws values that are not finite; try the file as its author published it")
        latents = latents.float()
        if first:
            self._analyse(latents, images)
        self._latents.append(on_sphere(latents) if self.encoder.geometry == "sphere" else latents)
        self._coefficients.append(self._project(images))

    def _analyse(self, latents: Tensor, images: Tensor) -> None:
        """Set the encoder's principal components and statistics."""
        encoder, rng = self.encoder, self._streams["draws"]
        mean = images.mean(0)
        centred = images - mean
        more = min(encoder.components + 16, *centred.shape)
        basis = torch.linalg.qr(centred.T @ torch.randn(len(centred), more, generator=rng))[0]
        for _ in range(2):
            basis = torch.linalg.qr(centred.T @ (centred @ basis))[0]
        _, scales, turned = torch.linalg.svd(centred @ basis, full_matrices=False)
        variances = scales[: encoder.components].square() / len(centred)
        total = float(centred.square().sum() / len(centred))
        if total <= 1e-9 * mean.numel():
            raise ValueError("the generator draws the same image for every latent; try one that was trained")
        # Stored in half precision (`cs_lip.priors.starts`), so trained on what will be read again.
        encoder.basis.copy_((turned[: encoder.components] @ basis.T).half())
        encoder.mean.copy_(mean.half())
        encoder.variances.copy_(variances.clamp(min=1e-6 * float(variances[0])))
        encoder.rest.fill_(max(total - float(variances.sum()), 1e-6 * total))
        shaped = on_sphere(latents) if encoder.geometry == "sphere" else latents
        encoder.centre.copy_(shaped.mean(0))
        encoder.spread.copy_(shaped.std(0).clamp(min=1e-6))
        encoder.probe.copy_(latents[0])
        encoder.probe_coefficients.copy_(self._project(images[:1])[0])

    def _project(self, images: Tensor) -> Tensor:
        return (images.flatten(1).float() - self.encoder.mean) @ self.encoder.basis.T

    def _gather(self) -> None:
        """All draws in one tensor, and the random operators."""
        draws = self.settings.draws
        self._latents = [torch.cat(self._latents)[:draws]]
        self._coefficients = [torch.cat(self._coefficients)[:draws]]
        encoder, rng = self.encoder, self._streams["operators"]
        self._operators = [
            random_estimates(encoder.basis, encoder.variances, float(encoder.rest), self.generator.image_shape, rng)
            for _ in range(self.settings.operators)
        ]

    # Steps

    def _step(self, index: int, *, images: bool) -> float:
        settings = self.settings
        steps = settings.image_steps if images else settings.steps
        rate = settings.image_learning_rate if images else settings.learning_rate
        falling = (1 + math.cos(math.pi * index / steps)) / 2
        self._optimiser.param_groups[0]["lr"] = (
            rate * min(1.0, (index + 1) / max(1, min(WARM_UP, steps // 4))) * falling
        )
        features, latents, coefficients = self._batch(settings.image_batch if images else settings.batch)
        found = self.encoder.latents(*features)
        relative = ((found - latents) / self.encoder.spread).square().mean()
        loss = relative
        if images:
            drawn = self.generator(found.to(self.generator.dtype)).float()
            squares = (self._project(drawn) - coefficients).square().sum(1).mean()
            loss = squares / self.encoder.variances.sum() + settings.latent_weight * relative
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.network.parameters(), 1.0)
        self._optimiser.step()
        taken = self.done - self.stages["draw"]
        kept = min(settings.averaging, taken / (taken + 10))  # soon rid of the initial weights
        with torch.no_grad():
            for average, weight in zip(self._averaged, self.encoder.network.parameters(), strict=True):
                average.lerp_(weight, 1 - kept)
        return float(loss.detach())

    def _batch(self, size: int) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Linear estimates with their variances, and the latents and coefficients that they are of."""
        rng, (all_latents,), (all_coefficients,) = self._streams["steps"], self._latents, self._coefficients
        chosen = torch.randint(len(all_latents), (size,), generator=rng)
        coefficients = all_coefficients[chosen]
        noise = torch.randn(coefficients.shape, generator=rng)
        estimates, variances = [], []
        for part, normal in zip(coefficients.chunk(GROUPS), noise.chunk(GROUPS), strict=True):
            estimate, variance = self._estimate(part, normal)
            estimates.append(estimate)
            variances.append(variance.expand_as(estimate))
        return (torch.cat(estimates), torch.cat(variances)), all_latents[chosen], coefficients

    def _estimate(self, coefficients: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """A linear estimate of coefficients and its error variances, for a random level or operator."""
        rng, encoder = self._streams["steps"], self.encoder
        if float(torch.rand((), generator=rng)) < WHITE:
            share = torch.rand(len(coefficients), 1, generator=rng)
            largest = (encoder.variances.sum() + encoder.rest) / 20
            variance = largest * torch.exp(share * math.log(20 * FINEST**2))
            kept = encoder.variances / (encoder.variances + variance)
            return kept * (coefficients + variance.sqrt() * normal), kept * variance
        operator = self._operators[int(torch.randint(len(self._operators), (), generator=rng))]
        return coefficients @ operator.gain + normal @ operator.spread, operator.variances
