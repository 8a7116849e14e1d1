"""The search for tickets: train, score, prune, rewind, and again."""

import copy
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import derive_seed
from cs_lip.tickets.bernoulli import BernoulliSettings
from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.criteria import BY_LOSS, IN_UNITS_OF_A_LOSS, Evidence, magnitude, score
from cs_lip.tickets.curvature import Loss, Scores
from cs_lip.tickets.levels import Levels, open_levels
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.retraining import Level, Progress, Step, Trainer, unheard
from cs_lip.tickets.search_settings import SearchSettings
from cs_lip.tickets.selection import kept_fraction, select
from cs_lip.tickets.synflow import check_linearisable
from cs_lip.tickets.ticket import About, Ticket, read_ticket, write_ticket

LEAST_LOSS = 1e-6
"""Below it the loss of images in [0, 1] is rounding, and the network already what its training would lead to."""


def search(
    network: Prunable,
    settings: SearchSettings,
    trainer: Trainer,
    folder: Path,
    *,
    about: About,
    progress: Progress = unheard,
) -> Ticket:
    """Find a ticket by iterative pruning, level by level, each of them written to the folder when it is found.

    Level ``i`` trains the network from the rewind point under the mask of level ``i - 1``, scores what is left, and
    keeps the best of it at the density of the schedule; where several networks were trained, their scores are averaged,
    so that all agree on one mask. With ``at_initialisation`` nothing is trained before the last mask. With magnitude,
    all layers together and 20 % pruned a level this is iterative magnitude pruning (Frankle & Carbin, The Lottery
    Ticket Hypothesis, ICLR 2019, section 1), as it finds lottery image priors (Wu, Chen, Jiang & Wang, TMLR 2023, arXiv
    2410.24187, algorithm 1).

    Each level begins with what the level before wrote to its file, so a search that was killed goes on from its last
    whole level, and ends with the ticket that it would have found without a break.

    Args:
        network: the rewind point ``start``; it is left alone.
        settings: what to do.
        trainer: trains a copy of it.
        folder: a new one, or that of the same search.
        about: what the ticket says of the network and the data; the search fills in what it does itself.
        progress: called after each step of each training.

    Raises:
        ValueError: the density cannot be reached, the network, the criterion and the trainer do not go together, the
            folder holds other work or a search with other settings, or the training diverged.
    """
    _check(network, settings, trainer)
    dense = dense_channels(network) if settings.granularity == "channel" else Mask.dense(network, settings.roles)
    # A density that cannot be reached, or an allocation that there is not, is refused before hours of training.
    _selected(network, magnitude(network, dense), settings.density, dense, settings)
    levels = open_levels(folder, _record(settings, trainer, about))
    found = _Found(network, dense, settings, trainer, levels, about, progress)
    if levels.ticket.is_file():
        return found.own(levels.ticket)
    found.prepare()
    for index in range(1, len(settings.densities) + 1):
        found.take(index)
    return found.finish()


def _check(network: Prunable, settings: SearchSettings, trainer: Trainer) -> None:
    """Refuse what would only be found out after hours of training.

    Raises:
        ValueError: what is asked for does not go together.
    """
    trainer.check(network)
    if settings.criterion == "synflow":
        check_linearisable(network)
    if settings.criterion in BY_LOSS and not trainer.losses(settings.seed):
        raise ValueError(
            f"the criterion {settings.criterion!r} looks at a loss, and this training has none of its own; try "
            "'magnitude' or 'sensitivity'"
        )
    if settings.trained and (settings.criterion in BY_LOSS or settings.rewind == "step"):
        _check_learnable(network, settings, trainer)
    if trainer.count > 1 and (settings.rewind != "start" or settings.final_steps):
        raise ValueError(
            f"the training gives {trainer.count} networks, which share a mask but no weights that could be kept; try "
            "the rewinding to the start (--rewind initial) and no final steps, or one picture"
        )


