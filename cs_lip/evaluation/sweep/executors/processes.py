"""Processes on this machine, by joblib."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.executors import WorkerLost
from cs_lip.evaluation.sweep.work import Outcome


@dataclass(frozen=True)
class Processes:
    """Worker processes of one thread each.

    Attributes:
        workers: their number.
    """

    workers: int

    def __call__(self, work: Callable[[Cell], Outcome], cells: Sequence[Cell]) -> Iterator[Outcome]:
        """See `cs_lip.evaluation.sweep.executors`. One worker that dies takes the pool with it.

        Raises:
            WorkerLost: one did.
        """
        ended = False
        try:
            with parallel_config("loky", n_jobs=self.workers, inner_max_num_threads=1):
                # Cells take seconds, so none is handed out before a worker asks.
                engine = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
                yield from engine(delayed(work)(cell) for cell in cells)
            ended = True
        except BrokenProcessPool as error:
            raise WorkerLost(str(error).partition("\n")[0]) from None
        finally:
            if not ended:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)
