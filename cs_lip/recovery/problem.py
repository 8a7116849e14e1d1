"""The problem of recovery: which images explain the measurements?"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.operators.vectors import as_real, from_real
from cs_lip.priors import Generator
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.recovery.fidelity import Fidelity, LeastSquares
from cs_lip.recovery.stopping import discrepancy_target
from cs_lip.seeding import stream

GAIN_PROBES = 16

MOST_NOISE = 1e12
"""What float32 can still square and sum."""

HELD_OUT = 0.1
"""The fraction of the measurements that is held out where nobody asks for another."""

LEAST_HELD_OUT = 10
"""Held-out measurements; fewer say too little about the error of an image (its relative spread is sqrt(2 / count))."""

ENOUGH_HELD_OUT, MOST_SPLITS = 150, 5
"""Few held-out measurements judge badly, so splits are repeated until together they hold out so many, at most 5 times
(Monte Carlo cross validation, Picard & Cook 1984)."""


def held_out_fraction(m: int, usual: float = HELD_OUT) -> float:
    """The fraction of ``m`` measurements to hold out: the usual one, but no fewer than ten of them, and of fewer than
    twenty a half.
    """
    return max(usual, min(LEAST_HELD_OUT / m, 0.5))


def mean_gain(operator: LinearOperator, like: Tensor) -> float:
    """The factor by which ``A`` scales the energy of a random image, E|A u|^2 / E|u|^2 = ||A||_F^2 / n.

    It is 1 for a Gaussian operator of variance 1/m, m for one of variance 1, and about m/(2n) for subsampled Fourier.
    Estimated with normal probes from a fixed seed (Hutchinson 1990), to about one percent for some thousand
    measurements and a tenth for ten, so that the same latent penalty means the same for every operator.

    Args:
        like: whose device and real dtype the probes have.
    """
    rng = torch.Generator().manual_seed(0)
    dtype = torch.complex64 if operator.in_is_complex else torch.float32
    probes = torch.randn(GAIN_PROBES, *operator.in_shape, generator=rng, dtype=dtype)
    probes = probes.to(like.device, like.dtype.to_complex() if operator.in_is_complex else like.dtype)
    with torch.no_grad():
        return float(as_real(operator(probes), operator.out_shape).square().sum() / probes.abs().square().sum())


def beside(prior: Generator | UntrainedNetwork, measurements: Tensor) -> Tensor:
    """Measurements on the device and in the precision of a prior, complex ones too."""
    dtype = prior.dtype.to_complex() if measurements.is_complex() else prior.dtype
    return measurements.to(prior.device, dtype)


@dataclass(frozen=True)
class Problem:
    """Measurements of a batch of images, to be explained. Made by `pose`, which checks it.

    Solvers work on rows: ``images`` is ``(rows, *A.in_shape)`` and ``which`` says, for every row, the index of the
    image that it tries to explain. Residuals are vectors of real numbers, ``(rows, m)``: a complex measurement counts
    as two.

    Attributes:
        operator: ``A``.
        measurements: ``(images, m)``.
        noise: standard deviation of the noise on each of the m real numbers.
        gain: ``||A||_F^2 / n``, see `mean_gain`; |A u|^2 / gain estimates |u|^2 for every operator.
        fidelity: what residuals cost.
        rows: which of A's real measurements these are; None for all.
    """

    operator: LinearOperator
    measurements: Tensor
    noise: float
    gain: float
    fidelity: Fidelity
    rows: Tensor | None = None

    @property
    def images(self) -> int:
        """How many images are recovered."""
        return self.measurements.shape[0]

    @property
    def m(self) -> int:
        """Real measurements of each image."""
        return self.measurements.shape[1]

    def measure(self, images: Tensor) -> Tensor:
        """``A x`` as real vectors, ``(rows, m)``."""
        values = as_real(self.operator(images), self.operator.out_shape)
        return values if self.rows is None else values[:, self.rows]

    def residual(self, images: Tensor, which: Tensor) -> Tensor:
        """``A x - y``, ``(rows, m)``."""
        return self.measure(images) - self.measurements[which]

    def adjoint(self, vectors: Tensor) -> Tensor:
        """``A^H v`` as images, for real vectors ``(rows, m)``: the gradient of ``<A x, v>``."""
        if self.rows is not None:
            whole = vectors.new_zeros(len(vectors), self.operator.m)
            vectors = whole.index_copy(1, self.rows, vectors)
        return self.operator.adjoint(from_real(vectors, self.operator.out_shape, self.operator.out_is_complex))

    def misfit(self, residual: Tensor) -> Tensor:
        """What the residuals ``(rows, m)`` cost by the fidelity, ``(rows,)``."""
        return self.fidelity.misfit(residual)

    def variance(self, residual: Tensor) -> Tensor:
        """The mean squared residual over the measurements that the fidelity trusts, ``(rows,)``."""
        trusted = self.fidelity.trusted(residual)
        return (residual.square() * trusted).sum(1) / trusted.sum(1).clamp(min=1)

    def explained(self, residual: Tensor, which: Tensor) -> Tensor:
        """Whether each row's residual is at the noise: see `discrepancy_target`."""
        trusted = self.fidelity.trusted(residual)
        target = discrepancy_target(self.measurements[which], trusted, self.noise)
        return (residual.square() * trusted).sum(1) <= target

    def relative_residual(self, residual: Tensor, which: Tensor) -> Tensor:
        """|A x - y| / |y| of every row, over the measurements that the fidelity trusts."""
        trusted = self.fidelity.trusted(residual)
        size = (self.measurements[which].square() * trusted).sum(1)
        return ((residual.square() * trusted).sum(1) / size.clamp(min=1e-30)).sqrt()

    def split(self, fraction: float | None, generator: torch.Generator) -> tuple["Problem", "Problem"]:
        """The problem without a random part of its measurements, and that part: to fit to, and to judge by.

        A complex measurement stays whole. The error of an image on held-out measurements is, up to the noise, an
        unbiased estimate of its squared error for a random operator (cross validation: Boufounos, Duarte & Baraniuk
        2007).

        Args:
            fraction: of the measurements, that is held out; None for a tenth, but no fewer than ten measurements.
            generator: draws which.

        Raises:
            ValueError: the fraction is not inside (0, 1), or leaves fewer than ten measurements on either side.
        """
        if fraction is None:
            fraction = held_out_fraction(self.m)
        if not 0 < fraction < 1:
            raise ValueError(f"the held-out fraction must be between 0 and 1, got {fraction}; try 0.1")
        held = round(fraction * self.m)
        if min(held, self.m - held) < LEAST_HELD_OUT:
            raise ValueError(
                f"a held-out fraction of {fraction:g} splits {self.m} measurements into {self.m - held} and {held}, "
                f"expected at least {LEAST_HELD_OUT} on either side; try "
                + (f"{LEAST_HELD_OUT / self.m:.2g}" if self.m >= 2 * LEAST_HELD_OUT else "more measurements")
            )
        unit = 2 if self.operator.out_is_complex else 1
        order = torch.randperm(self.m // unit, generator=generator)
        chosen = torch.sort(order[: max(1, held // unit)]).values, torch.sort(order[max(1, held // unit) :]).values
        out, kept = ((unit * part[:, None] + torch.arange(unit)).flatten() for part in chosen)
        return self.take(kept), self.take(out)

    def splits(
        self, seed: int, fraction: float | None = None, count: int | None = None
    ) -> list[tuple["Problem", "Problem"]]:
        """Several of `split`, the same ones for all solvers, so that their misfits can be compared.

        Args:
            fraction: see `split`.
            count: how many; None for as many as hold out 150 measurements in all, and at most five.

        Raises:
            ValueError: as `split`.
        """
        first = self.split(fraction, stream(seed, "held-out/0"))
        if count is None:
            count = min(MOST_SPLITS, math.ceil(ENOUGH_HELD_OUT / first[1].m))
        return [first, *(self.split(fraction, stream(seed, f"held-out/{number}")) for number in range(1, count))]

    def take(self, chosen: Tensor) -> "Problem":
        """The problem of some of its measurements, by their places ``(count,)``."""
        chosen = chosen.to(self.measurements.device)
        rows = chosen if self.rows is None else self.rows[chosen]
        gain = self.gain * len(chosen) / self.m
        return replace(self, measurements=self.measurements[:, chosen], rows=rows, gain=gain)

    def only(self, which: Tensor) -> "Problem":
        """The problem of some of its images, by their indices ``(count,)``."""
        return replace(self, measurements=self.measurements[which])


def pose(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    noise: float = 0.0,
    fidelity: Fidelity | None = None,
) -> Problem:
    """Check and complete a `Problem`; see `cs_lip.recovery.recover` for the arguments and what it raises."""
    check_level("noise", noise)
    vectors = _checked_vectors(operator, measurements)
    gain = mean_gain(operator, vectors)
    if gain <= 0:
        raise ValueError("the operator maps every image to zero, so its measurements tell nothing; try another one")
    return Problem(operator, vectors, noise, gain, LeastSquares() if fidelity is None else fidelity)


def check_level(name: str, value: float) -> None:
    """Refuse a noise or a penalty that is no number from 0 on."""
    if not 0 <= value <= MOST_NOISE:
        raise ValueError(f"the {name} must be a number from 0 to {MOST_NOISE:g}, got {value}; try 0")


def _checked_vectors(operator: LinearOperator, measurements: Tensor) -> Tensor:
    """The measurements as ``(images, m)`` real numbers, refused where they do not belong to the operator."""
    shape = tuple(operator.out_shape)
    batched = measurements.unsqueeze(0) if tuple(measurements.shape) == shape else measurements
    if batched.dim() != len(shape) + 1 or tuple(batched.shape[1:]) != shape or len(batched) == 0:
        raise ValueError(
            f"measurements of shape {tuple(measurements.shape)} do not come from this operator, which gives {shape} "
            f"for one image; try (images, {', '.join(map(str, shape))})"
        )
    vectors = as_real(batched, shape)
    if vectors.shape[1] != operator.m:
        kinds = ("real", "complex") if batched.is_complex() else ("complex", "real")
        raise ValueError(
            f"the measurements are {kinds[1]}, but the operator gives {kinds[0]} ones; try y = A(x) of this operator"
        )
    bad = int((~torch.isfinite(vectors)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {vectors.numel()} measurements are NaN or infinite; try to drop them, with an operator that "
            "leaves those rows out"
        )
    return vectors
