"""Stops that can be deployed: which iterate of a fit to return, by the measurements and the iterates alone.

A network with more weights than pixels fits noise in the end. Published numbers are often those of the best iterate by
the truth, which nobody has who restores an image; `cs_lip.evaluation.oracle` measures how much is lost.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from cs_lip.recovery.problem import Problem

WINDOW = 100
"""Iterates over which the windowed variance is taken, as published."""

LATE = 0.9
"""The part of the iterations after which a best iterate means that more of them would be better still."""


class StopRule(ABC):
    """Watches the iterates of one image and keeps the best by its own criterion, lower being better.

    Attributes:
        best: the averaged image ``(1, *image_shape)`` of the lowest value so far; the latest before there is a value.
        iteration: when that was, counted from 1.
        value: that value; infinity before there is one.
        seen: how many iterates there were.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best: Tensor | None = None
        self.iteration = 0
        self.value = math.inf
        self.seen = 0

    @abstractmethod
    def judge(self, image: Tensor, average: Tensor) -> float:
        """The criterion of an iterate ``image`` and of the ``average`` of the latest; infinity where it has none."""

    def watch(self, image: Tensor, average: Tensor) -> bool:
        """Take in one more iterate, each ``(1, *image_shape)``; True where the fit may stop."""
        self.seen += 1
        value = self.judge(image, average)
        value = value if math.isfinite(value) else math.inf  # NaN, as of an image that diverged, is below nothing
        if value < self.value or self.value == math.inf:
            self.best, self.iteration, self.value = average.clone(), self.seen, value
        return self.satisfied()

    def satisfied(self) -> bool:
        """Whether the value did not fall for as long as the patience reaches."""
        return self.seen - self.iteration >= self.patience


class LastIterate(StopRule):
    """No early stop: without a value of any iterate, the latest is the best."""

    def judge(self, image: Tensor, average: Tensor) -> float:
        """See `StopRule`."""
        return math.inf


class HeldOut(StopRule):
    """The least misfit on measurements that the fit does not see, a mean ``rho(A x - y) / m`` over those.

    For a random part of the measurements it is, up to the noise, an unbiased estimate of the squared error there
    (cross validation: Boufounos, Duarte & Baraniuk 2007; of untrained networks: Ding, Qin, Jiang, Zhou & Zhu 2022,
    arXiv 2209.10675). It needs no noise level and serves every operator; the price is the measurements held out.

    Args:
        held: the problem of the held-out measurements of one image.
    """

    def __init__(self, patience: int, held: Problem) -> None:
        super().__init__(patience)
        self.held = held

    def judge(self, image: Tensor, average: Tensor) -> float:
        """See `StopRule`."""
        residual = self.held.residual(average, torch.zeros(1, dtype=torch.long, device=average.device))
        return float(self.held.misfit(residual)) / self.held.m


class CrossValidation(StopRule):
    """The least misfit on held-out measurements, averaged over fits that hold out different ones.

    With few measurements a tenth of them says little about where to stop; several tenths say more. See `HeldOut`. The
    iterates are stacked, ``(folds, *image_shape)``.

    Args:
        held: the held-out measurements of one image, a problem a fit.
    """

    def __init__(self, patience: int, held: Sequence[Problem]) -> None:
        super().__init__(patience)
        self.held = held

    def judge(self, image: Tensor, average: Tensor) -> float:
        """See `StopRule`."""
        first = torch.zeros(1, dtype=torch.long, device=average.device)
        misfits = [
            float(held.misfit(held.residual(one[None], first))) for held, one in zip(self.held, average, strict=True)
        ]
        return sum(misfits) / sum(held.m for held in self.held)


class Discrepancy(StopRule):
    """The first iterate that explains the measurements down to the stated noise (Morozov's discrepancy principle).

    The value is the mean squared residual over the noise variance; see `cs_lip.recovery.stopping.discrepancy_target`.

    Args:
        problem: of one image, with a noise above 0.
    """

    def __init__(self, patience: int, problem: Problem) -> None:
        super().__init__(patience)
        self.problem = problem
        self.explained = False

    def judge(self, image: Tensor, average: Tensor) -> float:
        """See `StopRule`."""
        which = torch.zeros(1, dtype=torch.long, device=average.device)
        residual = self.problem.residual(average, which)
        self.explained = bool(self.problem.explained(residual, which))
        return float(self.problem.variance(residual)) / self.problem.noise**2

    def satisfied(self) -> bool:
        """Whether the latest iterate explains them."""
        return self.explained


class WindowedVariance(StopRule):
    """The least variance of the iterates over a window of the latest W = 100 of them.

    With ``x_i`` the iterates, ``V_t = 1/W sum_{i = t-W+1 ... t} |x_i - mean of those|^2``: it falls while the image
    settles and rises once noise is fitted (Wang, Li, Zhuang, Chen, Liang & Sun, *Early Stopping for Deep Image Prior*,
    TMLR 2023, arXiv 2112.06074, algorithm 1, ES-WMV). It needs neither noise level nor measurements, and W images of
    memory. The value is ``V_t`` a pixel and channel.
    """

    def __init__(self, patience: int, window: int = WINDOW) -> None:
        super().__init__(patience)
        self.window = window
        self._held: Tensor | None = None
        self._sum: Tensor | None = None
        self._squares = 0.0

    def judge(self, image: Tensor, average: Tensor) -> float:
        """See `StopRule`."""
        flat = image.flatten().double()
        if self._held is None or self._sum is None:
            self._held = flat.new_zeros(self.window, len(flat), dtype=image.dtype)
            self._sum = torch.zeros_like(flat)
        place = (self.seen - 1) % self.window
        leaving = self._held[place].double()
        self._held[place] = image.flatten()
        self._sum += flat - leaving
        self._squares += float(flat.square().sum() - leaving.square().sum())
        if self.seen < self.window:
            return math.inf
        spread = self._squares / self.window - float((self._sum / self.window).square().sum())
        return spread / len(flat)
