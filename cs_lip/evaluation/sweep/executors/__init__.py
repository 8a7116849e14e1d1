"""Where the cells of a sweep are computed: one small adapter for each engine.

An executor is a callable ``(work, cells) -> outcomes``. It yields the outcomes in any order, as the cells end. A cell
whose worker was lost has the state ``died``, or, where that ends the engine, `WorkerLost` is raised and the cells
without an outcome may be given to it again. To close the iterator stops the engine.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.work import Outcome

Executor = Callable[[Callable[[Cell], Outcome], Sequence[Cell]], Iterator[Outcome]]

NAMES = ("processes", "local", "dask", "slurm")
"""The executors by name; the first is the default."""


class WorkerLost(Exception):
    """A worker died, and the engine with it."""


def checked_workers(workers: int) -> int:
    """How many cells are computed at a time.

    Raises:
        ValueError: fewer than one.
    """
    if workers < 1:
        raise ValueError(f"a sweep needs at least 1 worker, got {workers}; try --workers 2")
    return workers


def find_executor(name: str, workers: int, scheduler: str | None, jobs: Path) -> Executor:
    """The executor of that name.

    Args:
        name: of `NAMES`.
        workers: how many cells are computed at a time; the workers of a dask scheduler are its own matter.
        scheduler: the address of dask's.
        jobs: a folder for the files of slurm's jobs, which is not touched before there are some.

    Raises:
        ValueError: fewer than one worker, a scheduler where there can be none, that is missing or does not answer, or a
            library that is not installed.
    """
    if name not in NAMES:
        raise ValueError(f"there is no executor {name!r:.40}; try one of {', '.join(NAMES)}")
    checked_workers(workers)
    if (scheduler is None) == (name == "dask"):
        which = "needs" if scheduler is None else "takes no"
        raise ValueError(f"the executor {name} {which} --scheduler; try --executor dask --scheduler ADDRESS")
    if name == "local":
        from cs_lip.evaluation.sweep.executors.local import local

        return local
    if name == "processes":
        from cs_lip.evaluation.sweep.executors.processes import Processes

        return Processes(workers)
    if name == "dask":
        from cs_lip.evaluation.sweep.executors.dask import connected

        return connected(scheduler or "")
    from cs_lip.evaluation.sweep.executors.slurm import Slurm, check_installed

    check_installed()
    return Slurm(jobs, workers)