def _check_learnable(network: Prunable, settings: SearchSettings, trainer: Trainer) -> None:
    """Refuse to score or to train by a loss that is zero: its gradient is the rounding's, of which Adam makes whole
    steps.

    Raises:
        ValueError: the network comes with a loss of zero, as a generator does that still equals its teacher.
    """
    losses = [abs(float(loss(copy.deepcopy(network)).detach())) for loss in trainer.losses(settings.seed)]
    if not losses or max(losses) >= LEAST_LOSS:
        return
    reason, attempt = "rewinding to a step trains the dense network first", "the rewinding 'learning-rate'"
    if settings.criterion in BY_LOSS:
        reason, attempt = f"the criterion {settings.criterion!r} looks at a loss", "the criterion 'sensitivity'"
    raise ValueError(
        f"{reason}, and the loss is zero ({max(losses):.1g}) where a generator still equals its teacher; try "
        f"{attempt}, or --rewind initial"
    )


def _record(settings: SearchSettings, trainer: Trainer, about: About) -> dict[str, Any]:
    """All that the numbers of a search depend on."""
    told = asdict(about)
    network = {name: told[name] for name in ("prior", "architecture", "settings", "base_sha256", "data", "seeds")}
    said = {name: value for name, value in asdict(settings).items() if name != "rewind_step"}
    return said | {
        "rewind": settings.rewound_to,
        "trainer": asdict(trainer.settings),
        "network": network,
        "training_data": trainer.fingerprint,
    }


