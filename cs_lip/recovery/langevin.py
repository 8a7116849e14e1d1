"""The posterior over latents by Langevin sampling: slower than Laplace's approximation, and its check."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.uncertainty import Uncertainty, checked_latents, normal_latents
from cs_lip.seeding import stream

WANTED = 0.574
"""The acceptance rate at which MALA moves fastest in many dimensions (Roberts & Rosenthal 1998)."""

FIRST_STEP, PATIENCE = 1.65, 0.6
"""The first step is 1.65 k^(-1/6), that theory's for a normal target; it is corrected by ``i^(-0.6)`` at step i."""

MOST_KEPT = 1000
"""Samples of each chain that are drawn as images."""


@dataclass(frozen=True)
class Samples:
    """A Markov chain for every image.

    Attributes:
        uncertainty: mean and standard deviation of the images drawn.
        latents: ``(images, kept, *latent_shape)``, in the order of the chain.
        acceptance: ``(images,)``, the share of proposals that were accepted after the burn-in; 0.574 is best.
    """

    uncertainty: Uncertainty
    latents: Tensor
    acceptance: Tensor


def langevin(
    problem: LatentProblem, latents: Tensor, *, steps: int = 2000, burn_in: int = 500, seed: int = 0
) -> Samples:
    """Samples of the posterior of `cs_lip.recovery.uncertainty.laplace`, without its approximation.

    With the density ``p`` proportional to ``exp(-E(z))``, ``E`` as in `laplace`, and the covariance ``C = H^-1`` of
    Laplace's approximation at the start, a step proposes

        z' = z - (e^2 / 2) C dE/dz + e C^(1/2) u ,   u ~ N(0, I) ,

    and accepts it by Metropolis and Hastings, so that the chain's distribution is the posterior for every step size
    ``e``. The step size is tuned to an acceptance of `WANTED` while the chain burns in and then stays. The images run
    in one batch, one chain each. A chain stays in the mode that it starts in wherever the next is far away.

    Where only the direction of latents counts, a normal prior on the latents makes it uniform, so nothing changes.

    Cost: one forward-backward pass a step, one Jacobian in all, and the images of up to `MOST_KEPT` samples.

    Args:
        problem, latents: as for `laplace`.
        steps: after the burn-in; an independent sample takes about ``k^(1/3)`` of them.
        burn_in: steps before that.
        seed: of the proposals.

    Raises:
        ValueError: as `laplace`, or fewer than one step.

    Source: Roberts & Tweedie, Exponential convergence of Langevin distributions, Bernoulli 1996; preconditioned:
    Girolami & Calderhead, J. R. Statist. Soc. B 2011, section 5; the tuning: Andrieu & Thoms, Stat. Comput. 2008.
    """
    if steps < 1 or burn_in < 0:
        raise ValueError(
            f"expected at least 1 step and no negative burn-in, got {steps} and {burn_in}; try the default"
        )
    start = checked_latents(problem, latents)
    chain = _Chain(problem, torch.stack([normal.root for _, normal in normal_latents(problem, start)]), start, seed)
    for step in range(1, burn_in + 1):
        chain.advance(rate=step**-PATIENCE)
    thin, kept, accepted = math.ceil(steps / MOST_KEPT), [], torch.zeros_like(chain.log_step)
    for step in range(1, steps + 1):
        accepted += chain.advance(rate=0.0)
        if step % thin == 0:
            kept.append(chain.point)
    samples = torch.stack(kept, 1).to(start.dtype).reshape(len(start), len(kept), *start.shape[1:])
    means, deviations = zip(*(_moments(problem, rows) for rows in samples), strict=True)
    return Samples(Uncertainty(torch.stack(means), torch.stack(deviations)), samples, accepted / steps)


class _Chain:
    """The state of all images' chains; latents ``(images, k)`` in double precision."""

    def __init__(self, problem: LatentProblem, roots: Tensor, latents: Tensor, seed: int) -> None:
        core = problem.problem
        self._problem = replace(problem, penalty=core.noise**2 / core.gain)
        self._scale = core.gain / (2 * core.noise**2)
        self._shape, self._dtype = latents.shape, latents.dtype
        self._roots = roots
        self._which = torch.arange(len(latents), device=latents.device)
        self._rngs = [stream(seed, f"langevin/{image}") for image in range(len(latents))]
        self.log_step = torch.full((len(latents),), math.log(FIRST_STEP) - math.log(roots.shape[-1]) / 6).to(roots)
        self.point = latents.flatten(1).double()
        self._energy, self._drift = self._evaluate(self.point)

    def advance(self, rate: float) -> Tensor:
        """One step of every chain, whose size then moves by ``rate``: which chains accepted it, 1 or 0, ``(images,)``.

        In whitened coordinates ``v = C^(-1/2) (z' - z)``, forth it is ``e u - (e^2 / 2) d`` with ``d = C^(1/2) dE/dz``,
        and the proposal's density is that of ``u``.
        """
        size = self.log_step.exp()[:, None]
        k = self.point.shape[1]
        drawn = [torch.randn(k + 1, generator=rng, dtype=self.point.dtype) for rng in self._rngs]
        normal, lot = torch.stack(drawn).to(self.point).tensor_split((k,), dim=1)
        move = size * normal - size.square() / 2 * self._drift
        trial = self.point + self._colour(move)
        energy, drift = self._evaluate(trial)
        back = (-move + size.square() / 2 * drift) / size
        log_ratio = self._energy - energy + (normal.square().sum(1) - back.square().sum(1)) / 2
        log_ratio = torch.where(torch.isfinite(log_ratio), log_ratio, -torch.inf)
        chance = log_ratio.clamp(max=0).exp()
        accept: Tensor = torch.special.ndtr(lot[:, 0]) < chance
        self.point = torch.where(accept[:, None], trial, self.point)
        self._drift = torch.where(accept[:, None], drift, self._drift)
        self._energy = torch.where(accept, energy, self._energy)
        self.log_step = self.log_step + rate * (chance - WANTED)
        return accept.to(chance.dtype)

    def _colour(self, vectors: Tensor) -> Tensor:
        """``C^(1/2) v`` with ``C^(1/2) = L^-T``, where ``H = L L^T``."""
        coloured: Tensor = torch.linalg.solve_triangular(self._roots.mT, vectors[:, :, None], upper=True)
        return coloured[:, :, 0]

    def _evaluate(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """``E`` and ``C^(T/2) dE/dz``, the gradient in whitened coordinates."""
        latents = point.to(self._dtype).reshape(self._shape)
        residual, gradient = self._problem.gradient(latents, self._which)
        energy = self._scale * self._problem.objective(residual.double(), latents.double())
        slope = self._scale * gradient.flatten(1).double()
        whitened: Tensor = torch.linalg.solve_triangular(self._roots, slope[:, :, None], upper=False)
        return energy, whitened[:, :, 0]


def _moments(problem: LatentProblem, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every pixel over samples ``(kept, *latent_shape)``."""
    total = torch.zeros(problem.generator.image_shape, dtype=torch.float64, device=latents.device)
    squares = torch.zeros_like(total)
    with torch.no_grad():
        middle = problem.generator(latents[:1])[0].double()
        for part in torch.split(latents, problem.generator.rows_at_once):
            offset = problem.generator(part).double() - middle  # squares of small offsets lose no digits
            total += offset.sum(0)
            squares += offset.square().sum(0)
    mean = total / len(latents)
    deviation = (squares / len(latents) - mean.square()).clamp(min=0).sqrt()
    return (middle + mean).to(latents.dtype), deviation.to(latents.dtype)
