"""`recover`: from measurements to images."""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.priors import Generator
from cs_lip.recovery.adam import Adam
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.lbfgs import LBFGS
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.problem import Problem, pose
from cs_lip.recovery.solution import Recovery
from cs_lip.recovery.solver import Solver
from cs_lip.recovery.trace import Progress, Trace
from cs_lip.seeding import stream

SOLVERS: dict[str, Callable[[], Solver]] = {
    "latent-search": LatentSearch,
    "csgm": lambda: Adam(steps=1000, learning_rate=0.1, decay=False),
    "adam": Adam,
    "lbfgs": LBFGS,
    "levenberg-marquardt": LevenbergMarquardt,
}
"""The solvers by name; the first is the default."""

DEFAULT_SOLVER = next(iter(SOLVERS))


def recover(
    operator: LinearOperator,
    measurements: Tensor,
    generator: Generator,
    *,
    solver: str | Solver = DEFAULT_SOLVER,
    restarts: int | None = None,
    noise: float = 0.0,
    latent_penalty: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Recovery:
    """Images in the generator's range that explain the measurements ``y = A x + noise``.

    Minimises, for every image on its own, f(z) = |A G(z) - y|^2 / gain + penalty |z|^2 from several random starts,
    where gain = ||A||_F^2 / n makes the first term an estimate of the squared image error for every operator. The best
    start is chosen by the measurements alone: one that explains them, else the lowest f. Source: Bora, Jalal, Price &
    Dimakis, Compressed Sensing using Generative Models, ICML 2017, eq. 3 and section 6.1.

    Args:
        operator: ``A``, on images of the generator's shape.
        measurements: ``y``, ``(images, *A.out_shape)``, or ``A.out_shape`` for one image.
        generator: ``G``; it is folded and frozen here, the caller's own is left alone.
        solver: a name of `SOLVERS`, or a solver with settings of one's own such as ``Adam(steps=300)``.
        restarts: starts for every image; by default the solver's own number.
        noise: standard deviation of the noise on every real measurement, in the units of ``y``; it says when the
            measurements count as explained (`cs_lip.recovery.stopping.discrepancy_target`).
        latent_penalty: weight of |z|^2. By default max(2.5e-4, noise^2 / gain): CSGM's value, or the Bayesian one for
            noise above it, and 0 for a generator with ``sphere`` geometry; `LevenbergMarquardt` then relaxes it as the
            residual falls. A number is kept as it is.
        seed: of the random starts; same seed, same result.
        progress: called with a `Record` after every iteration.

    Returns:
        A `Recovery`; a search that fails says so in its status and raises nothing.

    Raises:
        ValueError: shapes that do not fit, measurements that are not finite, an unknown solver, a negative noise or
            penalty, a penalty on the latents of a sphere, fewer than one restart, or a seed that is no non-negative
            integer.
    """
    problem = pose(operator, measurements, generator, noise=noise, latent_penalty=latent_penalty)
    name, chosen = _chosen(solver)
    count = chosen.restarts if restarts is None else restarts
    if count < 1:
        raise ValueError(f"the restarts must be at least 1, got {count}; try {chosen.restarts}")
    latents, which = random_starts(problem, count, seed)
    trace = Trace(problem, progress)
    found = chosen.solve(problem, latents, which, trace).best(problem)
    with torch.no_grad():
        images = problem.generator(found.latents).contiguous()
    return Recovery(
        images=images,
        latents=found.latents,
        relative_residual=tuple(problem.relative_residual(found.energy, found.which).tolist()),
        status=found.status(problem),
        history=tuple(trace.history),
        timings={**trace.timings, "total": trace.seconds()},
        configuration=_configuration(name, chosen, count, seed, problem),
    )


def random_starts(problem: Problem, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` prior draws for every image, as rows: image i's starts do not depend on how many images there are."""
    latents = [
        problem.generator.sample_latents(count, generator=stream(seed, f"latents/{image}"))
        for image in range(problem.images)
    ]
    which = torch.arange(problem.images, device=problem.measurements.device).repeat_interleave(count)
    return torch.cat(latents), which


def _configuration(name: str, solver: Solver, restarts: int, seed: int, problem: Problem) -> dict[str, object]:
    return {
        "solver": name,
        "solver_settings": asdict(solver),  # type: ignore[call-overload]
        "restarts": restarts,
        "seed": seed,
        "noise": problem.noise,
        "latent_penalty": problem.penalty,
    }


def _chosen(solver: str | Solver) -> tuple[str, Solver]:
    if not isinstance(solver, str):
        return type(solver).__name__, solver
    if solver not in SOLVERS:
        raise ValueError(f"there is no solver {solver!r}; try one of {', '.join(SOLVERS)}")
    return solver, SOLVERS[solver]()
