"""``cs-lip report``: one page to look at a run or a sweep."""

from pathlib import Path

import click

from cs_lip.cli.inputs import bad_input
from cs_lip.evaluation.store import PAGE_FILE
from cs_lip.report.report import write_report


@click.command()
@click.argument("run_or_sweep", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help=f"The page.  [default: {PAGE_FILE} in the folder, replaced]"
)
def report(run_or_sweep: Path, out: Path | None) -> None:
    """Write one HTML page about RUN_OR_SWEEP, a folder that `cs-lip recover`, `restore` or `sweep` wrote.

    The page holds all it shows: numbers, figures, images over the number of measurements, and the command that makes
    the results again. It loads nothing, so that it can be sent as it is.

    \b
    Examples:
      cs-lip report my-run
      cs-lip report my-sweep --out page.html
    """
    with bad_input():
        page = write_report(run_or_sweep, out)
    click.echo(f"The page is {page}.")
