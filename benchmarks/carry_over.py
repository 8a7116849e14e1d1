"""Rows that earlier code measured, carried over to today's where a small run with both gives the same bits.

Run it with ``python benchmarks/carry_over.py COMMIT``, some ten minutes on two cores, where the commit is one whose
code measured the rows of ``tickets.py``, ``ticket_tuning.py`` and ``lip.py`` that are stored. Both versions run every
method of the three for a few steps. Rows of methods whose numbers are the same to the last bit go on under the hash of
today's code and tell in ``code`` which one measured them; the others stay with the old one, and are measured anew by
the next run of their benchmark. Times are carried over too, though bits say nothing of them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from results_files import appending, stored_entries

from cs_lip.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

METHOD_AT = {"tickets": 0, "lip": 2, "ticket_tuning": 2}
"""Which part of a cell's name says the method."""

SMALL_FINDING = {"rounds": 2, "steps": 3, "final_steps": 6, "learned_steps": 12, "batch": 4}
TUNED = ("search", "all", "ticket-0.2", "random-0.2", "shuffled-0.2", "layer-2", "last-1", "search-own-0.2", "own-0.2")

Run = dict[str, Any]


def small_runs(out: Path) -> dict[str, Run]:
    """What the benchmarks of the checkout in the working folder say: their configuration, and rows of a small run."""
    sys.path.insert(0, "benchmarks")
    return {"tickets": small_tickets(out), "lip": small_lip(out), "ticket_tuning": small_tuning(out)}


def small_tickets(out: Path) -> Run:
    import tickets
    from results_files import code_hash
    from ticket_methods import METHODS, Finding, finder

    from cs_lip.recovery import LatentSearch, LevenbergMarquardt

    searches = {
        "search": LatentSearch(restarts=10, last=None, refine=LevenbergMarquardt(3)),
        "own_search": LatentSearch(restarts=10, last=None),
    }
    scale = replace(tickets.QUICK, finding=Finding(**SMALL_FINDING), pictures=("astronaut",), draws=1, **searches)
    found = finder(scale.finding, out, code_hash(("priors", "tickets")))
    bench = tickets.Bench(scale, found, tickets.targets(found.dense, scale, 0), 0)
    rows = {"dense": tickets.measured_dense(bench)}
    rows |= {f"{method}/0.2/0": tickets.measured(bench, method, 0.2, 0) for method in METHODS}
    whole = replace(bench, scale=tickets.Scale(), seed=2026)
    return {"configuration": tickets.configuration(whole), "rows": rows}


def small_lip(out: Path) -> Run:
    import lip

    bench = lip.Bench(replace(lip.QUICK, iterations=60), 0, out / "lip")
    rows = {name: cell() for name, cell in lip.cells(bench).items()}
    return {"configuration": lip.configuration(lip.Scale(), 2026), "rows": rows}


def small_tuning(out: Path) -> Run:
    import ticket_tuning as tuning
    import torch
    from results_files import code_hash
    from ticket_methods import Finding, finder

    from cs_lip.recovery.tuning import Tuning

    scale = replace(
        tuning.QUICK, finding=Finding(**SMALL_FINDING), tuning=Tuning(iterations=40, folds=2), pictures=("astronaut",)
    )
    found = finder(scale.finding, out, code_hash(("priors", "tickets")))
    truth = torch.stack([tuning.picture(name, found.dense.image_shape).pixels for name in scale.pictures])
    bench = tuning.Bench(scale, found, truth, 0, out / "searches")
    rows = {f"500/0.05/{name}": tuning.measured(bench, 500, 0.05, name) for name in TUNED}
    whole = replace(bench, scale=tuning.DEFAULT, seed=2026)
    return {"configuration": tuning.configuration(whole), "rows": rows}


def method_of(benchmark: str, cell: str) -> str:
    """The method of a cell, without a number: the compacted channels' of one that times them."""
    parts = cell.split("/")
    method = parts[METHOD_AT[benchmark]] if len(parts) > METHOD_AT[benchmark] else cell
    method = "channels" if method == "speed" else "from" if method.startswith("from-") else method
    return method.rstrip("0123456789.").removesuffix("-")


def compared(benchmark: str, then: Run, now: Run) -> dict[str, bool]:
    """Whether all numbers of a method are the same in both runs, times aside; of every method that one of them made."""

    def numbers(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return None if row is None else {key: value for key, value in row.items() if "seconds" not in key}

    same: dict[str, bool] = {}
    for cell in then["rows"].keys() | now["rows"].keys():
        method, equal = method_of(benchmark, cell), numbers(then["rows"].get(cell)) == numbers(now["rows"].get(cell))
        same[method] = same.get(method, True) and equal
    return same


def carry(log: Path, benchmark: str, then: Run, now: Run) -> int:
    """Rewrite the lines of a log that go on under today's configuration; returns how many.

    Raises:
        click.ClickException: the two configurations differ in more than the code.
    """
    old, new = then["configuration"], now["configuration"]
    if other := [key for key in new if key != "code" and new[key] != old.get(key)]:
        raise click.ClickException(f"{benchmark} has another {other[0]} now, so its rows are of another benchmark")
    same = compared(benchmark, then, now)
    with appending(log):
        entries = list(stored_entries(log))
        there = {entry["cell"] for entry in entries if entry["configuration"] == new}
        carried = [
            entry
            for entry in entries
            if entry["configuration"] == old and entry["cell"] not in there
            if same.get(method_of(benchmark, entry["cell"]))
        ]
        for entry in carried:
            entry["row"].setdefault("code", old["code"])
            entry["configuration"] = new
        with atomic_path(log) as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    changed = ", ".join(sorted(method for method, equal in same.items() if not equal))
    click.echo(f"{benchmark}: {len(carried)} rows carried over; other numbers now: {changed or '-'}")
    return len(carried)


def started(checkout: Path, out: Path) -> subprocess.Popen[bytes]:
    """The small runs of a checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, __file__, "--into", str(out)], cwd=checkout, env=environment)


@click.command(help=__doc__)
@click.argument("commit", required=False)
@click.option("--into", type=click.Path(path_type=Path), hidden=True)
def main(commit: str | None, into: Path | None) -> None:
    if into is not None:
        into.mkdir()
        (into / "runs.json").write_text(json.dumps(small_runs(into)), encoding="utf-8")
        return
    if commit is None:
        raise click.UsageError("name the commit whose code measured the rows")
    with TemporaryDirectory() as folder:
        checkout = Path(folder) / "then"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=checkout, check=True)
        outs = [Path(folder) / name for name in ("rows-then", "rows-now")]
        runs = [started(*pair) for pair in zip((checkout, ROOT), outs, strict=True)]
        ended = [run.wait() for run in runs]
        if any(ended):
            raise click.ClickException("a small run failed, nothing was carried over")
        then, now = (json.loads((out / "runs.json").read_text(encoding="utf-8")) for out in outs)
    for benchmark in METHOD_AT:
        carry(RESULTS / f"{benchmark}.jsonl", benchmark, then[benchmark], now[benchmark])


if __name__ == "__main__":
    main()
