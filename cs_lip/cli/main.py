"""``cs-lip``: the group of all commands."""

import click

from cs_lip import __version__
from cs_lip.cli.generators import generators
from cs_lip.cli.inspect import inspect
from cs_lip.cli.interrupt import InterruptibleGroup
from cs_lip.cli.measure import measure
from cs_lip.cli.prune import prune
from cs_lip.cli.recover import recover
from cs_lip.cli.report import report
from cs_lip.cli.restore import restore
from cs_lip.cli.show import show
from cs_lip.cli.sweep import sweep
from cs_lip.cli.tickets import tickets
from cs_lip.cli.train import train
from cs_lip.cli.train_start import train_start


@click.group(cls=InterruptibleGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Compressive sensing with learned image priors.

    \b
    Example:
      cs-lip recover --measurements 500
    """


for command in (recover, restore, measure, sweep, report, show, generators, tickets, train, train_start, prune):
    main.add_command(command)
generators.add_command(inspect)
