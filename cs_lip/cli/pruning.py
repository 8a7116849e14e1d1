"""What `cs-lip prune` searches for: the network, what trains it, and what a ticket says of both."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cs_lip.cli.damage import Asked, Damaged, check_asked, damage, restored_shape
from cs_lip.cli.untrained_priors import dense_prior
from cs_lip.evaluation.datasets import read_dataset
from cs_lip.evaluation.sweep.operators import Shape
from cs_lip.evaluation.ticket_search import Fits
from cs_lip.operators import Identity
from cs_lip.priors import Generator, UntrainedNetwork, load_generator
from cs_lip.recovery import pose
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.tickets.controls import reinitialised
from cs_lip.tickets.criteria import AT_INITIALISATION
from cs_lip.tickets.distillation import Distillation, DistillationSettings
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.norms import absorbed
from cs_lip.tickets.retraining import Trainer
from cs_lip.tickets.search_settings import Rewind, SearchSettings
from cs_lip.tickets.ticket import About
from cs_lip.tickets.transfer import about_generator, about_untrained
from cs_lip.training.adversarial_tickets import Adversarial, AdversarialSettings
from cs_lip.training.checkpoint import fingerprint

REWINDS: dict[str, Rewind] = {
    "initial": "start",
    "pretrained": "start",
    "step": "step",
    "learning-rate": "learning-rate",
}
"""What the command calls the points to rewind to, and what a search does."""

GENERATOR_STEPS, GENERATOR_FINAL_STEPS, FIT_STEPS = 300, 1500, 1000
"""What is taken where nothing was said."""


@dataclass(frozen=True)
class Plan:
    """A search that is ready to begin.

    Attributes:
        network: the rewind point.
        pictures: what an untrained network is fitted to, by name; empty for a generator.
        closing_steps: of the fit that shows what the ticket of an untrained network is worth.
    """

    network: Generator | UntrainedNetwork
    settings: SearchSettings
    trainer: Trainer
    about: About
    pictures: dict[str, Damaged]
    closing_steps: int = 0


def generator_plan(
    name: str,
    data: str | None,
    batch: int | None,
    rewind: str | None,
    steps: int | None,
    final: int | None,
    **said: Any,
) -> Plan:
    """A search in a pretrained generator: by distillation, or with ``data`` against a critic on its pictures.

    Raises:
        ValueError: options that do not go together, no such generator, or fewer pictures than a batch takes.
    """
    rewind = rewind or "learning-rate"
    settings = SearchSettings(
        rewind=REWINDS[rewind],
        trained=rewind != "initial",
        at_initialisation=_scores_initial(rewind, said["criterion"]),
        steps=GENERATOR_STEPS if steps is None else steps,
        final_steps=GENERATOR_FINAL_STEPS if final is None else final,
        **said,
    )
    about, dense = about_generator(name), load_generator(name)
    # Only in evaluation mode, in which it is distilled, is a generator with absorbed norms the same one.
    network = copy.deepcopy(dense) if data is not None else absorbed(dense)
    if rewind == "initial":
        network = reinitialised(network, Mask.dense(network), settings.seed)
    trainer: Trainer
    if data is None:
        trainer = Distillation(dense, DistillationSettings() if batch is None else DistillationSettings(batch=batch))
    else:
        pictures = read_dataset(data, dense.image_shape[1])
        if pictures.shape[1] != dense.image_shape[0]:
            raise ValueError(
                f"the pictures of {data:.120} have {pictures.shape[1]} channels, expected {dense.image_shape[0]} as "
                f"{name} draws; try {'mnist:FOLDER' if dense.image_shape[0] == 1 else 'a folder of pictures in colour'}"
            )
        trainer = Adversarial(pictures, AdversarialSettings() if batch is None else AdversarialSettings(batch=batch))
        about = replace(about, data=f"{len(pictures)} pictures, SHA-256 {fingerprint(pictures)}")
    return Plan(network, settings, trainer, about, {})


def untrained_plan(
    prior: str,
    names: Sequence[str],
    oracle: bool,
    asked: Asked,
    rewind: str | None,
    steps: int | None,
    final: int | None,
    **said: Any,
) -> Plan:
    """A search in an untrained network, by fits to the measurements of one picture or several.

    Raises:
        ValueError: options that do not go together, pictures that are not there, given twice, or of several shapes.
    """
    rewind = rewind or "initial"
    if rewind == "pretrained":
        raise ValueError("an untrained network is not pretrained; try --rewind initial")
    check_asked(asked)
    if oracle and not asked.has_truth:
        raise ValueError(
            "--oracle fits the clean picture, and this one is damaged; try --simulate, or without --oracle"
        )
    if final is not None and final < 1:
        raise ValueError(f"the final steps must be a whole number from 1 on, got {final}; try {FIT_STEPS}")
    settings = SearchSettings(
        rewind=REWINDS[rewind],
        at_initialisation=_scores_initial(rewind, said["criterion"]),
        steps=FIT_STEPS if steps is None else steps,
        **said,
    )
    shape, pictures = _damaged(names, asked)
    dense = dense_prior(prior, asked)
    network = dense.network(shape, asked.seed)
    problems = [pose(damaged.operator, damaged.measurements, noise=damaged.noise) for damaged in pictures.values()]
    if oracle:
        for problem in problems:  # of which the closing fits are, hours later, while the search itself never sees them
            UntrainedFit().check(problem, network)
        clean = [damaged.truth for damaged in pictures.values() if damaged.truth is not None]
        problems = [pose(Identity(shape), truth) for truth in clean]
    digests = ", ".join(
        f"{Path(name).name} (SHA-256 {fingerprint(problem.measurements)[:16]})"
        for name, problem in zip(names, problems, strict=True)
    )
    what = "the clean pictures" if oracle else f"measurements ({asked.task})"
    about = about_untrained(dense.architecture, shape, asked.seed, **dense.settings)
    about = replace(about, data=f"{what} of {digests}")
    return Plan(network, settings, Fits(problems), about, pictures, settings.steps if final is None else final)


def _damaged(names: Sequence[str], asked: Asked) -> tuple[Shape, dict[str, Damaged]]:
    """The pictures by name, and the shape that they have in common."""
    different = len({Path(name).resolve() for name in names})
    if different < len(names) or not names:
        raise ValueError(
            f"a search needs different pictures, got {different} of {len(names)} asked for; try --image "
            "camera,astronaut"
        )
    shapes = {name: restored_shape(Path(name), asked) for name in names}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"the pictures have shapes {sorted(set(shapes.values()))!s:.120}, expected one for all; try pictures of "
            "equal sides, all in colour or all in grey"
        )
    shape = shapes[names[0]]
    return shape, {name: damage(Path(name), shape, asked) for name in names}


def _scores_initial(rewind: str, criterion: str) -> bool:
    return rewind == "initial" and criterion in AT_INITIALISATION
