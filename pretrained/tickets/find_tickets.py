"""Finds the bundled tickets and writes ``catalogue.toml`` beside them, all from one seed.

    python pretrained/tickets/find_tickets.py

Tickets of the face generator learn from the generator's own draws; the mask for the untrained skip network is found
from noisy measurements of bundled photographs. The searches are kept in ``--work``: a run that was stopped goes on from
its last level, and tickets that are there already are not sought again. With ``--quick`` all is tiny, to try it out.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
import torch
from tqdm import tqdm

from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.pictures import PICTURES, picture
from cs_lip.evaluation.ticket_search import Fits
from cs_lip.files import atomic_path
from cs_lip.operators import Gaussian, Identity
from cs_lip.priors import Generator, load_generator, untrained_network
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.recovery import pose, recover
from cs_lip.seeding import derive_seed, stream
from cs_lip.tickets.distillation import Distillation, DistillationSettings, agreement
from cs_lip.tickets.levels import Levels
from cs_lip.tickets.lottery import search
from cs_lip.tickets.norms import absorbed
from cs_lip.tickets.retraining import Step
from cs_lip.tickets.search_settings import SearchSettings
from cs_lip.tickets.ticket import SUFFIX, Ticket, read_ticket, write_ticket
from cs_lip.tickets.transfer import about_generator, about_untrained, ticketed

SEED = 0
GENERATOR = "digiface-dcgan"

MEASUREMENTS = (500,)
"""Of every picture, by which the catalogue says how well a ticket recovers."""

RESTARTS = 5

FACES = ("astronaut", "chelsea")
"""Photographs that are recovered for the catalogue; the tables in the docs have more of them."""

SKIP_SHAPE, SKIP_NOISE = (3, 64, 64), 25 / 255
SKIP_PICTURES = tuple(name for name, entry in PICTURES.items() if entry.kind == "photograph")[:4]


@dataclass(frozen=True)
class Scale:
    """How long everything takes.

    Attributes:
        steps, final_steps: of distillation, at each level and at the end.
        fit_steps: of each fit of the skip network.
        rounds: of every search; the paper's 20 % a round are 3 for density 0.5 and 14 for 0.05.
        measurements: see `MEASUREMENTS`.
    """

    steps: int = 100
    final_steps: int = 1000
    fit_steps: int = 400
    rounds: int | None = 4
    measurements: tuple[int, ...] = MEASUREMENTS


QUICK = Scale(steps=1, final_steps=1, fit_steps=1, rounds=1, measurements=())

TEACHING = DistillationSettings(batch=16)
WEIGHTS = SearchSettings(1.0, allocation="erk", rewind="learning-rate", trained=True, seed=SEED)
CHANNELS = replace(WEIGHTS, allocation="uniform", granularity="channel")
MASK = SearchSettings(0.2, seed=SEED)


def find_generator_ticket(asked: SearchSettings, scale: Scale, folder: Path) -> Ticket:
    """A ticket of the face generator, by distillation."""
    dense = load_generator(GENERATOR)
    settings = replace(asked, steps=scale.steps, final_steps=scale.final_steps, rounds=scale.rounds)
    about = about_generator(GENERATOR)
    with Bars() as bars:
        return search(
            absorbed(dense), settings, Distillation(dense, TEACHING), folder, about=about, progress=bars.update
        )


def find_skip_mask(asked: SearchSettings, scale: Scale, folder: Path) -> Ticket:
    """One mask of the skip network for several pictures, each seen under noise of its own."""
    settings = replace(asked, steps=scale.fit_steps, rounds=scale.rounds)
    problems = []
    for name in SKIP_PICTURES:
        noise = torch.randn(1, *SKIP_SHAPE, generator=stream(SEED, f"noise/{name}"))
        problems.append(pose(Identity(SKIP_SHAPE), picture(name, SKIP_SHAPE).pixels + SKIP_NOISE * noise))
    about = about_untrained("skip", SKIP_SHAPE, SEED)
    about = replace(about, data=f"{', '.join(SKIP_PICTURES)}, noise {SKIP_NOISE:.3f}")
    network = untrained_network("skip", SKIP_SHAPE, SEED)
    with Bars() as bars:
        return search(network, settings, Fits(problems), folder, about=about, progress=bars.update)


Find = Callable[[Scale, Path], Ticket]

TICKETS: dict[str, tuple[str, Find]] = {
    **{
        f"{GENERATOR}-{density:g}".replace(".", ""): (
            f"the face generator with {density:.0%} of the hidden weights",
            partial(find_generator_ticket, replace(WEIGHTS, density=density)),
        )
        for density in (0.5, 0.2, 0.1, 0.05)
    },
    **{
        f"{GENERATOR}-channels-{density:g}".replace(".", ""): (
            f"the face generator with whole channels removed, at most {density:.0%} of the weights left",
            partial(find_generator_ticket, replace(CHANNELS, density=density)),
        )
        for density in (0.3, 0.1)
    },
    "skip-02": (
        f"a mask of the skip network with 20% of the hidden weights, from {len(SKIP_PICTURES)} noisy photographs",
        partial(find_skip_mask, MASK),
    ),
}
"""Name -> description, and how it is found."""


class Bars:
    """A bar for each training of a search."""

    def __init__(self) -> None:
        self.bar: Any = tqdm(disable=None, leave=False)
        self.level: object = None

    def update(self, step: Step) -> None:
        """Show one more step."""
        if step.level != self.level:
            self.level = step.level
            self.bar.set_description(f"level {step.level.index} of {step.level.of}")
            self.bar.reset(step.total)
        self.bar.update(step.done - self.bar.n)

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()


def recovered(generator: Generator, count: int) -> float:
    """The mean PSNR in dB of the photographs from ``count`` noiseless Gaussian measurements, by a short search."""
    operator = Gaussian(generator.image_shape, count, seed=derive_seed(SEED, "operator"))
    images = torch.stack([picture(name, generator.image_shape).pixels for name in FACES])
    with torch.no_grad():
        measurements = operator(images)
    found = recover(operator, measurements, generator, solver="latent-search", restarts=RESTARTS, seed=SEED).images
    return sum(psnr(one, truth) for one, truth in zip(found, images, strict=True)) / len(images)


def row(path: Path, description: str, scale: Scale) -> dict[str, Any]:
    """What the catalogue says of a ticket."""
    ticket = read_ticket(path)
    told: dict[str, Any] = {
        "file": path.name,
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "prior": ticket.about.prior,
        "density": round(ticket.mask.density, 6),
        "granularity": ticket.about.granularity,
        "criterion": ticket.about.criterion,
        "description": description,
        "licence": "MIT",
        "made_by": "find_tickets.py",
    }
    network = ticketed(ticket)
    if isinstance(network, Generator):
        dense = load_generator(GENERATOR).fold()
        told["agreement_db"] = round(agreement(network, dense, seed=SEED), 2)
        told["recovery"] = {str(count): round(recovered(network.fold(), count), 2) for count in scale.measurements}
    return told


def main() -> None:
    """Find what is not there yet, and write the catalogue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--work", type=Path, default=Path("tickets-work"))
    parser.add_argument("--only", choices=list(TICKETS), help="find this one alone")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    scale = QUICK if asked.quick else Scale()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, (_, find) in TICKETS.items():
        path = asked.out / f"{name}{SUFFIX}"
        if not path.is_file() and asked.only in (None, name):
            write_ticket(path, find(scale, asked.work / name))
            print(f"{path}: {path.stat().st_size} bytes, {Levels(asked.work / name).finished} levels", flush=True)
    there = {name: asked.out / f"{name}{SUFFIX}" for name in TICKETS}
    rows = {name: row(path, TICKETS[name][0], scale) for name, path in there.items() if path.is_file()}
    head = "# The bundled tickets: their files, the files' SHA-256, and what they are worth. Made by find_tickets.py."
    with atomic_path(asked.out / "catalogue.toml") as temporary:
        temporary.write_text(f"{head}\n\n{tomli_w.dumps(rows)}", encoding="utf-8")


if __name__ == "__main__":
    main()
