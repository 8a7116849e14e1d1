"""The running log of a recovery: history, timings, progress for whoever watches, and the wish to stop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import Tensor

from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solution import Record

Progress = Callable[[Record], None]
Cancel = Callable[[], bool]
Observe = Callable[[Tensor, Tensor], None]


class Trace:
    """Collects a `Record` an iteration and the wall time of each phase, and calls ``progress`` with every record.

    Solvers ask between iterations whether they are ``cancelled``, and if so return the best so far.
    """

    def __init__(
        self,
        problem: Problem,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.history: list[Record] = []
        self.timings: dict[str, float] = {}
        self._problem = problem
        self._progress = progress
        self._cancel = cancel
        self._observe = observe
        self._began = time.perf_counter()
        self._iterations: dict[str, int] = {}

    @property
    def cancelled(self) -> bool:
        """Whether the caller wants the best so far and nothing more."""
        return self._cancel is not None and self._cancel()

    def log(self, phase: str, residual: Tensor, which: Tensor) -> None:
        """Record one iteration: the residuals ``(rows, m)`` of the rows at hand and the images they belong to."""
        self.note(phase, self._problem.relative_residual(residual, which), which)

    def note(self, phase: str, relative_residual: Tensor, which: Tensor) -> None:
        """As `log`, of relative residuals ``(rows,)`` on whichever measurements the phase looks at."""
        best = [math.nan] * self._problem.images
        for value, image in zip(relative_residual.tolist(), which.tolist(), strict=True):
            if math.isnan(best[image]) or value < best[image]:
                best[image] = value
        self._iterations[phase] = self._iterations.get(phase, 0) + 1
        record = Record(phase, self._iterations[phase], time.perf_counter() - self._began, tuple(best))
        self.history.append(record)
        if self._progress is not None:
            self._progress(record)

    def observe(self, images: Tensor, which: Tensor) -> None:
        """Show whoever watches the images ``(rows, *A.in_shape)`` that this iteration could end with, and whose they
        are; nothing comes back from there."""
        if self._observe is not None:
            self._observe(images.detach(), which)

    def timed(self, phase: str) -> AbstractContextManager[None]:
        """Add the wall time of the block to ``phase``."""
        return self._timed(phase)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[phase] = self.timings.get(phase, 0.0) + time.perf_counter() - began

    def of(self, which: Tensor, problem: Problem | None = None, phase: str | None = None) -> "Trace":
        """The same log for whoever works on some of the images only, ``(count,)``, and numbers these from 0.

        Args:
            problem: theirs, where it is another one than this trace's, as of some of the measurements.
            phase: under which all is logged, whatever they call it.
        """
        return _Part(self, which, self._problem.only(which) if problem is None else problem, phase)

    def seconds(self) -> float:
        """Wall time since the recovery began."""
        return time.perf_counter() - self._began


class _Part(Trace):
    """See `Trace.of`."""

    def __init__(self, whole: Trace, which: Tensor, problem: Problem, phase: str | None) -> None:
        super().__init__(problem)
        self.history, self.timings = whole.history, whole.timings
        self._whole, self._which, self._phase = whole, which, phase

    @property
    def cancelled(self) -> bool:
        return self._whole.cancelled

    def note(self, phase: str, relative_residual: Tensor, which: Tensor) -> None:
        self._whole.note(self._phase or phase, relative_residual, self._which[which])

    def observe(self, images: Tensor, which: Tensor) -> None:
        self._whole.observe(images, self._which[which])

    def timed(self, phase: str) -> AbstractContextManager[None]:
        return self._whole.timed(self._phase or phase)

    def seconds(self) -> float:
        return self._whole.seconds()
