"""How good tickets of the face generator are: every criterion and control over densities, and the speed of channels.

Run it with ``python benchmarks/tickets.py``, about 6 hours with a process on each of two cores. It prints a table and
writes it to ``tickets.md``, with every number behind it in ``tickets.json``, and draws ``tickets.png`` and
``tickets_range.png`` in ``docs/images`` (``--figure-only`` draws them again from what is stored). Each finished ticket
is a line of ``tickets.jsonl``, and the ticket itself a file in a folder beside it, so that a run which was stopped goes
on where it ended.

Every ticket recovers, by the same search of latents, three kinds of targets that are never mixed: real pictures, draws
of the dense generator (how much of its range was kept), and draws of its own without noise (whether it is a sound
prior). All tickets have as many steps of distillation; nothing is chosen by the targets. ``--full`` has longer
training, the default search and more targets, and takes days; ``--quick`` only shows that everything runs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from results_files import TARGETS, Row, code_hash, write_results
from resumable import measure_cells, resumable
from ticket_methods import METHODS, Finder, Finding, drawn_by, finder, share
from tickets_figures import figure, range_figure
from tickets_report import goals, read_results, table, verdicts
from torch import Tensor

from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.metrics import mse, psnr
from cs_lip.evaluation.pictures import PICTURES, picture
from cs_lip.evaluation.provenance import versions
from cs_lip.files import atomic_path
from cs_lip.operators import Gaussian
from cs_lip.priors import DEFAULT_GENERATOR, Generator, bundled_generators
from cs_lip.recovery import Adam, LatentSearch, LevenbergMarquardt, recover
from cs_lip.recovery.latent_solver import LatentSolver
from cs_lip.seeding import derive_seed, stream
from cs_lip.tickets import time_prior
from cs_lip.tickets.distillation import agreement

NAME = "tickets"
NOISE = 0.01
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
OWN_AT, OWN_COUNTED = 500, 20
"""Measurements of a ticket's own draws, and how many of them where the goal counts those that are exact."""

FIRST_METHODS, FIRST_DENSITIES = ("magnitude", "random", "channels"), 2
"""What the goals speak of: these come first."""

SEEDED_METHODS = ("magnitude", "random")
"""Those of several seeds."""

SEARCH = LatentSearch(restarts=10, last=None, refine=LevenbergMarquardt(20))
OWN_SEARCH = LatentSearch(restarts=30, last=None)


@dataclass(frozen=True)
class Scale:
    """How large a run is.

    Attributes:
        finding: of the tickets.
        densities: of weights and of channels, the most telling first.
        measurements: of every target.
        pictures, draws: targets.
        seeds: of the tickets by magnitude and of the random ones; the others have one.
        search, own_search: of latents.
        own: draws of every ticket.
        pairs: of timings.
    """

    finding: Finding = field(default_factory=Finding)
    densities: tuple[float, ...] = (0.2, 0.1, 0.5, 0.05)
    channel_densities: tuple[float, ...] = (0.2, 0.1)
    measurements: tuple[int, ...] = (100, 500, 2500)
    pictures: tuple[str, ...] = ("astronaut", "chelsea", "coffee", "rocket", "china", "retina")
    draws: int = 4
    seeds: int = 3
    search: LatentSolver = field(default_factory=lambda: SEARCH)
    own_search: LatentSolver = field(default_factory=lambda: OWN_SEARCH)
    own: int = 4
    own_counted: int = OWN_COUNTED
    pairs: int = 11


FULL = Scale(
    Finding(rounds=7, steps=300, final_steps=3000, learned_steps=5000, batch=32),
    channel_densities=(0.2, 0.1, 0.3, 0.05),
    pictures=tuple(name for name, entry in PICTURES.items() if entry.kind == "photograph"),
    draws=20,
    search=LatentSearch(),
    own=20,
)
QUICK = Scale(
    Finding(rounds=1, steps=1, final_steps=1, learned_steps=1, batch=4),
    densities=(0.2,),
    channel_densities=(0.2,),
    measurements=(500,),
    pictures=("astronaut", "coffee"),
    draws=2,
    seeds=2,
    search=Adam(steps=2, restarts=1),
    own_search=Adam(steps=2, restarts=1),
    own=1,
    own_counted=2,
    pairs=1,
)


