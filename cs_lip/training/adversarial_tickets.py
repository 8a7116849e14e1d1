"""Sparse generators trained on pictures, against a critic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cs_lip.priors import DCGAN
from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import derive_seed
from cs_lip.tickets.curvature import Loss
from cs_lip.tickets.retraining import Level, Progress, Step, check_finite, unheard
from cs_lip.training.checkpoint import fingerprint
from cs_lip.training.settings import Settings
from cs_lip.training.wgan_gp import Training


@dataclass(frozen=True)
class AdversarialSettings:
    """Settings of `cs_lip.training.Settings`, for each level."""

    batch: int = 64
    critic_steps: int = 5
    penalty: float = 10.0
    learning_rate: float = 2e-4
    averaging: float = 0.999


class Adversarial:
    """A `cs_lip.tickets.retraining.Trainer` that plays WGAN-GP on pictures, as lottery tickets in GANs are found (Chen,
    Zhang, Sui & Chen, GANs Can Play Lottery Tickets Too, ICLR 2021), the critic dense and begun anew at each level.

    What comes back are the averaged weights, with norms measured anew. Norms stay norms here: they see the statistics
    of each batch, which would undo scales that were absorbed into the weights (`cs_lip.tickets.norms`).

    Args:
        pictures: ``(pictures, channels, height, width)``, uint8.
        settings: of each level.

    Raises:
        ValueError: fewer pictures than a batch takes.
    """

    def __init__(self, pictures: Tensor, settings: AdversarialSettings | None = None) -> None:
        self.pictures = pictures
        self.settings = AdversarialSettings() if settings is None else settings
        if len(pictures) < self.settings.batch:
            raise ValueError(
                f"a batch takes {self.settings.batch} pictures, got {len(pictures)} in all; try a larger folder"
            )

    @property
    def fingerprint(self) -> str:
        """See `cs_lip.tickets.retraining.Trainer`: of the pictures."""
        return fingerprint(self.pictures)

    @property
    def count(self) -> int:
        """See `cs_lip.tickets.retraining.Trainer`: one."""
        return 1

    def check(self, network: Prunable) -> None:
        """See `cs_lip.tickets.retraining.Trainer`; the pictures must be of the network's shape."""
        Training(self._of(network, Level(0, 1, 1, 1), 0), self.pictures)

    def train(self, network: Prunable, *, level: Level, seed: int, progress: Progress = unheard) -> Sequence[Prunable]:
        """See `cs_lip.tickets.retraining.Trainer`."""
        training = Training(self._of(network, level, seed), self.pictures)
        assert isinstance(network, DCGAN)
        training.start_from(network)
        while training.step < level.steps:
            losses = training.advance()
            check_finite(losses.distance + losses.penalty, level, training.step)
            progress(Step(level, training.step, level.steps, losses.distance))
        network.load_state_dict(training.blueprint().state, strict=False)
        return [network.eval()]

    def losses(self, seed: int) -> Sequence[Loss]:
        """None: what a generator minimises here depends on a critic that is still to be trained."""
        return ()

    def _of(self, network: Prunable, level: Level, seed: int) -> Settings:
        """The settings of one training.

        Raises:
            ValueError: the network is no DCGAN as `cs_lip.training.Training` has them.
        """
        if not isinstance(network, DCGAN) or not _is_plain(network):
            raise ValueError(
                "training on pictures needs a DCGAN with kernels of 4, without labels and without a bias at its end, "
                f"got {type(network).__name__}; try it without pictures, by distillation"
            )
        base = Settings(network.widths, network.first, steps=level.horizon)
        seed = derive_seed(seed, f"adversarial/level-{level.index}")
        return replace(base, seed=seed, **vars(self.settings))


def _is_plain(network: DCGAN) -> bool:
    """Whether it is a DCGAN as the PyTorch tutorial has it."""
    with torch.device("meta"):
        plain = DCGAN(network.widths, first=network.first)
    shapes = {name: value.shape for name, value in plain.state_dict().items()}
    return {name: value.shape for name, value in network.state_dict().items()} == shapes
