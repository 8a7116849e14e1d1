"""The coordinator: gives unfinished cells to an executor until all are finished or have failed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.executors import Executor, WorkerLost
from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.table import Row
from cs_lip.evaluation.sweep.work import Outcome, State, Work

ATTEMPTS = 3
"""How many workers may die with a cell before it is given up."""

PAUSE = 0.5
"""Seconds between two looks at cells that another coordinator computes."""


@dataclass(frozen=True)
class Scan:
    """What is finished of a plan's cells.

    Attributes:
        cells: those of the plan by key, in its order.
        rows: of the finished cells, by key.
        seconds: that they took, by key.
        damaged: a sentence on each file that could not be read.
    """

    cells: Mapping[str, Cell]
    rows: Mapping[str, tuple[Row, ...]]
    seconds: Mapping[str, float]
    damaged: tuple[str, ...]

    @property
    def unfinished(self) -> dict[str, Cell]:
        """The cells without rows."""
        return {key: cell for key, cell in self.cells.items() if key not in self.rows}


def scan(folder: Path, cells: Sequence[Cell]) -> Scan:
    """Read the finished ones among a plan's cells; a damaged file counts as unfinished."""
    held, damaged = SweepFolder(folder), []
    wanted = {cell.key: cell for cell in cells}
    rows, seconds = {}, {}
    for key in wanted:
        try:
            stored = held.read(key)
        except FileNotFoundError:
            continue
        except ValueError as error:
            damaged.append(str(error))
            continue
        rows[key], seconds[key] = stored.rows, stored.seconds
    return Scan(wanted, rows, seconds, tuple(damaged))


def compute(
    folder: Path, cells: Mapping[str, Cell], executor: Executor, ended: Callable[[Outcome], None]
) -> dict[str, str]:
    """Compute cells and write their rows.

    Another coordinator may work on the same folder: a cell that it has claimed is waited for.

    Args:
        folder: of the sweep.
        cells: unfinished ones by key.
        executor: see `cs_lip.evaluation.sweep.executors`.
        ended: called with the last outcome of every cell.

    Returns:
        What went wrong with the cells that failed, by key.

    Raises:
        ValueError: the folder cannot be written; what was finished is kept.
    """
    work, pending = Work(folder.resolve()), dict(cells)
    deaths: Counter[str] = Counter()
    failures: dict[str, str] = {}
    suspects: dict[str, Cell] = {}
    while pending:
        # A cell that was at hand when a worker died is computed alone, so that the next death tells which one it was.
        chosen = [next(iter(suspects.values()))] if suspects else list(pending.values())
        busy = 0
        for outcome in _outcomes(folder, executor, work, chosen):
            if outcome.state is State.UNWRITABLE:
                raise ValueError(
                    f"{outcome.message:.300}; what is finished is kept, try the same command once there is room, or "
                    "another --out"
                )
            if outcome.state is State.BUSY:
                busy += 1
                continue
            if outcome.state is State.DIED:
                deaths[outcome.key] += 1
                suspects[outcome.key] = pending[outcome.key]
                if deaths[outcome.key] < ATTEMPTS:
                    continue
            if outcome.state is not State.FINISHED:
                failures[outcome.key] = outcome.message
            suspects.pop(outcome.key, None)
            del pending[outcome.key]
            ended(outcome)
        if busy == len(chosen):
            time.sleep(PAUSE)
    return failures


def _outcomes(folder: Path, executor: Executor, work: Work, cells: Sequence[Cell]) -> Iterator[Outcome]:
    """Those of the executor; where it ends with a worker, the cells that were at hand count as ``died``."""
    open_keys = {cell.key for cell in cells}
    try:
        for outcome in executor(work, cells):
            open_keys.discard(outcome.key)
            yield outcome
    except WorkerLost as lost:
        held = SweepFolder(folder)
        left = [cell.key for cell in cells if cell.key in open_keys]
        # Where no claim was left behind the worker died before it began; the first cell then stands for all of them.
        for key in [key for key in left if held.abandoned(key)] or left[:1]:
            yield Outcome(key, State.DIED, f"its worker died {ATTEMPTS} times ({lost!s:.120})")
