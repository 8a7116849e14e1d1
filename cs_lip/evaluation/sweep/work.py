"""What a worker does with a cell, in whichever process an executor runs it."""

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.run_cell import run_cell


class State(StrEnum):
    """How a worker left a cell."""

    FINISHED = "finished"
    BUSY = "busy"
    FAILED = "failed"
    UNWRITABLE = "unwritable"
    DIED = "died"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        key: of the cell.
        state: ``busy``: another process computes it; ``failed``: computing it raised an error; ``unwritable``: its
            files could not be written; ``died``: its worker was lost.
        message: of the error; empty without one.
    """

    key: str
    state: State
    message: str = ""


@dataclass(frozen=True)
class Work:
    """Computes a cell and writes its files, unless they are there or another process is at it.

    The worker writes, not who started it: when that dies, what workers finish is not lost. Workers on other machines
    need the same folder.

    Attributes:
        folder: of the sweep, an absolute path.
    """

    folder: Path

    def __call__(self, cell: Cell) -> Outcome:
        """What became of the cell; errors are told, not raised, so that every executor carries them alike."""
        folder, key = SweepFolder(self.folder), cell.key
        try:
            with folder.claimed(key) as mine:
                if not mine:
                    return Outcome(key, State.BUSY)
                if _finished(folder, key):
                    return Outcome(key, State.FINISHED)
                return _computed(folder, cell)
        except OSError as error:
            return Outcome(key, State.UNWRITABLE, f"{error.filename or self.folder}: {error.strerror or error}")


def _finished(folder: SweepFolder, key: str) -> bool:
    try:
        folder.read(key)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _computed(folder: SweepFolder, cell: Cell) -> Outcome:
    began = time.perf_counter()
    try:
        result = run_cell(cell)
    except Exception as error:  # whatever a solver raises is this cell's end, and no reason to stop the others
        reason = " ".join(str(error).split())[:300]
        return Outcome(
            cell.key, State.FAILED, reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"
        )
    folder.write(cell, result, versions(), time.perf_counter() - began)
    return Outcome(cell.key, State.FINISHED)
