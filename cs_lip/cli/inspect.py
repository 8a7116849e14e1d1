"""``cs-lip generators inspect``: a diagnosis of any generator."""

import json
import math
from pathlib import Path
from typing import Any

import click

from cs_lip.cli.inputs import bad_input, device_option, find_device, real_images, seed_option, writable_file
from cs_lip.cli.progress import ProgressBar
from cs_lip.evaluation.inspection import Inspection, Representation, inspect_generator
from cs_lip.priors import load_generator
from cs_lip.report.inspection import save_inspection_figure

DRAWN_HELP = "A picture to draw: a file, or the name of a bundled one, such as camera; repeat."


@click.command()
@click.argument("name")
@click.option("--image", "images", type=click.Path(path_type=Path), multiple=True, help=DRAWN_HELP)
@click.option("--restarts", type=int, help="Random starts for each picture.  [default: the solver's own]")
@seed_option()
@device_option()
@click.option("--out", type=click.Path(path_type=Path), help="PNG to write.  [default: NAME.png]")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON and nothing else.")
def inspect(
    name: str,
    images: tuple[Path, ...],
    restarts: int | None,
    seed: int,
    device: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw samples, interpolations and the Jacobian's spectrum of a generator, and how well it draws pictures.

    NAME is a generator of the catalogue, or a weight file. Without --image, bundled pictures are tried.

    \b
    Example:
      cs-lip generators inspect digiface-dcgan --image me.jpg
    """
    path = out or Path(f"{Path(name).stem}.png")
    with bad_input():
        if restarts is not None and restarts < 1:
            raise ValueError(f"--restarts must be at least 1, got {restarts}; try 10")
        writable_file(path, overwrite)
        generator = load_generator(name).to(find_device(device))
        pictures = real_images(images, generator)
    with bad_input(), ProgressBar() as bar:
        inspection = inspect_generator(generator, pictures, restarts=restarts, seed=seed, progress=bar.update)
    numbers = _numbers(inspection)
    with bad_input():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_inspection_figure(path, inspection, f"{name}: {generator.latent_size} latents")
    if as_json:
        click.echo(json.dumps({"generator": name, "seed": seed, **numbers}, indent=2, allow_nan=False))
        return
    smallest, largest = numbers["singular_values"]
    click.echo(
        f"Singular values of the Jacobian at {len(inspection.spectra)} latents: {smallest:.2g} to {largest:.2g}."
    )
    for found in inspection.representations:
        click.echo(f"{found.picture.name}: {_drawn(found)}")
    click.echo(f"The picture is {path}.")


def _drawn(found: Representation) -> str:
    if not math.isfinite(found.mse):
        return "not drawn, since the search diverged; try more --restarts"
    level = "exactly" if found.psnr_db == math.inf else f"at {found.psnr_db:.2f} dB (MSE {found.mse:.1e})"
    return f"drawn {level}"


def _numbers(inspection: Inspection) -> dict[str, Any]:
    """As JSON has them, without infinity and NaN."""
    return {
        "singular_values": [float(inspection.spectra.min()), float(inspection.spectra.max())],
        "representations": [
            {
                "name": found.picture.name,
                "mse": found.mse if math.isfinite(found.mse) else None,
                "psnr_db": found.psnr_db if math.isfinite(found.psnr_db) else None,
            }
            for found in inspection.representations
        ],
    }
