"""What the tests of sweeps share: a plan whose cells take milliseconds, and numbers to compare."""

from dataclasses import asdict
from pathlib import Path

import torch
from helpers import TINY_WIDTHS, tiny_generator
from safetensors.torch import save_file

from cs_lip.evaluation.sweep.collect import collect
from cs_lip.evaluation.sweep.executors.local import local
from cs_lip.evaluation.sweep.methods import Method
from cs_lip.evaluation.sweep.plan import Grid, Plan, expand, plan_to_table
from cs_lip.evaluation.sweep.sweep import compute, scan
from cs_lip.evaluation.sweep.table import Row, read_rows


def tiny_weights(folder: Path, widths: tuple[int, ...] = TINY_WIDTHS) -> str:
    """A weight file of an untrained generator, of images (3, 16, 16) from 8 latents where nothing else is said."""
    path = folder / "tiny.safetensors"
    state = tiny_generator(widths).state_dict()
    save_file({name: value for name, value in state.items() if "num_batches" not in name}, path)
    return str(path)


def tiny_plan(weights: str, **changes: object) -> Plan:
    """Orthogonal matching pursuit of two draws and a picture: 12 cells of some milliseconds."""
    plan: dict[str, object] = {
        "methods": (Method("omp"),),
        "images": ("in-range:2", "astronaut"),
        "measurements": (10, 20, 40),
        "noise": (0.01,),
        "seeds": 2,
        "generator": weights,
        "name": "tiny",
    }
    return Plan(**(plan | changes))  # type: ignore[arg-type]


def run_here(folder: Path, grid: Grid) -> list[Row]:
    """The rows of a sweep that nothing disturbed."""
    assert compute(folder, scan(folder, grid.cells).unfinished, local, lambda outcome: None) == {}
    collect(folder, grid.cells, plan_to_table(grid.plan))
    return read_rows(folder)


def numbers(rows: list[Row]) -> list[str]:
    """All of the rows but their wall times, such that NaN equals NaN and floats are compared bit for bit."""
    return [repr({name: value for name, value in asdict(row).items() if name != "seconds"}) for row in rows]


def tiny_grid(folder: Path, **changes: object) -> Grid:
    """The cells of `tiny_plan`, its generator written to a folder."""
    torch.set_num_threads(1)
    return expand(tiny_plan(tiny_weights(folder), **changes))
