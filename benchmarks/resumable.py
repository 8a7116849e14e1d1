"""The command line of benchmarks that have many cells, go on where they were stopped, and may run a few cells alone."""

import re
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from machine import machine
from results_files import Row, measured_rows

Main = Callable[..., None]
Table = Callable[[dict[str, Row], str], str]


def resumable(doc: str, full: str) -> Callable[[Main], click.Command]:
    """Make a function with the arguments ``full, quick, figure_only, only, seed, out`` the command of a benchmark.

    Args:
        doc: its help.
        full: what ``--full`` does.
    """
    options = (
        click.option("--full", is_flag=True, help=full),
        click.option("--quick", is_flag=True, help="Tiny: the numbers mean nothing."),
        click.option("--figure-only", is_flag=True, help="Draw the figure of the stored results, and measure nothing."),
        click.option(
            "--only",
            metavar="PATTERN",
            help="Measure only cells whose whole name matches this regular expression; the table has all stored ones.",
        ),
        click.option("--seed", type=click.IntRange(0), default=2026, show_default=True),
        click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results"),
    )

    def commanded(main: Main) -> click.Command:
        for option in reversed(options):
            main = option(main)
        return click.command(help=doc)(main)

    return commanded


def measure_cells(
    log: Path, config: dict[str, Any], todo: Mapping[str, Callable[[], Row]], only: str | None, write: Table
) -> None:
    """Measure what is not in the log, and write and print the table.

    Args:
        log: see `results_files.measured_rows`.
        config: see there.
        todo: all cells of the benchmark.
        only: the pattern of those to measure now; None for all.
        write: gets all rows that there are and the command of the whole benchmark, whenever there is a new one.

    Raises:
        click.BadParameter: the pattern is none, or no cell's name matches it.
    """
    chosen = None if only is None else _matching(only, list(todo))
    show = partial(write, command=_whole_command(log.stem))
    click.echo(show(measured_rows(log, config, todo, {"machine": machine()}, show, chosen)))


def _matching(only: str, cells: list[str]) -> list[str]:
    try:
        found = [cell for cell in cells if re.fullmatch(only, cell)]
    except re.error as error:
        raise click.BadParameter(f"{only!r} is no regular expression ({error}); try '{cells[-1]}'") from None
    if not found:
        raise click.BadParameter(f"no cell of the {len(cells)} matches {only!r}, they are like {', '.join(cells[:3])}")
    return found


def _whole_command(name: str) -> str:
    """The command as it was typed, but for ``--only``, since the table has more than that measured."""
    context = click.get_current_context()
    words = ["python", f"benchmarks/{name}.py"]
    for option in context.command.params:
        typed = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if typed and option.name != "only":
            value = context.params[option.name or ""]
            words += [option.opts[0]] if value is True else [option.opts[0], str(value)]
    return shlex.join(words)
