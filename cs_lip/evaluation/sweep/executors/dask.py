"""The workers of a dask scheduler, by dask.distributed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.work import Outcome, State

PATIENCE = 10
"""Seconds within which a scheduler must answer."""


def connected(address: str) -> "Dask":
    """The executor of the scheduler at an address such as ``tcp://host:8786``.

    Raises:
        ValueError: dask.distributed is not installed, or nothing answers there within 10 seconds.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ValueError("dask.distributed is not installed; try pip install 'cs-lip[dask]'") from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(
            f"no dask scheduler answers at {address!r:.120} ({reason}); try the address that dask scheduler prints"
        ) from None
    return Dask(client)


@dataclass(frozen=True)
class Dask:
    """The workers of a scheduler; they need cs-lip, and the sweep's folder under the same path.

    Attributes:
        client: connected to it.
    """

    client: Any

    def __call__(self, work: Callable[[Cell], Outcome], cells: Sequence[Cell]) -> Iterator[Outcome]:
        """See `cs_lip.evaluation.sweep.executors`. Dask itself gives a cell whose worker died to another one, until
        ``distributed.scheduler.allowed-failures`` of them died with it."""
        from distributed import KilledWorker, as_completed
        from distributed.client import FutureCancelledError

        keys = {self.client.submit(work, cell, pure=False): cell.key for cell in cells}
        try:
            for future in as_completed(list(keys), loop=self.client.loop):
                try:
                    yield future.result()
                except (KilledWorker, FutureCancelledError) as error:
                    yield Outcome(keys[future], State.DIED, " ".join(str(error).split())[:200])
        finally:
            self.client.cancel(list(keys))
