"""How a sweep scales: 100,000 finished cells are planned, looked through and collected, and two workers against one.

Run it with ``python benchmarks/sweep.py``. It prints a table and writes it to ``sweep.md``, with every number behind it
in ``sweep.json``. The rows of the 100,000 cells are made up; the workers compute real cells.
"""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from machine import described, machine, peak_bytes
from results_files import write_results

from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.collect import collect
from cs_lip.evaluation.sweep.executors.processes import Processes
from cs_lip.evaluation.sweep.folder import SweepFolder, cell_text
from cs_lip.evaluation.sweep.methods import Method
from cs_lip.evaluation.sweep.plan import Plan, expand, plan_to_table
from cs_lip.evaluation.sweep.sweep import compute, scan
from cs_lip.evaluation.sweep.table import Row, read_rows

NAME = "sweep"
MEASUREMENTS = tuple(range(20, 1020, 20))
GOAL_SECONDS, GOAL_BYTES, GOAL_SPEEDUP = 60, 2**30, 1.6

Numbers = dict[str, Any]


def large_plan(cells: int) -> Plan:
    """Of one image, so that a cell has a row."""
    noise, methods = (0.0, 0.01), (Method("lasso-dct"), Method("tv"))
    seeds = max(1, cells // (len(MEASUREMENTS) * len(noise) * len(methods)))
    return Plan(methods, ("in-range:1",), MEASUREMENTS, noise=noise, seeds=seeds, name="large")


def made_up(cell: Cell) -> Row:
    """A row that nobody measured."""
    error = 1 / (cell.m + cell.seed)
    return Row(
        image=cell.images[0].name,
        kind=cell.images[0].kind,
        operator=cell.operator,
        m=cell.m,
        n=12288,
        sigma=cell.sigma,
        snr_db=float("nan"),
        outliers=0.0,
        prior="",
        ticket="",
        density=float("nan"),
        criterion="",
        solver=cell.solver,
        fidelity=cell.fidelity,
        seed=cell.seed,
        status="converged",
        mse=error,
        psnr=10 * error,
        ssim=error,
        oracle_psnr=float("nan"),
        relative_residual=error,
        iterations=cell.m,
        seconds=error,
        cell=cell.key,
        versions="",
    )


def fill(folder: Path, cells: int) -> None:
    """The files of all cells but the last; without the flush of each that a crash would ask for."""
    held, told = SweepFolder(folder), versions()
    for cell in expand(large_plan(cells)).cells[:-1]:
        path = held.cell_file(cell.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(cell_text(cell, [made_up(cell)], told, 1.0), encoding="utf-8")


def go_through(folder: Path, cells: int) -> Numbers:
    """What `cs-lip sweep` does around its cells when it goes on from where it ended."""
    began = time.perf_counter()
    grid = expand(large_plan(cells))
    planned = time.perf_counter()
    left = len(scan(folder, grid.cells).unfinished)
    scanned = time.perf_counter()
    collect(folder, grid.cells, plan_to_table(grid.plan))
    collected = time.perf_counter()
    assert left == 1
    return {
        "cells": len(grid.cells),
        "plan": planned - began,
        "scan": scanned - planned,
        "collect": collected - scanned,
        "read": _seconds_to_read(folder, len(grid.cells) - 1),
    }


def _seconds_to_read(folder: Path, rows: int) -> float:
    began = time.perf_counter()
    assert len(read_rows(folder)) == rows
    return time.perf_counter() - began


def workers_seconds(workers: int, cells: int) -> float:
    """Of a sweep of equal cells by that many workers, with the start of their processes."""
    plan = Plan((Method("tv"),), ("in-range:1",), (500,), seeds=cells, name="workers")
    grid = expand(plan)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = scan(Path(folder), grid.cells)
        assert not compute(Path(folder), found.unfinished, Processes(workers), lambda outcome: None)
        return time.perf_counter() - began


def measured_apart(arguments: list[str]) -> Numbers:
    """What a fresh process of this script measures."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    found: Numbers = json.loads(done.stdout)
    return found


def judged(value: float, goal: float, *, at_least: bool = False) -> str:
    return "met" if (value >= goal if at_least else value <= goal) else "**missed**"


def table(rows: Numbers, config: Numbers, command: str) -> str:
    large, total = rows["large"], sum(rows["large"][step] for step in ("plan", "scan", "collect"))
    speedup = rows["one_worker"] / rows["two_workers"]
    software, hardware = config["versions"], config["machine"]
    return "\n".join(
        [
            f"| {large['cells']:,} cells | measured | goal |",
            "| --- | ---: | --- |",
            f"| plan | {large['plan']:.1f} s | |",
            f"| look through what is finished | {large['scan']:.1f} s | |",
            f"| collect | {large['collect']:.1f} s | |",
            f"| the three together | {total:.1f} s | {GOAL_SECONDS} s, {judged(total, GOAL_SECONDS)} |",
            f"| peak memory | {rows['peak_bytes'] / 2**30:.2f} GiB | 1 GiB, {judged(rows['peak_bytes'], GOAL_BYTES)} |",
            f"| read the table | {large['read']:.1f} s | |",
            f"| two workers over one | {speedup:.2f} times as fast | {GOAL_SPEEDUP}, "
            f"{judged(speedup, GOAL_SPEEDUP, at_least=True)} |",
            "",
            f"- The workers' cells: {config['worker_cells']} of total variation, one image each; one worker "
            f"{rows['one_worker']:.1f} s, two {rows['two_workers']:.1f} s, with the start of their processes.",
            f"- {described(hardware, software)} Made by `{command}`.",
            "",
        ]
    )


@click.command(help=__doc__)
@click.option("--cells", type=click.IntRange(200), default=100_000, show_default=True, help="A multiple of 200.")
@click.option("--worker-cells", type=click.IntRange(2), default=16, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
@click.option("--go-through", "apart", type=click.Path(path_type=Path), hidden=True, help="Measure this folder alone.")
def main(cells: int, worker_cells: int, out: Path, apart: Path | None) -> None:
    if apart is not None:
        click.echo(json.dumps(go_through(apart, cells)))
        return
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), cells)
        arguments = ["--go-through", name, "--cells", str(cells)]
        rows: Numbers = {"large": measured_apart(arguments), "peak_bytes": peak_bytes([__file__, *arguments])}
    rows |= {"one_worker": workers_seconds(1, worker_cells), "two_workers": workers_seconds(2, worker_cells)}
    config = {"cells": cells, "worker_cells": worker_cells, "machine": machine(), "versions": versions()}
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    text = table(rows, config, command)
    write_results(out, NAME, {"command": command, "configuration": config, "rows": rows}, text)
    click.echo(text)


if __name__ == "__main__":
    main()
