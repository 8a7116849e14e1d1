"""``cs-lip show``: print a run again."""

from pathlib import Path
from typing import Any

import click

from cs_lip.cli.inputs import bad_input, ticket_line
from cs_lip.evaluation.run import summary
from cs_lip.evaluation.store import FIGURE_FILE, RUN_FILE, load_run, summary_json
from cs_lip.evaluation.sweep.folder import PLAN_FILE
from cs_lip.evaluation.sweep.table import TABLE_FILE
from cs_lip.report.text import run_table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
def show(run: Path, as_json: bool) -> None:
    """Print the table of RUN again: a folder that `cs-lip recover` or `restore` wrote, or the .h5 file in it.

    \b
    Example:
      cs-lip recover --measurements 500 --out my-run
      cs-lip show my-run
    """
    with bad_input():
        path = _run_file(run)
        stored = load_run(path)
        if as_json:
            click.echo(summary_json(stored))
            return
        click.echo(_headline(stored.config))
        if "ticket" in stored.config:
            click.echo(ticket_line(stored.config))
        click.echo(run_table(summary(stored)))
        if (path.parent / FIGURE_FILE).is_file():
            click.echo(f"The picture is {path.parent / FIGURE_FILE}.")


def _run_file(run: Path) -> Path:
    if not run.is_dir():
        return run
    if (run / RUN_FILE).is_file():
        return run / RUN_FILE
    if (run / TABLE_FILE).is_file() or (run / PLAN_FILE).is_file():
        raise ValueError(f"{run} is the folder of a sweep, expected that of a run; try cs-lip report {run}")
    raise ValueError(
        f"the folder {run} holds no {RUN_FILE}, expected a run; try a folder that `cs-lip recover` or `restore` wrote"
    )


def _headline(config: dict[str, Any]) -> str:
    """What was asked for, without what a solver has no use for, such as restarts."""
    restarts, ratio = config.get("restarts"), config.get("snr_db")
    told = {
        "noise": f"{config['noise']:g}" + ("" if ratio is None else f" (SNR {ratio:.1f} dB)"),
        "generator": config.get("generator"),
        "solver": config["solver"],
        "restarts": restarts,
        "seed": config.get("seed"),
    }
    facts = [f"{name} {value}" for name, value in told.items() if value is not None]
    return ", ".join([f"{config['measurements']} measurements ({config['operator']})", *facts])
