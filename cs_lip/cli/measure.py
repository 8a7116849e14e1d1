"""``cs-lip measure``: from pictures to measurements on disk."""

from pathlib import Path

import click
import torch

from cs_lip.cli.inputs import IMAGE_HELP, BadInput, asked_images, bad_input, seed_option
from cs_lip.evaluation.acquisition import OPERATORS, acquire, build_operator
from cs_lip.evaluation.run import Measurements
from cs_lip.evaluation.store import save_measurements
from cs_lip.operators import probe_response
from cs_lip.priors import DEFAULT_GENERATOR, load_generator


@click.command()
@click.option("--measurements", "-m", "count", type=int, required=True, help="Real measurements of each image.")
@click.option("--operator", type=click.Choice(list(OPERATORS)), default="gaussian", show_default=True)
@click.option("--image", "images", type=click.Path(path_type=Path), multiple=True, help=IMAGE_HELP)
@click.option(
    "--generator", default=DEFAULT_GENERATOR, show_default=True, help="Whose image shape the pictures are brought to."
)
@click.option("--noise", type=float, default=0.0, show_default=True, help="Standard deviation on every measurement.")
@seed_option()
@click.option("--out", type=click.Path(path_type=Path), default=Path("y.h5"), show_default=True, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def measure(
    count: int,
    operator: str,
    images: tuple[Path, ...],
    generator: str,
    noise: float,
    seed: int,
    out: Path,
    overwrite: bool,
) -> None:
    """Measure pictures and write what the sensor gave, and how to rebuild the operator, but not the pictures.

    \b
    Example:
      cs-lip measure --measurements 500 --noise 0.01 --out y.h5
      cs-lip recover --from y.h5
    """
    if out.exists() and not overwrite:
        raise BadInput(f"{out} exists already, nothing was written; try another --out, or --overwrite to replace it")
    with bad_input():
        prior = load_generator(generator).fold()
        chosen = build_operator(operator, prior.image_shape, count, seed=seed)
        named = asked_images(images, prior, seed)
        values = acquire(chosen, torch.stack([image.pixels for image in named]), noise=noise, seed=seed)
        names, sources = tuple(image.name for image in named), tuple(image.source for image in named)
        out.parent.mkdir(parents=True, exist_ok=True)
        measurements = Measurements(values, chosen.recipe(), noise, names, sources, probe_response(chosen))
        save_measurements(out, measurements)
    click.echo(
        f"{len(named)} x {chosen.m} measurements ({operator}) are in {out}; recover with: cs-lip recover --from {out}"
    )
