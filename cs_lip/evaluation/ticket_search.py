"""Fits to measurements as what trains the networks of a search for tickets."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solution import Record
from cs_lip.recovery.solver import Task
from cs_lip.recovery.trace import Trace
from cs_lip.recovery.untrained_fit import Stop, UntrainedFit
from cs_lip.seeding import derive_seed, stream
from cs_lip.tickets.curvature import Loss
from cs_lip.tickets.retraining import Level, Progress, Step, check_finite, unheard


@dataclass(frozen=True)
class FitSettings:
    """How an untrained network is fitted at each level; see `cs_lip.recovery.untrained_fit.UntrainedFit`.

    Attributes:
        learning_rate: of Adam.
        stop: which iterate's weights are scored.
    """

    learning_rate: float = 0.01
    stop: Stop = "auto"


class Fits:
    """A `cs_lip.tickets.retraining.Trainer` that fits a copy of an untrained network to each picture's measurements.

    One picture makes single-image tickets, several one mask for all of them (multi-image tickets: Wu, Chen, Jiang &
    Wang, TMLR 2023, arXiv 2410.24187, section 3). The authors' code fits one network to all pictures at once by the sum
    of their errors, which is a fit to their mean; here every picture has a network, and the search averages the scores.

    Every picture has the same random input at all levels.

    Args:
        problems: the measurements of a picture each.
        settings: of each level.

    Raises:
        ValueError: there is no problem, or one of several pictures.
    """

    def __init__(self, problems: Sequence[Problem], settings: FitSettings | None = None) -> None:
        if not problems or any(problem.images != 1 for problem in problems):
            raise ValueError(
                f"a search needs measurements of one picture each, got {[problem.images for problem in problems]}; "
                "try a problem for each picture"
            )
        self.problems = tuple(problems)
        self.settings = FitSettings() if settings is None else settings

    @property
    def fingerprint(self) -> str:
        """See `cs_lip.tickets.retraining.Trainer`: of the measurements, what made them, and how their errors count."""
        digest = hashlib.sha256()
        for problem in self.problems:
            told = [_described(problem.operator), problem.noise, repr(problem.fidelity)]
            digest.update(json.dumps(told).encode())
            digest.update(problem.measurements.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def count(self) -> int:
        """See `cs_lip.tickets.retraining.Trainer`: as many as pictures."""
        return len(self.problems)

    def check(self, network: Prunable) -> None:
        """See `cs_lip.tickets.retraining.Trainer`; the stop must go with every picture's measurements."""
        for problem in self.problems:
            self._fit(1).check(problem, _untrained(network))

    def train(self, network: Prunable, *, level: Level, seed: int, progress: Progress = unheard) -> Sequence[Prunable]:
        """See `cs_lip.tickets.retraining.Trainer`: a network a picture, in their order.

        On the way to a point to rewind to, the fit ends with its last iterate, whatever would be chosen.
        """
        fit = self._fit(level.steps, None if level.steps == level.horizon else "last")
        total = len(self.problems) * level.steps

        def told(picture: int) -> Callable[[Record], None]:
            def tell(record: Record) -> None:
                done = picture * level.steps + record.iteration
                check_finite(record.relative_residual[0], level, record.iteration)
                progress(Step(level, done, total, record.relative_residual[0]))

            return tell

        return [
            fit.fitted(Task(problem, _untrained(network), _seed(seed, picture), Trace(problem, told(picture))))
            for picture, problem in enumerate(self.problems)
        ]

    def _fit(self, steps: int, stop: Stop | None = None) -> UntrainedFit:
        """The solver that trains, with the stop of the settings unless there is another."""
        settings = self.settings
        return UntrainedFit(steps, settings.learning_rate, stop=settings.stop if stop is None else stop)

    def losses(self, seed: int) -> Sequence[Loss]:
        """See `cs_lip.tickets.retraining.Trainer`: what each picture's fit minimises, at its input."""
        return [partial(self._misfit, seed, picture) for picture in range(self.count)]

    def _misfit(self, seed: int, picture: int, network: Prunable) -> Tensor:
        prior, problem = _untrained(network), self.problems[picture]
        inputs = prior.sample_input(generator=stream(_seed(seed, picture), "input/0"))
        cost = problem.misfit(problem.residual(prior(inputs), torch.zeros(1, dtype=torch.long))).sum()
        return cost / (problem.gain * problem.operator.n)


def _described(operator: LinearOperator) -> object:
    """Its recipe, or of an operator that has none what can be said."""
    try:
        return operator.recipe()
    except ValueError:
        return repr(operator)


def _seed(seed: int, picture: int) -> int:
    return derive_seed(seed, f"fits/picture-{picture}")


def _untrained(network: Prunable) -> UntrainedNetwork:
    if not isinstance(network, UntrainedNetwork):
        raise ValueError(
            f"a fit to measurements needs an untrained network, got {type(network).__name__}; try the prior 'skip'"
        )
    return network
