"""What a fit passed through on its way, for whoever knows the truth: its best image, which no stop can know."""

import math
from dataclasses import dataclass

from torch import Tensor

from cs_lip.evaluation.metrics import psnr


@dataclass(frozen=True)
class Peak:
    """The best of all iterations of one image, by the truth.

    Attributes:
        psnr_db: its PSNR; minus infinity before the first iteration.
        iteration: which one it was, counted from 1; 0 before the first.
    """

    psnr_db: float
    iteration: int


class OraclePeak:
    """Watches a recovery: ``recover(..., observe=OraclePeak(truth))``, then `peaks`.

    The peak belongs beside every row of an untrained or image-adaptive fit, since published numbers often are peaks;
    the row's own PSNR is that of a stop that could be deployed.

    Args:
        truth: ``(images, channels, height, width)`` in [0, 1].
    """

    def __init__(self, truth: Tensor) -> None:
        self._truth = truth
        self._seen = [0] * len(truth)
        self._peaks = [Peak(-math.inf, 0)] * len(truth)

    @property
    def peaks(self) -> tuple[Peak, ...]:
        """One an image."""
        return tuple(self._peaks)

    def __call__(self, images: Tensor, which: Tensor) -> None:
        """One more iteration: images ``(rows, channels, height, width)`` and the index of each, ``(rows,)``."""
        for image in set(which.tolist()):
            self._seen[image] += 1
        for image, row in zip(which.tolist(), images, strict=True):
            level = psnr(row, self._truth[image])
            if level > self._peaks[image].psnr_db:
                self._peaks[image] = Peak(level, self._seen[image])
