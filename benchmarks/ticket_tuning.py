"""Which weights of the face generator to tune to the measurements of a picture: all, a ticket's, others, or a layer's.

Run it with ``python benchmarks/ticket_tuning.py``, about 5 hours with a process on each of two cores. It prints a
table and writes it to ``ticket_tuning.md``, with every number behind it in ``ticket_tuning.json``, and draws
``docs/images/ticket_tuning.png`` (``--figure-only`` draws it again). Each finished cell is a line of
``ticket_tuning.jsonl``; the tickets are those that ``benchmarks/tickets.py`` leaves in its folder, and are found now
where they are not there.

Everything starts from one search of latents, and ends at the stop that held-out measurements choose: nothing knows the
truth. What does not move stays where it is in the trained generator; only the tickets' own generators (``own``) have
zeros there. ``--full`` has the three shifts of the default solver and all variants everywhere, ``--quick`` only shows
that everything runs.
"""

import copy
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recovery_quality import Kept, Stored, keep_found
from results_files import TARGETS, Row, claimed, code_hash, write_results
from resumable import measure_cells, resumable
from ticket_methods import Finder, Finding, drawn_by, finder
from ticket_tuning_report import figure, goals, table
from torch import Tensor

from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.pictures import picture
from cs_lip.evaluation.provenance import versions
from cs_lip.files import atomic_path
from cs_lip.operators import Gaussian
from cs_lip.priors import DCGAN, DEFAULT_GENERATOR, Generator, bundled_generators
from cs_lip.recovery import Adam, ImageAdaptive, LatentSearch, LevenbergMarquardt, Solver, recover
from cs_lip.recovery.tuning import Tuning
from cs_lip.seeding import derive_seed
from cs_lip.tickets import Mask
from cs_lip.tickets.controls import random_mask, shuffled

NAME = "ticket_tuning"
PICTURES = ("astronaut", "chelsea", "coffee", "rocket", "china", "retina")
MEASUREMENTS, NOISES = (500, 1000, 200, 2000, 5000), (0.05, 0.01)
DENSITIES, OTHERS = (0.2, 0.1), (0.5, 0.05)
LAYERS = 5
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

VARIANTS = (
    "search",
    "all",
    *(f"{kind}-{density:g}" for density in DENSITIES for kind in ("ticket", "random")),
    f"shuffled-{DENSITIES[0]:g}",
    "layer-2",
    *(f"last-{count}" for count in range(1, LAYERS)),
    *(f"{kind}-{density:g}" for density in OTHERS for kind in ("ticket", "random")),
    "own-0.2",
)
"""What a cell does, the most telling first."""

ASIDE = (*(f"layer-{layer}" for layer in (1, 3, 4, 5)), "search-own-0.2", "own-0.5", "search-own-0.5")
"""What is done at the first m and noise alone: it tells which layer to choose, and what a ticket's own latents find."""


@dataclass(frozen=True)
class Scale:
    """How large a run is: how the tickets were found, and what recovers."""

    finding: Finding
    search: Solver
    tuning: Tuning
    shifts: int
    pictures: tuple[str, ...]
    measurements: tuple[int, ...]
    noises: tuple[float, ...]


SEARCH = LatentSearch(restarts=10, last=None, refine=LevenbergMarquardt(20))
DEFAULT = Scale(Finding(), SEARCH, Tuning(), 1, PICTURES, MEASUREMENTS, NOISES)
FULL = Scale(Finding(), LatentSearch(), Tuning(), 3, PICTURES, MEASUREMENTS, NOISES)
QUICK = Scale(
    Finding(rounds=1, steps=1, final_steps=1, learned_steps=1, batch=4),
    Adam(steps=2, restarts=1),
    Tuning(iterations=10, folds=1),
    1,
    PICTURES[:2],
    (500,),
    (0.05,),
)


@dataclass(frozen=True)
class Bench:
    """What every cell of one run shares: ``truth`` is ``(pictures, channels, height, width)``."""

    scale: Scale
    finder: Finder
    truth: Tensor
    seed: int
    folder: Path

    def search(self, m: int, noise: float, name: str) -> Path:
        """Where what a search found is kept."""
        return self.folder / f"{m}-{noise:g}-{name}.npz"


# The weights


def chosen_weights(found: Finder, name: str, seed: int) -> dict[str, Tensor] | None:
    """The weights of the folded dense generator that a variant moves, biases never among them; None for all."""
    kind, _, value = name.partition("-")
    if kind == "ticket":
        return folded_mask(found.dense, found.ticket("magnitude", float(value), 0).mask)
    if kind == "shuffled":
        return folded_mask(found.dense, shuffled(found.ticket("magnitude", float(value), 0).mask, seed))
    if kind == "random":
        return folded_mask(found.dense, random_mask(Mask.dense(found.dense), float(value), seed))
    if kind in ("layer", "last"):
        layers = {other: weights for other, weights in found.dense.fold().named_parameters() if weights.dim() > 1}
        names = list(layers)[-int(value) :] if kind == "last" else list(layers)[int(value) - 1 : int(value)]
        return {other: torch.ones_like(layers[other], dtype=torch.bool) for other in names}
    return None


