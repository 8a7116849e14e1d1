"""Network-based projected gradient descent: an encoder projects onto the range of the generator."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.priors import Encoder
from cs_lip.recovery.latent_problem import LatentProblem, pose_latents
from cs_lip.recovery.latent_solver import Candidates, checked_restarts, drawn
from cs_lip.recovery.learned_start import learned_starts
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Found, Task
from cs_lip.recovery.trace import Trace

PHASE = "npgd"


@dataclass(frozen=True)
class ProjectedGradient:
    """Gradient steps on the image, each followed by the encoder and the generator in place of a projection.

    With the encoder ``E`` of the generator ``G`` and gain = ||A||_F^2 / n,

        x_{t+1} = G(E(w_t, s_t)) ,   w_t = x_t + (step / gain) A^H W (y - A x_t) ,   s_t = sqrt(rho / (gain m)) ,

    where ``rho`` is the fidelity's misfit of ``A x_t - y`` and ``W`` its weights: |A x_t - y|^2 and 1 for least
    squares. ``s_t`` is the standard deviation of ``w_t`` about the image for a random operator (`Encoder.forward`).
    There is no penalty on the latents.

    It departs from the paper in three places: it starts from the learned start and not from ``A^H y``; the encoder is
    told ``s_t``; and what comes back is the iterate of least misfit, since a learned projection is not exact and the
    last iterate need not be the best.

    It gets no closer than ``G(E(x))``, the encoder's image of the truth itself, and finds none exactly; a latent search
    from the same starts does. It is here for comparison with the literature.

    Cost: an iteration is one forward pass of the generator, one of the encoder, ``A`` and its adjoint; no derivatives.

    Source: Raj, Li & Bresler, GAN-based Projector for Faster Recovery with Convergence Guarantees in Linear Inverse
    Problems, ICCV 2019, section 3, algorithm 1 (NPGD).

    Attributes:
        step: the length of a gradient step, relative to 1 / gain.
        iterations: at most that many for a start.
        patience: iterations without a lower misfit after which a start is done.
        restarts: starts of each image; the first is the encoder's best guess.

    Raises:
        ValueError: a step that is no number above 0, or iterations or a patience below one.
    """

    step: float = 1.0
    iterations: int = 100
    patience: int = 10
    restarts: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise ValueError(f"the step must be a number above 0, got {self.step}; try 1")
        for name, value in (("iterations", self.iterations), ("patience", self.patience)):
            if value < 1:
                raise ValueError(f"the {name} must be at least 1, got {value}; try the default")

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: the task has no encoder, or one of another generator.
        """
        encoder, problem = task.required_encoder, pose_latents(task.problem, task.generator, 0.0)
        count = checked_restarts(self.restarts, task.restarts)
        latents, which = learned_starts(problem, encoder, count, task.seed)

        with task.trace.timed(PHASE), torch.no_grad():
            rows = self._descend(problem, encoder, latents, which, task.trace)
        return drawn(problem, rows.best(problem), {"restarts": count, "latent_penalty": problem.penalty})

    def _descend(
        self, problem: LatentProblem, encoder: Encoder, latents: Tensor, which: Tensor, trace: Trace
    ) -> Candidates:
        """The iterate of least misfit of every row."""
        best = latents.clone()
        least = which.new_full(which.shape, math.inf, dtype=latents.dtype)
        waited, alive = torch.zeros_like(which), torch.arange(len(which), device=which.device)
        for _ in range(self.iterations):
            images = problem.generator(latents)
            residual = problem.problem.residual(images, which[alive])
            trace.log(PHASE, residual, which[alive])
            misfit = problem.problem.misfit(residual)
            better = misfit < least[alive]
            best[alive[better]], least[alive[better]] = latents[better], misfit[better]
            waited[alive] = torch.where(better, 0, waited[alive] + 1)
            going = waited[alive] < self.patience
            alive = alive[going]
            if len(alive) == 0 or trace.cancelled:
                break
            latents = self._projected(problem.problem, encoder, images[going], residual[going]).to(latents)
        exhausted = waited < self.patience
        return Candidates(best, which, problem.residual(best, which), exhausted)

    def _projected(self, problem: Problem, encoder: Encoder, images: Tensor, residual: Tensor) -> Tensor:
        """``E(w_t, s_t)`` of every row."""
        weighted = problem.fidelity.weights(residual) * residual
        moved = images - self.step / problem.gain * problem.adjoint(weighted)
        level = (problem.misfit(residual) / (problem.gain * problem.m)).sqrt()
        latents: Tensor = encoder(moved.to(encoder.mean), level.to(encoder.mean))
        return latents
