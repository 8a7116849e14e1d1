"""``cs-lip show``: print a run again."""

from pathlib import Path

import click

from cs_lip.cli.inputs import bad_input, ticket_line
from cs_lip.evaluation.run import summary
from cs_lip.evaluation.store import FIGURE_FILE, RUN_FILE, load_run, summary_json
from cs_lip.report.text import run_table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
def show(run: Path, as_json: bool) -> None:
    """Print the table of RUN, a folder that `cs-lip recover` wrote, again.

    \b
    Example:
      cs-lip recover --measurements 500 --out my-run
      cs-lip show my-run
    """
    path = run / RUN_FILE if run.is_dir() else run
    with bad_input():
        stored = load_run(path)
        if as_json:
            click.echo(summary_json(stored))
            return
        config = stored.config
        click.echo(
            f"{config['measurements']} measurements ({config['operator']}), noise {config['noise']:g}, generator "
            f"{config['generator']}, solver {config['solver']}, {config['restarts']} restarts, seed {config['seed']}"
        )
        if "ticket" in config:
            click.echo(ticket_line(config))
        click.echo(run_table(summary(stored)))
        if (path.parent / FIGURE_FILE).is_file():
            click.echo(f"The picture is {path.parent / FIGURE_FILE}.")