class _Found:
    """A search in progress: the mask of the latest level, and the weights to train from under it."""

    def __init__(
        self,
        network: Prunable,
        mask: Mask,
        settings: SearchSettings,
        trainer: Trainer,
        levels: Levels,
        about: About,
        progress: Progress,
    ) -> None:
        self.network, self.settings, self.trainer, self.levels = network, settings, trainer, levels
        self.about, self.progress = about, progress
        self.mask = mask
        self.start: Mapping[str, Tensor] | None = None
        self.values: Mapping[str, Tensor] | None = None
        self.parent = ""

    def prepare(self) -> None:
        """Read the weights to rewind to from the folder, after putting them there, unless the dense prior has them."""
        settings = self.settings
        stepwise = settings.rewind == "step"
        if not stepwise and (settings.trained or self.about.kind == "untrained"):
            return
        if not self.levels.start.is_file():
            network = self.network
            if stepwise:
                level = Level(0, len(settings.densities), settings.rewind_step, settings.steps)
                network = self._only(self._train(level))
            write_ticket(self.levels.start, self._ticket(network.state_dict()))
        self.start = self.values = self.own(self.levels.start).values

    def take(self, index: int) -> None:
        """Go on to the mask and the weights of a level, as its file has them, which is written if it is not there.

        Raises:
            ValueError: the file is damaged, or of another search, or goes on from another mask than that of the level
                before.
        """
        parent, path = self.mask.sha256 if index > 1 else "", self.levels.level(index)
        if not path.is_file():
            self._find(index, parent)
        ticket = self.own(path)
        if ticket.about.parent != parent:
            raise ValueError(
                f"{path} goes on from another mask than that of the level before; try to remove it and the later "
                "levels, and they are found again"
            )
        device = next(self.network.parameters()).device
        self.mask = Mask({name: kept.to(device) for name, kept in ticket.mask.kept.items()})
        self.values, self.parent = ticket.values, parent

    def _find(self, index: int, parent: str) -> None:
        """Write the ticket of a level, from those before."""
        settings, count = self.settings, len(self.settings.densities)
        if settings.at_initialisation or (index == 1 and settings.trained and settings.rewind != "step"):
            # The same network is another one's evidence only where it is looked at through another loss.
            once = settings.criterion not in BY_LOSS
            networks: Sequence[Prunable] = [self._rewound()] * (1 if once else self.trainer.count)
        else:
            networks = self._train(Level(index - 1, count, settings.steps, settings.steps))
        scores, density = self._scores(networks, index), settings.densities[index - 1]
        self.parent = parent
        self.mask = _selected(networks[0], scores, density, self.mask, settings)
        values = self.start
        if settings.rewind == "learning-rate":
            values = self._only(networks).state_dict()
        write_ticket(self.levels.level(index), self._ticket(values))

    def _scores(self, networks: Sequence[Prunable], index: int) -> Scores:
        """The mean of the networks' scores, each by its own loss, and of each where they are in units of the loss the
        fractions of its sum, so that no picture has a larger say."""
        settings = self.settings
        losses: Sequence[Loss | None] = [None] * len(networks)
        if settings.criterion in BY_LOSS:
            losses = self.trainer.losses(settings.seed)
        seed = derive_seed(settings.seed, f"scores/level-{index}")
        learning, density = BernoulliSettings(), settings.densities[index - 1]
        if settings.granularity == "kernel":
            density *= self.mask.density / kept_fraction(self.mask, "kernel")  # criteria count weights
        told = [self._learning(index, learning.steps, one, len(losses)) for one in range(len(losses))]
        given = [
            Evidence(loss, density, seed, learning=learning, on_step=tell)
            for loss, tell in zip(losses, told, strict=True)
        ]
        scores = [
            score(settings.criterion, network, self.mask, evidence)
            for network, evidence in zip(networks, given, strict=True)
        ]
        if len(scores) > 1 and settings.criterion in IN_UNITS_OF_A_LOSS:
            scores = [_fractions(one) for one in scores]
        return {name: torch.stack([one[name] for one in scores]).mean(0) for name in scores[0]}

    def _learning(self, index: int, steps: int, network: int, networks: int) -> Callable[[int], None]:
        """Passes on the steps in which the mask of one of the networks of a level is learned."""
        total = networks * steps
        level = Level(index - 1, len(self.settings.densities), total, total)
        return lambda done: self.progress(Step(level, network * steps + done, total, None))

    def finish(self) -> Ticket:
        """Train under the last mask, and write what the search ends with."""
        if self.settings.final_steps:
            count, steps = len(self.settings.densities), self.settings.final_steps
            self.values = self._only(self._train(Level(count, count, steps, steps))).state_dict()
        write_ticket(self.levels.ticket, self._ticket(self.values))
        return self.own(self.levels.ticket)

    def _rewound(self) -> Prunable:
        """A copy of the network with the weights to train from, under the present mask."""
        network = copy.deepcopy(self.network)
        if self.values is not None:
            network.load_state_dict(self.values, strict=False)  # a ticket leaves out how many batches norms have seen
        self.mask.apply_(network)
        return network

    def _train(self, level: Level) -> Sequence[Prunable]:
        return self.trainer.train(self._rewound(), level=level, seed=self.settings.seed, progress=self.progress)

    def _only(self, networks: Sequence[Prunable]) -> Prunable:
        (network,) = networks
        return network

    def _ticket(self, values: Mapping[str, Tensor] | None) -> Ticket:
        """The present mask as a ticket, with weights that are zero beyond it."""
        if values is not None:
            values = {
                name: value * self.mask.kept[name].to(value.device) if name in self.mask.kept else value
                for name, value in values.items()
            }
        about = replace(
            self._told(),
            parent=self.parent,
            versions={"python": platform.python_version(), **{name: version(name) for name in ("cs-lip", "torch")}},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return Ticket(self.mask, values, about)

    def _told(self) -> About:
        """What every ticket of the search says of itself."""
        settings = self.settings
        return replace(
            self.about,
            granularity=settings.granularity,
            criterion=settings.criterion,
            allocation=settings.allocation,
            schedule={"name": settings.schedule, "densities": list(settings.densities)},
            rewind=settings.rewound_to,
            seeds={**self.about.seeds, "search": settings.seed},
        )

    def own(self, path: Path) -> Ticket:
        """A ticket of the search's own folder.

        Raises:
            ValueError: the file is damaged, or of another search.
        """
        try:
            ticket = read_ticket(path)
        except ValueError as error:
            reason = str(error).removeprefix(f"{path} ").partition("; try")[0]
            raise ValueError(f"{path} is damaged ({reason:.160}); try to remove it, and it is found again") from None
        about = ticket.about
        if about != replace(self._told(), parent=about.parent, versions=about.versions, created=about.created):
            raise ValueError(f"{path} is of another search; try to remove it, and it is found again")
        return ticket


def _fractions(scores: Scores) -> Scores:
    """Scores over the sum of their magnitudes, as SNIP's equation 6 has them; zeros stay."""
    total = torch.stack([value.abs().sum() for value in scores.values()]).sum()
    return {name: value / total if total > 0 else value for name, value in scores.items()}


def _selected(network: Prunable, scores: Scores, density: float, parent: Mask, settings: SearchSettings) -> Mask:
    if settings.granularity == "channel":
        # Whole channels may have left less already than this level asks for.
        density = min(density, parent.density)
        return channel_mask(
            network, scores, density, parent=parent, allocation=settings.allocation, floor=settings.floor
        )
    return select(
        scores,
        density,
        parent=parent,
        granularity=settings.granularity,
        allocation=settings.allocation,
        floor=settings.floor,
    )
