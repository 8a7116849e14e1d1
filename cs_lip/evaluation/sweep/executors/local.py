"""The cells one after another, in this process."""

from collections.abc import Callable, Iterator, Sequence

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.work import Outcome


def local(work: Callable[[Cell], Outcome], cells: Sequence[Cell]) -> Iterator[Outcome]:
    """See `cs_lip.evaluation.sweep.executors`."""
    return map(work, cells)
