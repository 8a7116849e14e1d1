"""Jobs of a Slurm cluster, by submitit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.work import Outcome, State

LARGEST_ARRAY = 1000
"""Jobs of an array: Slurm takes 1001 by default (``MaxArraySize``)."""

MINUTES = 240
"""What a job is given; one that is not done by then, or is preempted, is put back into the queue."""


def check_installed() -> None:
    """Refuse to go on without submitit.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("submitit is not installed; try pip install 'cs-lip[slurm]'") from None


@dataclass(frozen=True)
class Requeued:
    """Work that submitit puts back into the queue when its time is up or it is preempted."""

    work: Callable[[Cell], Outcome]

    def __call__(self, cell: Cell) -> Outcome:
        """The work."""
        return self.work(cell)

    def checkpoint(self, cell: Cell) -> Any:
        """Called by submitit in the job that ends: a cell has no state worth keeping, it begins again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, cell)


@dataclass(frozen=True)
class Slurm:
    """Job arrays, a job a cell and a core a job. Other wishes, such as a partition, go into Slurm's environment
    variables (``SBATCH_PARTITION``).

    Attributes:
        folder: for submitit's files, seen by all nodes.
        workers: jobs that run at a time.
        cluster: submitit's name of where they run; ``local`` is this machine, for trying things out.
    """

    folder: Path
    workers: int
    cluster: str = "slurm"

    def __call__(self, work: Callable[[Cell], Outcome], cells: Sequence[Cell]) -> Iterator[Outcome]:
        """See `cs_lip.evaluation.sweep.executors`.

        Raises:
            ValueError: there is no Slurm here.
        """
        for start in range(0, len(cells), LARGEST_ARRAY):
            yield from self._array(Requeued(work), cells[start : start + LARGEST_ARRAY])

    def _array(self, work: Requeued, cells: Sequence[Cell]) -> Iterator[Outcome]:
        import submitit
        from submitit.helpers import as_completed

        try:
            executor = submitit.AutoExecutor(self.folder, cluster=self.cluster)
            executor.update_parameters(
                name="cs-lip", timeout_min=MINUTES, cpus_per_task=1, slurm_array_parallelism=self.workers
            )
            jobs = executor.map_array(work, cells)
        except (RuntimeError, submitit.core.utils.FailedJobError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"Slurm took no jobs ({reason}); try it where sbatch works, or --executor processes"
            ) from None
        keys = {job.job_id: cell.key for job, cell in zip(jobs, cells, strict=True)}
        ended = False
        try:
            for job in as_completed(jobs, poll_frequency=1):
                fault = job.exception()
                yield job.result() if fault is None else Outcome(keys[job.job_id], State.DIED, _last_line(fault))
            ended = True
        finally:
            if not ended:
                for job in jobs:
                    job.cancel(check=False)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
