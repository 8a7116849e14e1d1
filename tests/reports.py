"""What the tests of reports share: a sweep that was really run, with its truths and its plan."""

from pathlib import Path

from helpers import tiny_generator
from sweeps import run_here, tiny_grid

from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.run_cell import to_bytes
from cs_lip.evaluation.sweep.targets import pixels

IMAGES, COUNTS, ROWS = 3, (10, 20, 40), 18
"""What `tiny_sweep` has."""


def tiny_sweep(folder: Path) -> Path:
    """The folder of `sweeps.tiny_plan`, run to its end: one method, 3 images, 3 numbers of measurements, 2 seeds."""
    weights, swept = folder / "weights", folder / "sweep"
    weights.mkdir()
    grid = tiny_grid(weights)
    run_here(swept, grid)
    held = SweepFolder(swept)
    held.write_plan("seeds = 2\n")
    truths = to_bytes(pixels(grid.images, tiny_generator(), (3, 16, 16)))
    names = [image.name for image in grid.images]
    held.write_truths(zip(names, truths, strict=True), dict.fromkeys(names, "tiny"))
    return swept
