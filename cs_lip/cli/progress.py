"""The progress bar of a recovery."""

import math
import statistics
from types import TracebackType

from tqdm import tqdm

from cs_lip.recovery import Record


class ProgressBar:
    """Iterations so far, the phase and the median relative residual, on standard error; silent when that is no
    terminal."""

    def __init__(self) -> None:
        self._bar = tqdm(desc="recover", unit=" iterations", leave=False, disable=None)

    def update(self, record: Record) -> None:
        """Show one more iteration."""
        residuals = [value for value in record.relative_residual if not math.isnan(value)]
        if residuals:
            self._bar.set_postfix_str(f"{record.phase}, residual {statistics.median(residuals):.1e}", refresh=False)
        self._bar.update()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
