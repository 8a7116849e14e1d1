"""How long a sweep will take."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.run_cell import run_cell
from cs_lip.evaluation.sweep.sweep import Scan

TIMING_SECONDS = 60.0
"""After so long no further image is timed."""

Kind = tuple[str, str, str, str]


@dataclass(frozen=True)
class Estimate:
    """Of the cells that are not finished.

    Attributes:
        seconds: of one worker, for those that could be estimated.
        unknown: how many cells could not.
    """

    seconds: float
    unknown: int


def estimate(found: Scan, tell: Callable[[str], None]) -> Estimate:
    """The seconds an image that finished cells took, by method and kind of image; where none is finished, an image of
    the first such cell is recovered to see, until `TIMING_SECONDS` are over, and not kept.

    Args:
        found: what is finished.
        tell: called with a sentence before an image is timed.
    """
    known: dict[Kind, list[float]] = defaultdict(list)
    for key, spent in found.seconds.items():
        cell = found.cells[key]
        known[_kind(cell)].append(spent / len(cell.images))
    began, total, unknown = time.perf_counter(), 0.0, 0
    for cell in found.unfinished.values():
        kind = _kind(cell)
        if kind not in known and time.perf_counter() - began < TIMING_SECONDS:
            tell(f"Timing {' '.join(filter(None, kind))} ...")
            before = time.perf_counter()
            try:
                run_cell(replace(cell, images=cell.images[:1]))
            except Exception as error:  # as in the sweep, which goes on with the other cells
                tell(f"It fails: {error!s:.300}")
                known[kind] = []
            else:
                known[kind].append(time.perf_counter() - before)
        if known.get(kind):
            total += fmean(known[kind]) * len(cell.images)
        else:
            unknown += 1
    return Estimate(total, unknown)


def _kind(cell: Cell) -> Kind:
    return (*cell.method, cell.images[0].kind)
