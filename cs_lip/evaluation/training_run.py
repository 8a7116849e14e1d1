"""A training and its folder: checkpoint, losses and a sheet of samples."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from cs_lip.files import atomic_path
from cs_lip.priors import build
from cs_lip.seeding import stream
from cs_lip.training import Losses, Settings, Training, load_checkpoint, save_checkpoint

DEFAULT_EVERY = 500
SAMPLES, COLUMNS = 64, 8
CHECKPOINT_FILE, LOSSES_FILE, SAMPLES_FILE = "checkpoint.safetensors", "losses.csv", "samples.png"


@dataclass(eq=False)
class TrainingRun:
    """A `Training` with the folder that it is kept in.

    Attributes:
        history: the losses of every step so far.
        every: steps between two checkpoints.
    """

    folder: Path
    training: Training
    history: list[Losses]
    every: int

    @property
    def samples_path(self) -> Path:
        """The sheet of samples, drawn from the same latents at every checkpoint."""
        return self.folder / SAMPLES_FILE

    def advance(self) -> Losses:
        """One step; every so many, and at the end, the folder is brought up to date.

        Raises:
            ValueError: the training diverged; the folder keeps its last checkpoint.
        """
        losses = self.training.advance()
        if not all(map(math.isfinite, losses)):
            raise ValueError(
                f"the training diverged at step {self.training.step} (distance {losses.distance:g}, penalty "
                f"{losses.penalty:g}); try a lower --learning-rate and another --out"
            )
        self.history.append(losses)
        if self.training.step % self.every == 0 or self.training.step == self.training.settings.steps:
            self.save()
        return losses

    def save(self) -> None:
        """Write losses, samples and, last, the checkpoint, each file atomically."""
        generator = build(self.training.blueprint())
        latents = generator.sample_latents(SAMPLES, generator=stream(self.training.settings.seed, "training/samples"))
        with atomic_path(self.folder / LOSSES_FILE) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("step", *Losses._fields))
            writer.writerows((step, *losses) for step, losses in enumerate(self.history, 1))
        with torch.no_grad(), atomic_path(self.samples_path) as temporary:
            save_image(generator(latents), temporary, nrow=COLUMNS)
        save_checkpoint(self.folder / CHECKPOINT_FILE, self.training, self.history)


def open_run(folder: Path, settings: Settings, pictures: Tensor, every: int = DEFAULT_EVERY) -> TrainingRun:
    """The training in a folder, where it stopped, or a new one in a new or empty folder.

    Raises:
        ValueError: the folder holds other work, a training with other settings or pictures, or is a file; or ``every``
            is less than one.
    """
    if every < 1:
        raise ValueError(f"a checkpoint is due every 1 or more steps, got {every}; try {DEFAULT_EVERY}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder; try another --out")
    checkpoint = folder / CHECKPOINT_FILE
    if checkpoint.is_file():
        return TrainingRun(folder, *load_checkpoint(checkpoint, settings, pictures), every)
    if folder.is_dir() and (held := sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))):
        raise ValueError(f"the folder {folder} holds other work ({held[0]}), nothing was written; try another --out")
    training = Training(settings, pictures)
    folder.mkdir(parents=True, exist_ok=True)
    # The checkpoint says whose the folder is, so it is there before any other file that a kill could leave alone.
    save_checkpoint(checkpoint, training, [])
    return TrainingRun(folder, training, [], every)
