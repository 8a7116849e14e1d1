"""``cs-lip sweep``: recovery error over measurements, noise, tickets and solvers, cell by cell."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from cs_lip.cli.exit_codes import INTERRUPTED
from cs_lip.cli.inputs import bad_input
from cs_lip.evaluation.statistics import Interval
from cs_lip.evaluation.store import PAGE_FILE
from cs_lip.evaluation.sweep.claims import HOLDS, Verdict, judge, stored_verdicts, write_verdicts
from cs_lip.evaluation.sweep.collect import collect
from cs_lip.evaluation.sweep.estimate import estimate
from cs_lip.evaluation.sweep.executors import NAMES, checked_workers, find_executor
from cs_lip.evaluation.sweep.folder import JOBS, SweepFolder
from cs_lip.evaluation.sweep.methods import Method
from cs_lip.evaluation.sweep.plan import Grid, Plan, expand, plan_to_table
from cs_lip.evaluation.sweep.plan_file import plan_from_table, plan_text, read_plan, ready_plan, ready_plans
from cs_lip.evaluation.sweep.run_cell import CLASSICAL, to_bytes
from cs_lip.evaluation.sweep.summary import Summary, summarise
from cs_lip.evaluation.sweep.sweep import Scan, compute, scan
from cs_lip.evaluation.sweep.table import Row
from cs_lip.evaluation.sweep.targets import pixels
from cs_lip.priors import load_generator
from cs_lip.recovery import DEFAULT_SOLVER

HELP = {
    "measurements": "Numbers of measurements, such as 20,50,100.",
    "operator": "gaussian, fourier, denoise, inpaint or super-resolve.",
    "ticket": "Tickets by name or file; bundled for all bundled ones, dense for the whole generator.",
    "solver": "As of cs-lip recover.",
    "images": "in-range:N, a bundled picture's name, a file, or a folder of pictures.",
    "noise": "Standard deviations on every real measurement.",
}
"""The options that make a plan; each takes several values, with commas between them or the option repeated."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False, metavar="[PLAN.TOML]")
@click.option("--plan", "name", metavar="NAME", help=f"A ready plan: {', '.join(ready_plans())}.")
@click.option("--quick", is_flag=True, help="The plan's small form, of minutes.")
@click.option("--measurements", "-m", multiple=True, help=HELP["measurements"])
@click.option("--operator", multiple=True, help=HELP["operator"])
@click.option("--ticket", multiple=True, help=HELP["ticket"])
@click.option("--solver", multiple=True, help=HELP["solver"])
@click.option("--images", multiple=True, help=HELP["images"])
@click.option("--noise", multiple=True, help=HELP["noise"])
@click.option("--seeds", type=int, help="How many operators, noises and starts.  [default: 1]")
@click.option("--restarts", type=int, help="Starts of an image in a search of latents.  [default: the solver's own]")
@click.option("--generator", help="A name (cs-lip generators), or a weight file.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder; the same command goes on where it ended.  [default: sweep-NAME of the plan]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Time a cell of each method, say how many there are and about how long all take; write nothing.",
)
@click.option("--executor", default=NAMES[0], show_default=True, help=f"{', '.join(NAMES)}: where cells are computed.")
@click.option("--workers", type=int, help="Cells at a time.  [default: as many as there are cores]")
@click.option("--scheduler", metavar="ADDRESS", help="Of dask, such as tcp://host:8786.")
def sweep(
    file: Path | None,
    name: str | None,
    quick: bool,
    out: Path | None,
    dry_run: bool,
    executor: str,
    workers: int | None,
    scheduler: str | None,
    **grid: Any,
) -> None:
    """Measure recovery error over a grid: images, operators, numbers of measurements, noise, tickets, solvers, seeds.

    The grid is a plan in a file, a ready one (--plan), or what the options say. Each cell of it leaves a file of rows
    in --out, and all rows are joined into sweep.h5 and rows.csv. Cells with rows are skipped: after Ctrl-C or a crash
    the same command goes on.

    \b
    Examples:
      cs-lip sweep --plan measurements --quick --out curve
      cs-lip sweep plan.toml --out curve --executor slurm --workers 100
      cs-lip sweep -m 50,100,200,500 --solver auto,lasso-dct --images in-range:20 --seeds 5 --out curve
      cs-lip sweep --plan density --dry-run
    """
    with bad_input():
        plan = _asked(file, name, quick, grid)
        expanded = expand(plan)
        for note in expanded.notes:
            click.echo(note, err=True)
        count = checked_workers((os.cpu_count() or 1) if workers is None else workers)
        folder = Path(f"sweep-{plan.name}") if out is None else out
        if dry_run:
            _tell_estimate(expanded, folder, count)
            return
        held = SweepFolder(folder)
        held.check()
        engine = find_executor(executor, count, scheduler, folder.resolve() / JOBS)
        stored = stored_verdicts(Path(plan.results)) if plan.results else []
        held.write_plan(plan_text(expanded.plan))
        _write_truths(held, expanded)
        before = scan(folder, expanded.cells)
        for sentence in before.damaged:
            click.echo(f"{sentence.partition('; try')[0]}; it is computed again.", err=True)
        _leave_behind(held, before)
        total = len(before.cells)
        failures, interrupted = {}, False
        with tqdm(total=total, initial=len(before.rows), desc="sweep", unit=" cells", disable=None) as bar:
            try:
                failures = compute(folder, before.unfinished, engine, lambda outcome: bar.update())
            except KeyboardInterrupt:
                interrupted = True
        after = collect(folder, expanded.cells, plan_to_table(expanded.plan))
        verdicts = judge(plan.claims, _rows(after), finished=not after.unfinished) + stored
        write_verdicts(folder, verdicts)
    _tell(after, failures, folder, verdicts)
    if interrupted:
        click.echo("Interrupted: the finished cells are kept, and the same command goes on from here.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)
    if failures:
        raise click.exceptions.Exit(1)


def _asked(file: Path | None, name: str | None, quick: bool, grid: dict[str, Any]) -> Plan:
    """The plan, from the one place that says it."""
    said = {key: value for key, value in grid.items() if value not in ((), None)}
    if (file is not None) + (name is not None) + bool(said) != 1:
        got = "none" if file is None and name is None else "more than one"
        raise ValueError(
            f"a sweep needs one plan, got {got}; try a file, or --plan measurements, or --measurements 50,100"
        )
    if file is not None:
        return read_plan(file, quick=quick)
    if name is not None:
        return ready_plan(name, quick=quick)
    if quick:
        raise ValueError("--quick is the small form of a plan; try it with --plan measurements, or without")
    return _from_options(said)


def _from_options(said: dict[str, Any]) -> Plan:
    lists = {key: _split(said[key]) for key in HELP if key in said}
    solvers, tickets = lists.pop("solver", [DEFAULT_SOLVER]), lists.pop("ticket", ["dense"])
    methods = [
        Method(solver, ticket="" if ticket == "dense" else ticket) for ticket, solver in _pairs(tickets, solvers)
    ]
    table: dict[str, Any] = {"images": lists.pop("images", ["in-range:4"])} | lists
    table["measurements"] = [_number(text, int, "--measurements") for text in lists.get("measurements", [])]
    if "noise" in lists:
        table["noise"] = [_number(text, float, "--noise") for text in lists["noise"]]
    table |= {key: said[key] for key in ("seeds", "restarts", "generator") if key in said}
    one = {"method": [{"solver": DEFAULT_SOLVER}]}
    return replace(plan_from_table(table | one, "of the options"), methods=tuple(methods))


def _pairs(tickets: list[str], solvers: list[str]) -> list[tuple[str, str]]:
    """Every ticket with every solver; those that need no prior once, without."""
    pairs = [(ticket, solver) for ticket in tickets for solver in solvers if solver not in CLASSICAL]
    return pairs + [("dense", solver) for solver in solvers if solver in CLASSICAL]


def _split(values: tuple[str, ...]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _number(text: str, kind: type[int] | type[float], option: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between them, got {text!r:.40}; try 50,100,200") from None


def _tell_estimate(grid: Grid, folder: Path, workers: int) -> None:
    found = scan(folder, grid.cells)
    left = len(found.unfinished)
    images = "1 image" if len(grid.images) == 1 else f"{len(grid.images)} images"
    click.echo(f"{len(found.cells)} cells of {images}, {len(found.cells) - left} finished.")
    if left == 0:
        return
    guess = estimate(found, lambda sentence: click.echo(sentence, err=True))
    beside = f", and {guess.unknown} cells whose time nobody knows" if guess.unknown else ""
    click.echo(
        f"The {left} others take about {_duration(guess.seconds / min(workers, left))}, by {workers} at a time{beside}."
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def _leave_behind(held: SweepFolder, before: Scan) -> None:
    """Tell of cells of other plans in the folder, and remove a page that would show other rows than the tables have."""
    others = held.finished() - before.cells.keys()
    if others:
        click.echo(f"Cells of other plans stay in {held.path}, but not in its tables: {len(others)}.", err=True)
    if before.unfinished or others:
        (held.path / PAGE_FILE).unlink(missing_ok=True)


def _write_truths(held: SweepFolder, grid: Grid) -> None:
    """The true images, those again that a file or a generator of the same name has changed since."""
    origins = {image.name: image.origin(grid.cells[0].generator_sha256) for image in grid.images}
    there = held.truths()
    missing = [image for image in grid.images if there.get(image.name) != origins[image.name]]
    if missing:
        generator = load_generator(grid.plan.generator)
        drawn = ((image.name, to_bytes(pixels([image], generator, grid.image_shape))[0]) for image in missing)
        held.write_truths(drawn, there | origins)


def _rows(found: Scan) -> list[Row]:
    return [row for key in found.rows for row in found.rows[key]]


def _tell(found: Scan, failures: dict[str, str], folder: Path, verdicts: Sequence[Verdict]) -> None:
    rows = _rows(found)
    for line in _table(summarise(rows)):
        click.echo(line)
    for verdict in verdicts:
        click.echo(f"{HOLDS[verdict.holds]}: {verdict.claim}. Asked: {verdict.asked}.")
        click.echo(f"  {verdict.measured}, by {verdict.by}" if verdict.measured else f"  {verdict.by}")
    for key, message in list(failures.items())[:5]:
        click.echo(f"The cell {key[:12]} failed: {message}", err=True)
    if len(failures) > 5:
        click.echo(f"So did {len(failures) - 5} others.", err=True)
    click.echo(f"{len(found.rows)} of {len(found.cells)} cells are finished; the {len(rows)} rows are in {folder}.")


def _table(summaries: list[Summary]) -> list[str]:
    """PSNR in dB with its interval, a line for each setting and method."""
    lines, before = [], None
    for each in summaries:
        at = each.setting
        if before != at:
            bad = f", outliers {at.outliers:g}, {at.fidelity}" if at.outliers or at.fidelity != "least-squares" else ""
            lines.append(f"{at.kind}, {at.operator}, m = {at.m}, noise {at.sigma:g}{bad}")
            before = at
        told = f"  {each.recoverer.label:<28} {each.psnr.estimate:6.2f} dB ({_span(each.psnr)})"
        lines.append(told if each.gain is None else f"{told}, {each.gain.estimate:+.2f} ({_span(each.gain)}) to dense")
    return lines


def _span(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "one value"
    return f"{interval.low:.2f} to {interval.high:.2f}"
