"""Data-free distillation: a sparse generator learns from the dense one, on latents that both draw from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cs_lip.priors.generator import Generator
from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import stream
from cs_lip.tickets.curvature import Loss
from cs_lip.tickets.norms import absorb_
from cs_lip.tickets.retraining import Level, Progress, Step, check_finite, cosine, unheard
from cs_lip.tickets.transfer import state_sha256

SMALLEST = 4
"""Pixels a side; a map of less than twice as many is not halved further."""

TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""Of the blur before a halving (Burt & Adelson 1983, with a = 3/8)."""

MOST_LATENTS = 2**14
"""In a step; the images of more would fill the memory of any machine."""


@dataclass(frozen=True)
class DistillationSettings:
    """How to distil.

    Attributes:
        batch: latents in a step.
        learning_rate: of Adam, falling to zero along a cosine.
        pyramid: weight of the Laplacian pyramid's L1.
        vjp: weight of the mismatch of vector-Jacobian products.
    """

    batch: int = 32
    learning_rate: float = 1e-3
    pyramid: float = 1.0
    vjp: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that make no training."""
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or not 1 <= self.batch <= MOST_LATENTS:
            raise ValueError(f"the batch must be a number from 1 to {MOST_LATENTS}, got {self.batch!r:.40}; try 32")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"the learning rate must be a number above 0, got {self.learning_rate}; try 0.001")
        for name in ("pyramid", "vjp"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"the weight {name} must be a number from 0 on, got {getattr(self, name)}; try 0")


class Distillation:
    """A `Trainer` that needs no data: the dense generator ``T`` teaches the sparse one ``S``.

    Minimised by Adam over the surviving weights of ``S``, in evaluation mode, is over a batch of fresh latents ``z``::

        |S(z) - T(z)|_1 / n + pyramid Lap(S(z) - T(z)) + vjp |J_S^T u - J_T^T u|^2 / |J_T^T u|^2

    where norms are over the whole batch and ``n`` counts its values, ``Lap`` is `pyramid_distance` and ``J^T u`` are
    the gradients of ``<G(z), u>`` by ``z`` for random images ``u``, from which a search of latents lives. Batch norms
    are absorbed afterwards (see `cs_lip.tickets.norms.absorb_`), so that magnitudes of weights mean the same after each
    training.

    Args:
        teacher: is used as it is folded, and not changed.
        settings: how.
    """

    def __init__(self, teacher: Generator, settings: DistillationSettings | None = None) -> None:
        self.teacher = teacher.fold()
        self.fingerprint = state_sha256(teacher)
        self.settings = DistillationSettings() if settings is None else settings

    @property
    def count(self) -> int:
        """See `Trainer`: one."""
        return 1

    def check(self, network: Prunable) -> None:
        """See `Trainer`."""
        _student(network, self.teacher)

    def train(self, network: Prunable, *, level: Level, seed: int, progress: Progress = unheard) -> Sequence[Prunable]:
        """See `Trainer`."""
        student = _student(network, self.teacher).eval().requires_grad_(True)
        rng = stream(seed, f"distillation/level-{level.index}")
        optimiser = torch.optim.Adam(student.parameters(), lr=self.settings.learning_rate)
        for done in range(level.steps):
            optimiser.param_groups[0]["lr"] = self.settings.learning_rate * cosine(level, done)
            loss = self.distance(student, rng)
            check_finite(float(loss.detach()), level, done + 1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            student.project_()
            progress(Step(level, done + 1, level.steps, float(loss.detach())))
        absorb_(student)
        return [student]

    def losses(self, seed: int) -> Sequence[Loss]:
        """See `Trainer`; each call of it draws another batch."""
        rng = stream(seed, "distillation/scores")
        return [lambda network: self.distance(_student(network, self.teacher).eval(), rng)]

    def distance(self, student: Generator, rng: torch.Generator) -> Tensor:
        """What is minimised, on one batch of latents from ``rng``; see the class."""
        latents = self.teacher.sample_latents(self.settings.batch, generator=rng)
        if self.settings.vjp:
            latents.requires_grad_()
        drawn = student(latents)
        with torch.set_grad_enabled(bool(self.settings.vjp)):
            taught = self.teacher(latents)
        difference: Tensor = drawn - taught.detach()
        loss: Tensor = difference.abs().mean() + self.settings.pyramid * pyramid_distance(difference)
        if not self.settings.vjp:
            return loss
        probe = torch.randn(drawn.shape, generator=rng).to(drawn.device, drawn.dtype)
        (own,) = torch.autograd.grad((drawn * probe).sum(), latents, create_graph=True)
        (given,) = torch.autograd.grad((taught * probe).sum(), latents)
        mismatch: Tensor = (own - given).square().sum() / given.square().sum()
        return loss + self.settings.vjp * mismatch


def pyramid_distance(difference: Tensor) -> Tensor:
    """The L1 norm of a Laplacian pyramid, ``sum_j mean |L_j|``, a scalar.

    ``L_j = G_j - up(G_{j+1})`` are the details between Gaussian pyramids' maps, of which the coarsest is kept as it is.
    Since a pyramid is linear, that of the difference of two images is the difference of theirs. Level ``j`` has
    ``4^-j`` of the pixels, so the means are the sums with weights ``4^j`` of Lap_1 (Bojanowski, Joulin, Lopez-Paz &
    Szlam, Optimizing the Latent Space of Generative Networks, ICML 2018, section 2, after Ling & Okada, Diffusion
    Distance, CVPR 2006), up to the factor of the image's size.

    Args:
        difference: of images, ``(batch, channels, height, width)``.
    """
    total = difference.new_zeros(())
    while min(difference.shape[-2:]) >= 2 * SMALLEST:
        coarse = _halved(difference)
        finer = functional.interpolate(coarse, difference.shape[-2:], mode="bilinear", align_corners=False)
        total = total + (difference - finer).abs().mean()
        difference = coarse
    return total + difference.abs().mean()


def agreement(generator: Generator, teacher: Generator, *, seed: int, draws: int = 256) -> float:
    """The PSNR in dB of one generator's images against the other's of the same latents, over all ``draws``."""
    latents = teacher.sample_latents(draws, generator=stream(seed, "agreement"))
    error = 0.0
    with torch.no_grad():
        for rows in torch.split(latents, teacher.rows_at_once):
            error += float((generator(rows) - teacher(rows)).double().square().sum())
    mean = torch.tensor(error / (draws * teacher(latents[:1]).numel()), dtype=torch.float64)
    return float(-10 * mean.log10())


def _halved(images: Tensor) -> Tensor:
    taps = images.new_tensor(TAPS)
    blur = torch.outer(taps, taps).expand(images.shape[1], 1, 5, 5)
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(padded, blur, stride=2, groups=images.shape[1])


def _student(network: Prunable, teacher: Generator) -> Generator:
    """The network as what the teacher can teach.

    Raises:
        ValueError: it does not draw the teacher's images from the teacher's latents.
    """
    shapes = (teacher.latent_shape, teacher.image_shape)
    if not isinstance(network, Generator) or (network.latent_shape, network.image_shape) != shapes:
        raise ValueError(
            f"distillation needs a generator from latents {shapes[0]} to images {shapes[1]}, as its teacher, got "
            f"{type(network).__name__}; try the generator that the teacher was made from"
        )
    return network
