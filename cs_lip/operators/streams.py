"""Counter-based random streams: the seed, the kind of draw and a block's index decide its numbers, nothing else."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is for; its number is part of the format, so never change or reuse one."""

    FIRST = 0
    """Gaussian entries, and the frequencies of Fourier's uniform and centre patterns."""
    GAMMA = 1
    SIGNS = 2
    SPARSE_ROWS = 3
    SPARSE_SIGNS = 4
    SUBSET = 5
    INPUT_SIGNS = 6
    KERNEL = 7
    LOG_NORMAL = 8
    STUDENT = 9
    LINES = 10


def philox(seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    """Block ``block`` of a stream of Philox (Salmon et al. 2011), which starts without drawing those before it.

    The stream's number is the highest of the counter's four words, which no block is long enough to reach.
    """
    counter = np.array([0, 0, 0, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, block], dtype=np.uint64), counter=counter))
