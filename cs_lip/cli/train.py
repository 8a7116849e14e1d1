"""``cs-lip train``: a generator of one's own from pictures."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from torch import Tensor
from tqdm import tqdm

from cs_lip.cli.exit_codes import INTERRUPTED
from cs_lip.cli.inputs import bad_input, seed_option, writable
from cs_lip.evaluation.datasets import read_dataset
from cs_lip.evaluation.training_run import DEFAULT_EVERY, TrainingRun, open_run
from cs_lip.priors import add_generator, check_new_name, user_folder
from cs_lip.training import SIZES, Settings, dcgan_settings


@click.command()
@click.option(
    "--data",
    required=True,
    help="A folder of pictures; mnist:FOLDER with MNIST's IDX files; fashion-mnist:FOLDER with its JSON files.",
)
@click.option("--name", required=True, help="Under which the generator is kept: cs-lip recover --generator NAME.")
@click.option("--architecture", type=click.Choice(["dcgan"]), default="dcgan", show_default=True)
@click.option("--size", type=click.Choice([str(size) for size in SIZES]), default="64", show_default=True)
@click.option("--latents", type=int, default=100, show_default=True, help="Latent unknowns.")
@click.option("--width", type=int, default=64, show_default=True, help="Channels of the last feature map.")
@click.option("--steps", type=int, default=Settings.steps, show_default=True, help="Steps of the generator.")
@click.option("--batch", type=int, default=Settings.batch, show_default=True, help="Images in a step.")
@click.option(
    "--critic-steps",
    type=int,
    default=Settings.critic_steps,
    show_default=True,
    help="Steps of the critic for each of the generator's.",
)
@click.option("--learning-rate", type=float, default=Settings.learning_rate, show_default=True)
@click.option(
    "--averaging",
    type=float,
    default=Settings.averaging,
    show_default=True,
    help="How much of the averaged weights a step keeps.",
)
@seed_option()
@click.option("--every", type=int, default=DEFAULT_EVERY, show_default=True, help="Steps between two checkpoints.")
@click.option("--licence", default="", help="Licence of the weights, for the catalogue.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the training.  [default: training-NAME]")
@click.option("--overwrite", is_flag=True, help="Replace a generator of that name.")
def train(
    data: str,
    name: str,
    architecture: str,
    size: str,
    every: int,
    licence: str,
    out: Path | None,
    overwrite: bool,
    **asked: Any,
) -> None:
    """Train a generator on pictures by WGAN-GP and keep it in the catalogue.

    A folder holds the training: checkpoint, losses and a sheet of samples. The same command goes on from the checkpoint
    if it was stopped, to the same numbers as if it had not been.

    \b
    Examples:
      cs-lip train --data faces/ --size 64 --name my-faces
      cs-lip train --data mnist:mnist/ --size 28 --critic-steps 2 --name my-digits
    """
    with bad_input():
        check_new_name(name, overwrite=overwrite)
        writable(user_folder())
        folder = out or Path(f"training-{name}")
        if folder.resolve().is_relative_to(Path(data).resolve()):
            raise ValueError(
                f"the training would be kept in {folder}, among the pictures of {data}, and its samples be taken for "
                "some of them; try an --out elsewhere"
            )
        pictures = _read(data, int(size))
        settings = dcgan_settings(int(size), pictures.shape[1], **asked)
        run = open_run(folder, settings, pictures, every)
    if run.training.step:
        click.echo(f"The training in {run.folder} goes on from step {run.training.step} of {settings.steps}.")
    with bad_input(), _deferred_interrupts() as interrupts:
        _advance(run, interrupts)
    if run.training.step < settings.steps:
        click.echo(f"\nStopped at step {run.training.step} of {settings.steps}; the same command goes on from there.")
        raise click.exceptions.Exit(INTERRUPTED)
    with bad_input():
        entry = add_generator(
            run.training.blueprint(),
            name,
            description=f"{architecture.upper()} of {size}x{size} images, trained by cs-lip",
            licence=licence or "not stated",
            source=f"cs-lip train, seed {settings.seed}, {settings.steps} steps",
            training_data=data,
            overwrite=overwrite,
        )
    click.echo(f"{name} is in {entry.path}, its training in {run.folder}; samples: {run.samples_path}")
    click.echo(f"Try it: cs-lip recover --generator {name} --measurements {max(1, pictures[0].numel() // 8)}")


def _read(data: str, size: int) -> Tensor:
    with tqdm(desc="read", unit=" pictures", leave=False, disable=None) as bar:

        def show(count: int, total: int) -> None:
            bar.total = total
            bar.update(count - bar.n)

        return read_dataset(data, size, show)


@contextmanager
def _deferred_interrupts() -> Iterator[list[int]]:
    """The first Ctrl-C lengthens the list that this gives instead of raising; a second one ends the command at once."""
    interrupts: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def _advance(run: TrainingRun, interrupts: list[int]) -> None:
    """To the end, or to the end of the step in which a stop is asked for: half a step is no place to go on from."""
    steps = run.training.settings.steps
    with tqdm(desc="train", unit=" steps", total=steps, initial=run.training.step, leave=False, disable=None) as bar:
        while run.training.step < steps and not interrupts:
            losses = run.advance()
            bar.set_postfix_str(f"distance {losses.distance:.2f}, penalty {losses.penalty:.3f}", refresh=False)
            bar.update()
    if interrupts:
        run.save()
