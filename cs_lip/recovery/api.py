"""`recover`: from measurements to images."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.priors import Encoder, Generator
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.recovery.adam import Adam
from cs_lip.recovery.auto import Auto
from cs_lip.recovery.baselines import Lasso, OrthogonalMatchingPursuit, TotalVariation
from cs_lip.recovery.fidelity import Fidelity
from cs_lip.recovery.image_adaptive import ImageAdaptive
from cs_lip.recovery.intermediate_layers import IntermediateLayers
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.lbfgs import LBFGS
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.linear_estimate import LinearEstimate
from cs_lip.recovery.npgd import ProjectedGradient
from cs_lip.recovery.problem import beside, pose
from cs_lip.recovery.solution import Recovery, Status
from cs_lip.recovery.solver import Found, Solver, Task
from cs_lip.recovery.sparse_deviation import SparseDeviation
from cs_lip.recovery.trace import Cancel, Observe, Progress, Trace
from cs_lip.recovery.untrained_fit import UntrainedFit

SOLVERS: dict[str, Callable[[], Solver]] = {
    "auto": Auto,
    "latent-search": LatentSearch,
    "csgm": lambda: Adam(steps=1000, learning_rate=0.1, decay=False),
    "adam": Adam,
    "lbfgs": LBFGS,
    "levenberg-marquardt": LevenbergMarquardt,
    "image-adaptive": ImageAdaptive,
    "intermediate-layers": IntermediateLayers,
    "sparse-deviation": SparseDeviation,
    "npgd": ProjectedGradient,
    "linear-estimate": LinearEstimate,
    "lasso-dct": Lasso,
    "lasso-wavelet": lambda: Lasso(transform="wavelet"),
    "omp": OrthogonalMatchingPursuit,
    "tv": TotalVariation,
    "untrained": UntrainedFit,
}
"""The solvers by name; the first is the default."""

DEFAULT_SOLVER = next(iter(SOLVERS))


def recover(
    operator: LinearOperator,
    measurements: Tensor,
    prior: Generator | UntrainedNetwork | None = None,
    *,
    solver: str | Solver = DEFAULT_SOLVER,
    fidelity: Fidelity | None = None,
    restarts: int | None = None,
    noise: float = 0.0,
    latent_penalty: float | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    observe: Observe | None = None,
) -> Recovery:
    """Images that explain the measurements ``y = A x + noise``, by a prior or by a classical model of images.

    What is minimised is each solver's own matter and stands in its docstring; a search of latents minimises, for every
    image on its own, f(z) = rho(A G(z) - y) / gain + penalty |z|^2, where gain = ||A||_F^2 / n makes the first term an
    estimate of the squared image error for every operator. Choices between starts, solvers and stops are made by the
    measurements alone. Source: Bora, Jalal, Price & Dimakis, Compressed Sensing using Generative Models, ICML 2017,
    eq. 3 and section 6.1.

    Args:
        operator: ``A``, on images of the prior's shape.
        measurements: ``y``, ``(images, *A.out_shape)``, or ``A.out_shape`` for one image.
        prior: a generator or an untrained network; the caller's own is left alone. None for solvers that need neither.
        solver: a name of `SOLVERS`, or a solver with settings of one's own such as ``Adam(steps=300)``.
        fidelity: ``rho``, what residuals cost; least squares by default. See `cs_lip.recovery.fidelity`.
        restarts: starts for every image; by default the solver's own number.
        noise: standard deviation of the noise on every real measurement, in the units of ``y``; it says when the
            measurements count as explained (`cs_lip.recovery.stopping.discrepancy_target`).
        latent_penalty: weight of |z|^2. By default max(2.5e-4, noise^2 / gain): CSGM's value, or the Bayesian one for
            noise above it, and 0 for a generator with ``sphere`` geometry; `LevenbergMarquardt` then relaxes it as the
            residual falls. A number is kept as it is.
        encoder: of the generator, for learned starts (`cs_lip.priors.load_start`): the solvers that search latents by
            default find an image in range several times faster with one.
        seed: of all that is random; same seed, same result.
        progress: called with a `Record` after every iteration.
        cancel: asked between iterations; once it says True the best images so far come back, with status
            ``interrupted``.
        observe: called after every iteration of the solvers that fit images one by one, with the images
            ``(rows, *A.in_shape)`` that it could end with and the index of each, ``(rows,)``. It never influences the
            result: for whoever knows the truth, `cs_lip.evaluation.oracle.OraclePeak`.

    Returns:
        A `Recovery`; a search that fails says so in its status and raises nothing.

    Raises:
        ValueError: shapes that do not fit, measurements that are not finite, an unknown solver or one that needs
            another prior, a negative noise or penalty, a penalty on the latents of a sphere, fewer than one restart,
            or a seed that is no non-negative integer.
    """
    if prior is not None:
        measurements = beside(prior, measurements)
    problem = pose(operator, measurements, noise=noise, fidelity=fidelity)
    name, chosen = _chosen(solver)
    trace = Trace(problem, progress, cancel, observe)
    task = Task(problem, prior, seed, trace, restarts, latent_penalty, encoder)
    with trace.timed("total"):
        found = chosen.recover(task)
    every = torch.arange(problem.images, device=problem.measurements.device)
    return Recovery(
        images=found.images,
        latents=found.latents,
        relative_residual=tuple(problem.relative_residual(found.residual, every).tolist()),
        status=_status(found, interrupted=trace.cancelled),
        notes=found.notes or tuple({} for _ in range(problem.images)),
        history=tuple(trace.history),
        timings=trace.timings,
        configuration=_configuration(name, chosen, task) | found.settings,
    )


def _configuration(name: str, solver: Solver, task: Task) -> dict[str, object]:
    fidelity = task.problem.fidelity
    return {
        "solver": name,
        "solver_settings": _plain(asdict(solver)),  # type: ignore[call-overload]
        "fidelity": {"kind": type(fidelity).__name__, **asdict(fidelity)},  # type: ignore[call-overload]
        "restarts": task.restarts,
        "seed": task.seed,
        "noise": task.problem.noise,
        "latent_penalty": task.latent_penalty,
    }


def _plain(value: Any) -> Any:
    """Settings as JSON has them: tensors by their shape and the SHA-256 of their bytes."""
    if isinstance(value, Tensor):
        digest = hashlib.sha256(value.cpu().contiguous().numpy().tobytes()).hexdigest()
        return {"shape": list(value.shape), "sha256": digest}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _status(found: Found, *, interrupted: bool) -> tuple[Status, ...]:
    return tuple(
        Status.INTERRUPTED if interrupted and status is not Status.CONVERGED else status for status in found.status
    )


def _chosen(solver: str | Solver) -> tuple[str, Solver]:
    if not isinstance(solver, str):
        return type(solver).__name__, solver
    if solver not in SOLVERS:
        raise ValueError(f"there is no solver {solver!r}; try one of {', '.join(SOLVERS)}")
    return solver, SOLVERS[solver]()
