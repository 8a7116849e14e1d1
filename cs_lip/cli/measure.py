"""``cs-lip measure``: from pictures to measurements on disk."""

import shlex
from pathlib import Path

import click

from cs_lip.cli.inputs import IMAGE_HELP, OPERATOR_HELP, bad_input, seed_option, writable_file
from cs_lip.cli.measuring import asked_outliers, measured, outlier_options
from cs_lip.evaluation.acquisition import OPERATORS
from cs_lip.evaluation.store import save_measurements
from cs_lip.priors import DEFAULT_GENERATOR, load_generator


@click.command()
@click.option("--measurements", "-m", "count", type=int, required=True, help="Real measurements of each image.")
@click.option("--operator", type=click.Choice(list(OPERATORS)), default="gaussian", help=OPERATOR_HELP)
@click.option("--image", "images", type=click.Path(path_type=Path), multiple=True, help=IMAGE_HELP)
@click.option(
    "--generator", default=DEFAULT_GENERATOR, show_default=True, help="Whose image shape the pictures are brought to."
)
@click.option(
    "--noise", type=float, default=0.0, show_default=True, help="Standard deviation on every real measurement."
)
@outlier_options()
@seed_option()
@click.option("--out", type=click.Path(path_type=Path), default=Path("y.h5"), show_default=True, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def measure(
    count: int,
    operator: str,
    images: tuple[Path, ...],
    generator: str,
    noise: float,
    outliers: float | None,
    outlier_kind: str | None,
    seed: int,
    out: Path,
    overwrite: bool,
) -> None:
    """Measure pictures and write what the sensor gave, and how to rebuild the operator, but not the pictures.

    \b
    Examples:
      cs-lip measure --measurements 500 --noise 0.01 --out y.h5
      cs-lip recover --from y.h5
      cs-lip measure --measurements 1000 --outliers 0.02 --outlier-kind gross --out bad.h5
      cs-lip recover --from bad.h5 --fidelity trimmed
    """
    with bad_input():
        writable_file(out, overwrite)
        bad = asked_outliers(outliers, outlier_kind)
        prior = load_generator(generator).fold()
        chosen, _, measurements = measured(prior, operator, count, images, noise=noise, outliers=bad, seed=seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        save_measurements(out, measurements)
    command = ["cs-lip", "recover", "--from", str(out)]
    command += [] if generator == DEFAULT_GENERATOR else ["--generator", generator]
    click.echo(
        f"{len(measurements.names)} x {chosen.m} measurements ({operator}) are in {out}; "
        f"recover with: {shlex.join(command)}"
    )
