"""The default: a latent search, and beyond it what held-out measurements recommend."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.recovery.baselines import Lasso, TotalVariation
from cs_lip.recovery.fidelity import LeastSquares
from cs_lip.recovery.image_adaptive import ImageAdaptive
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.linear_estimate import LinearEstimate
from cs_lip.recovery.problem import LEAST_HELD_OUT
from cs_lip.recovery.solver import Found, Note, Solver, Task
from cs_lip.recovery.tuning import in_range
from cs_lip.recovery.untrained_fit import UntrainedFit

FEW = 4 * LEAST_HELD_OUT
"""Below so many measurements what could be held out is too much of them, and says too little."""


@dataclass(frozen=True)
class Auto:
    """Chooses, for every image, from the measurements alone.

    With a generator, a latent search comes first. An image that it explains down to the noise, with at least as many
    measurements as latents, is in the generator's range and finished: nothing could improve on it but by fitting noise.
    For the others the generator's weights are tuned to the measurements (`ImageAdaptive`), and the same measurements
    are fitted by total variation, which knows no faces but anything with edges; the one with the smaller error on
    held-out measurements is the result. A difference within the error of that comparison decides for the generator.
    With fewer than 40 measurements none are held out, and the best linear estimate is the result, or without an encoder
    that of the search.

    Without any prior, the lasso in wavelets competes with total variation; an untrained network is fitted by
    `UntrainedFit`. Every image's note says what was ``chosen`` and the ``reason``.

    Cost: that of the solvers it tries.

    Attributes:
        search: of latents, where there is an encoder; most of its starts are for images that the learned ones miss.
        unaided: of latents, where there is no encoder, so that random starts must find the image.
        beyond: the solver of images beyond the range, from what ``search`` found; its own does not run.
        few: for fewer than 40 measurements, where there is an encoder.
        rivals: classical solvers, best known first; only the first beside a generator.
        untrained: the solver of untrained networks.
    """

    search: Solver = field(default_factory=lambda: LatentSearch(restarts=30, last=None, refine=LevenbergMarquardt(20)))
    unaided: Solver = field(default_factory=LatentSearch)
    beyond: ImageAdaptive = field(default_factory=ImageAdaptive)
    few: Solver = field(default_factory=LinearEstimate)
    rivals: tuple[Solver, ...] = (TotalVariation(), Lasso(transform="wavelet"))
    untrained: Solver = field(default_factory=UntrainedFit)

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`."""
        if isinstance(task.prior, UntrainedNetwork):
            return _because(self.untrained.recover(task), "untrained", "the prior is an untrained network")
        if task.prior is None:
            return self._best(task, {_name(rival): rival.recover(task) for rival in self.rivals})
        few = f"fewer than {FEW} measurements leave none to judge by"
        if task.problem.m < FEW and task.encoder is not None:
            return _because(self.few.recover(task), "linear-estimate", few)
        if task.problem.m >= FEW:
            self.beyond.tuning.splits(task)  # now, since the search takes its time
        search = self.unaided if task.encoder is None else self.search
        start = search.recover(task)
        if task.problem.m < FEW or task.trace.cancelled:
            return _because(start, "latent-search", few if task.problem.m < FEW else "it was interrupted")
        found = _because(start, "latent-search", "it explains the measurements down to the noise")
        which = torch.nonzero(~in_range(task, start)).flatten()
        return _put(found, which, self._beyond(task.only(which), _rows(start, which))) if len(which) else found

    def _beyond(self, task: Task, start: Found) -> Found:
        """The result for images that are not known to be in the generator's range."""
        tried = {"image-adaptive": self.beyond.improved(task, start)}
        if isinstance(task.problem.fidelity, LeastSquares) and not task.trace.cancelled:
            tried[_name(self.rivals[0])] = self.rivals[0].recover(task)
        return self._best(task, tried)

    def _best(self, task: Task, tried: dict[str, Found]) -> Found:
        """Image by image the one with the least held-out misfit; the first unless another is better beyond chance."""
        names, first = list(tried), next(iter(tried.values()))
        result = first
        for image in range(task.problem.images):
            misfits = [_misfit(found.notes[image]) for found in tried.values()]
            handicap = 1 + math.sqrt(2 / max(1, first.notes[image].get("held_out", 1)))
            best = min(range(len(names)), key=lambda place: misfits[place] * (handicap if place else 1))
            told = ", ".join(f"{name} {misfit:.3g}" for name, misfit in zip(names, misfits, strict=True))
            reason = f"the mean squared misfit of held-out measurements: {told}"
            row = _because(_rows(tried[names[best]], torch.tensor([image])), names[best], reason)
            result = _put(result, torch.tensor([image]), row)
        return result


def _name(solver: Solver) -> str:
    return f"lasso-{solver.transform}" if isinstance(solver, Lasso) else "tv"


def _misfit(note: Note) -> float:
    value = note.get("held_out_misfit")
    return math.inf if value is None or math.isnan(value) else float(value)


def _because(found: Found, chosen: str, reason: str) -> Found:
    """The same with what was chosen, and why, in every note."""
    notes = found.notes or tuple({} for _ in found.status)
    return replace(found, notes=tuple({"chosen": chosen, "reason": reason} | note for note in notes))


def _rows(found: Found, which: Tensor) -> Found:
    """What was found for some of the images."""
    chosen = which.tolist()
    return replace(
        found,
        images=found.images[which],
        residual=found.residual[which],
        status=tuple(found.status[index] for index in chosen),
        latents=None if found.latents is None else found.latents[which],
        notes=tuple(found.notes[index] for index in chosen) if found.notes else (),
    )


def _put(found: Found, which: Tensor, rows: Found) -> Found:
    """What was found, with some images replaced; latents stay those of the search."""
    images, residual = found.images.clone(), found.residual.clone()
    images[which], residual[which] = rows.images.to(images), rows.residual.to(residual)
    status, notes = list(found.status), list(found.notes)
    for place, index in enumerate(which.tolist()):
        status[index], notes[index] = rows.status[place], rows.notes[place]
    return replace(found, images=images, residual=residual, status=tuple(status), notes=tuple(notes))