@dataclass(frozen=True)
class Bench:
    """What every cell of one run shares: targets ``(images, channels, height, width)`` by kind."""

    scale: Scale
    finder: Finder
    targets: dict[str, Tensor]
    seed: int


def targets(dense: Generator, scale: Scale, seed: int) -> dict[str, Tensor]:
    pictures = torch.stack([picture(name, dense.image_shape).pixels for name in scale.pictures])
    latents = dense.sample_latents(scale.draws, generator=stream(seed, "benchmark-targets"))
    with torch.no_grad():
        return {"real pictures": pictures, "draws of the dense generator": dense(latents)}


# The measurements


def recovered(bench: Bench, generator: Generator) -> dict[str, dict[str, list[float]]]:
    """PSNR of every target, by its kind and the number of measurements."""
    levels: dict[str, dict[str, list[float]]] = {}
    for kind, truth in bench.targets.items():
        levels[kind] = {}
        for m in bench.scale.measurements:
            operator = Gaussian(generator.image_shape, m, seed=derive_seed(bench.seed, "operator"))
            values = acquire(operator, truth, noise=NOISE, seed=bench.seed)
            found = recover(operator, values, generator, solver=bench.scale.search, noise=NOISE, seed=bench.seed)
            levels[kind][str(m)] = [psnr(*pair) for pair in zip(found.images, truth, strict=True)]
    return levels


def own_errors(bench: Bench, generator: Generator, count: int) -> list[float]:
    """The mean squared error of draws of the generator itself, from measurements without noise."""
    latents = generator.sample_latents(count, generator=stream(bench.seed, "own-targets"))
    with torch.no_grad():
        truth = generator(latents)
    operator = Gaussian(generator.image_shape, OWN_AT, seed=derive_seed(bench.seed, "operator"))
    values = acquire(operator, truth, noise=0.0, seed=bench.seed)
    found = recover(operator, values, generator, solver=bench.scale.own_search, seed=bench.seed)
    return [mse(*pair) for pair in zip(found.images, truth, strict=True)]


def measured_dense(bench: Bench) -> Row:
    began = time.perf_counter()
    dense = bench.finder.dense
    row = {"share": 1.0, "psnr": recovered(bench, dense), "own_mse": own_errors(bench, dense, bench.scale.own)}
    return row | {"seconds": time.perf_counter() - began}


def measured(bench: Bench, method: str, density: float, seed: int) -> Row:
    """A ticket: found, and what it recovers."""
    began = time.perf_counter()
    ticket = bench.finder.ticket(method, density, seed)
    finding_seconds = time.perf_counter() - began
    generator, counted = drawn_by(ticket), method == "magnitude" and density == 0.2 and seed == 0
    return {
        "density": ticket.mask.density,
        "share": share(ticket),
        "agreement_db": agreement(generator.fold(), bench.finder.dense.fold(), seed=bench.seed),
        "psnr": recovered(bench, generator),
        "own_mse": own_errors(bench, generator, bench.scale.own_counted if counted else bench.scale.own),
        "finding_seconds": finding_seconds,
        "seconds": time.perf_counter() - began,
    }


