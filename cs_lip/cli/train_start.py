"""``cs-lip train-start``: a learned start for a generator, from nothing but its own draws."""

import math
import os
from dataclasses import asdict

import click
from tqdm import tqdm

from cs_lip.cli.exit_codes import INTERRUPTED
from cs_lip.cli.inputs import bad_input, seed_option, writable
from cs_lip.evaluation.provenance import versions
from cs_lip.priors import DEFAULT_GENERATOR, find_entry, load_generator, own_start_path, write_start
from cs_lip.training import StartSettings, StartTraining


@click.command("train-start")
@click.option("--generator", default=DEFAULT_GENERATOR, show_default=True, help="A name in cs-lip generators.")
@click.option(
    "--steps", type=int, default=StartSettings.steps, show_default=True, help="Training steps by the error of latents."
)
@click.option(
    "--image-steps",
    type=int,
    default=StartSettings.image_steps,
    show_default=True,
    help="Training steps after those, by the error of images.",
)
@click.option(
    "--draws",
    type=int,
    default=StartSettings.draws,
    show_default=True,
    help="Images that the generator draws to train on.",
)
@seed_option()
@click.option("--overwrite", is_flag=True, help="Replace a start that you trained before.")
def train_start(generator: str, steps: int, image_steps: int, draws: int, seed: int, overwrite: bool) -> None:
    """Train a network that guesses latents from measurements, so that a search needs few starts.

    It learns from the generator's own draws, seen through random operators: no picture is needed. It takes some
    minutes and is kept beside your own generators; a training that is stopped leaves nothing.

    \b
    Examples:
      cs-lip train-start --generator digiface-dcgan
      cs-lip train-start --generator my-faces --steps 8000 --seed 1
    """
    with bad_input():
        entry = find_entry(generator)
        path = own_start_path(generator)
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"there is a learned start for {generator!r} at {path} already; try --overwrite")
        writable(path)
        settings = StartSettings(steps=steps, image_steps=image_steps, draws=draws, seed=seed)
        training = StartTraining(load_generator(generator), settings)
        try:
            _advance(training)
        except KeyboardInterrupt:
            click.echo(f"\nStopped at {training.done} of {training.total}; nothing was kept.")
            raise click.exceptions.Exit(INTERRUPTED) from None
        provenance = {"command": "cs-lip train-start", "settings": asdict(settings), "versions": versions()}
        write_start(path, training.finished(), entry, provenance)
    click.echo(f"The learned start of {generator} is in {path} ({path.stat().st_size / 1e6:.1f} MB).")
    measurements = max(1, math.prod(entry.image_shape) // 8)
    click.echo(f"Try it: cs-lip recover --generator {generator} --measurements {measurements}")


def _advance(training: StartTraining) -> None:
    with tqdm(desc="train-start", unit=" steps", total=training.total, leave=False, disable=None) as bar:
        while training.done < training.total:
            phase = training.phase
            loss = training.advance()
            bar.set_postfix_str(phase if math.isnan(loss) else f"{phase}, error {loss:.3f}", refresh=False)
            bar.update()