def folded_mask(dense: DCGAN, mask: Mask) -> dict[str, Tensor]:
    """What a mask keeps of the hidden layers, by their names in the folded generator."""
    masked = copy.deepcopy(dense)
    mask.apply_(masked)
    folded = masked.fold()
    return dict(Mask.measured(folded, folded.weight_groups()["hidden"]).kept)


def share(generator: Generator, moving: dict[str, Tensor] | None) -> float:
    """The fraction of the weights of all layers, biases not counted, that moves; of a ticket's own what is not zero."""
    weights = {name: values for name, values in generator.fold().named_parameters() if values.dim() > 1}
    moved = {name: values != 0 for name, values in weights.items()} if moving is None else moving
    return sum(int(moves.sum()) for moves in moved.values()) / sum(values.numel() for values in weights.values())


# The measurements


def measured(bench: Bench, m: int, noise: float, name: str) -> Row:
    """One way to recover all pictures."""
    began = time.perf_counter()
    own = name.removeprefix("search-").startswith("own-")
    found, scale = bench.finder, bench.scale
    generator = drawn_by(found.ticket("magnitude", float(name.rpartition("-")[2]), 0)) if own else found.dense
    operator = Gaussian(generator.image_shape, m, seed=derive_seed(bench.seed, "operator"))
    values = acquire(operator, bench.truth, noise=noise, seed=bench.seed)
    searches, moving = name.startswith("search"), chosen_weights(found, name, bench.seed)
    start = bench.search(m, noise, f"search-{name.removeprefix('search-')}" if own else "search")
    with claimed(bench.folder, start.name):
        if not start.is_file():
            first = recover(operator, values, generator, solver=scale.search, noise=noise, seed=bench.seed)
            keep_found(start, first, values)
    blind = Kept(bench.folder / f"blind-{start.stem}", ImageAdaptive().blind)
    tuned = ImageAdaptive(Stored(start), scale.tuning, scale.shifts, moving, blind)
    solver = Stored(start) if searches else tuned
    recovery = recover(operator, values, generator, solver=solver, noise=noise, seed=bench.seed)
    return {
        "psnr": [psnr(*pair) for pair in zip(recovery.images, bench.truth, strict=True)],
        "share": 0.0 if searches else share(generator, moving),
        "iterations": [note.get("iteration") for note in recovery.notes],
        "seconds": time.perf_counter() - began,
    }


# The command


def configuration(bench: Bench) -> dict[str, Any]:
    """All that a cell depends on besides its own name, but for the machine, which every row says for itself."""
    return {
        "seed": bench.seed,
        "scale": asdict(bench.scale),
        "search": type(bench.scale.search).__name__,
        "generator": {"name": DEFAULT_GENERATOR, "sha256": bundled_generators()[DEFAULT_GENERATOR].sha256},
        "code": code_hash((*TARGETS, "operators", "priors", "recovery", "tickets")),
        "versions": versions(),
    }


def cells(bench: Bench, full: bool) -> dict[str, Callable[[], Row]]:
    """Every cell by name; `full` is for all variants everywhere."""
    places = [(m, noise) for m in bench.scale.measurements for noise in bench.scale.noises]
    return {
        f"{m}/{noise:g}/{name}": partial(measured, bench, m, noise, name)
        for m, noise in places
        for name in (VARIANTS + ASIDE if full or (m, noise) == places[0] else VARIANTS)
    }


def draw(out: Path) -> None:
    """The figure, from what a run stored."""
    whole = json.loads((out / f"{NAME}.json").read_text(encoding="utf-8"))
    with atomic_path(IMAGES / f"{NAME}.png") as temporary:
        figure(whole["rows"], whole["configuration"]).savefig(temporary, dpi=110, format="png")


def write(out: Path, todo: list[str], config: dict[str, Any], rows: dict[str, Row], command: str) -> str:
    text = table(rows, todo, config, command)
    whole = {"command": command, "configuration": config, "todo": todo, "goals": goals(rows, config), "rows": rows}
    write_results(out, NAME, whole, text)
    return text


@resumable(__doc__, full="The default search, three shifts, and all variants everywhere.")
def main(full: bool, quick: bool, figure_only: bool, only: str | None, seed: int, out: Path) -> None:
    if figure_only:
        draw(out)
        return
    scale = QUICK if quick else FULL if full else DEFAULT
    found_by = finder(scale.finding, out, code_hash(("priors", "tickets")))
    truth = torch.stack([picture(name, found_by.dense.image_shape).pixels for name in scale.pictures])
    bench = Bench(scale, found_by, truth, seed, out)
    config = configuration(bench)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    todo = cells(replace(bench, folder=out / f"{NAME}-{digest}"), full)
    measure_cells(out / f"{NAME}.jsonl", config, todo, only, partial(write, out, list(todo), config))
    if not quick:
        draw(out)


if __name__ == "__main__":
    main()