def timed(bench: Bench, density: float) -> Row:
    """Milliseconds forward and backward at batch 10, and seconds of a whole recovery: dense and compacted in turns."""
    pair = (bench.finder.dense, drawn_by(bench.finder.ticket("channels", density, 0)))
    truth = bench.targets["real pictures"][:1]
    operator = Gaussian(pair[0].image_shape, OWN_AT, seed=derive_seed(bench.seed, "operator"))
    values = acquire(operator, truth, noise=NOISE, seed=bench.seed)

    def step(generator: Generator) -> float:
        timing = time_prior(generator, repeats=3)
        return timing.forward_ms + timing.backward_ms

    def whole(generator: Generator) -> float:
        began = time.perf_counter()
        recover(operator, values, generator, solver=bench.scale.search, noise=NOISE, seed=bench.seed)
        return time.perf_counter() - began

    for generator in pair:
        step(generator)  # what is slow only once
    return {
        "step_ms": [[step(generator) for generator in pair] for _ in range(bench.scale.pairs)],
        "recover_seconds": [[whole(generator) for generator in pair] for _ in range(max(1, bench.scale.pairs // 3))],
    }


def cells(bench: Bench) -> dict[str, Callable[[], Row]]:
    """Every cell by name, what the goals ask for first."""
    todo: dict[str, Callable[[], Row]] = {"dense": partial(measured_dense, bench)}
    scale = bench.scale

    def add(methods: Sequence[str], densities: Sequence[float], seed: int = 0) -> None:
        for density in densities:
            for method in methods:
                if method != "channels" or density in scale.channel_densities:
                    todo[f"{method}/{density:g}/{seed}"] = partial(measured, bench, method, density, seed)
                    if method == "channels":
                        todo[f"speed/{density:g}"] = partial(timed, bench, density)

    first, others = scale.densities[:FIRST_DENSITIES], scale.densities[FIRST_DENSITIES:]
    add(FIRST_METHODS, first)
    add([method for method in METHODS if method not in FIRST_METHODS], first)
    add(list(METHODS), others)
    for seed in range(1, scale.seeds):
        add(SEEDED_METHODS, scale.densities, seed)
    return todo


# The command


def configuration(bench: Bench) -> dict[str, Any]:
    """All that a cell depends on besides its own name, but for the machine, which every row says for itself."""
    return {
        "seed": bench.seed,
        "scale": asdict(bench.scale),
        "solvers": {name: type(getattr(bench.scale, name)).__name__ for name in ("search", "own_search")},
        "noise": NOISE,
        "own_at": OWN_AT,
        "generator": {"name": DEFAULT_GENERATOR, "sha256": bundled_generators()[DEFAULT_GENERATOR].sha256},
        "code": code_hash((*TARGETS, "operators", "priors", "recovery", "tickets")),
        "versions": versions(),
    }


def draw(out: Path) -> None:
    """The figures, from what a run stored."""
    whole = read_results(out / f"{NAME}.json")
    for name, drawing in ((NAME, figure(whole)), (f"{NAME}_range", range_figure(whole))):
        with atomic_path(IMAGES / f"{name}.png") as temporary:
            drawing.savefig(temporary, dpi=110, format="png")


def write(out: Path, todo: list[str], config: dict[str, Any], rows: dict[str, Row], command: str) -> str:
    told = {"goals": goals(rows, config), "verdicts": verdicts(rows, config)}
    whole = {"command": command, "configuration": config, "todo": todo, **told, "rows": rows}
    text = table(rows, todo, config, command)
    write_results(out, NAME, whole, text)
    return text


@resumable(__doc__, full="Longer training, the default search, and more targets.")
def main(full: bool, quick: bool, figure_only: bool, only: str | None, seed: int, out: Path) -> None:
    if figure_only:
        draw(out)
        return
    scale = QUICK if quick else FULL if full else Scale()
    found_by = finder(scale.finding, out, code_hash(("priors", "tickets")))
    bench = Bench(scale, found_by, targets(found_by.dense, scale, seed), seed)
    config, todo = configuration(bench), cells(bench)
    measure_cells(out / f"{NAME}.jsonl", config, todo, only, partial(write, out, list(todo), config))
    if not quick:
        draw(out)


if __name__ == "__main__":
    main()
