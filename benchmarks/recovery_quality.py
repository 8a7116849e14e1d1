"""How well every solver recovers: the error against the number of measurements, for images in range and real pictures.

Run it with ``python benchmarks/recovery_quality.py``. It prints a table and writes it to ``recovery_quality.md``, with
every number behind it in ``recovery_quality.json``, and draws ``docs/images/recovery_quality.png`` and
``recovery_quality_examples.png`` (``--figure-only`` draws them again from what is stored). Each finished cell, a solver
at one number of measurements on all targets, is a line of ``recovery_quality.jsonl``, and its images are a file in a
folder beside it, so that a run which was stopped goes on where it ended.

Targets are unseen draws of the generator and real pictures; the operator is Gaussian with entries of variance 1/m. To
fit into hours, the solvers that start from latents share one search at each m, that of ``auto``, and ``auto`` chooses
among the results of this very run for the search, the tuned generator and total variation, which is what it would
compute itself (the search then stands for ``latent-search``, which by default goes on for longer). ``--full`` lets each
solver compute all by itself, on more targets and with CSGM's protocol and the other searches besides; that takes days.
"""

import hashlib
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from machine import machine
from recovery_quality_report import (
    SHOWN,
    SHOWN_AT,
    SHOWN_SOLVERS,
    Results,
    example_figure,
    figure,
    goals,
    table,
)
from results_files import Row, append_row, claimed, code_hash, stored_rows, write_results
from torch import Tensor
from tqdm import tqdm

from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.pictures import PICTURES, picture
from cs_lip.evaluation.provenance import versions
from cs_lip.files import atomic_path
from cs_lip.operators import Gaussian
from cs_lip.priors import DEFAULT_GENERATOR, Encoder, Generator, bundled_generators, load_generator, load_start
from cs_lip.recovery import SOLVERS, Auto, Found, ImageAdaptive, Recovery, Solver, Status, Task, recover
from cs_lip.seeding import derive_seed, stream

NAME = "recovery_quality"
MEASUREMENTS = (500, 2500, 100, 5000, 20, 1000, 10000)
"""The most telling first, should somebody stop the run."""

NOISE = 0.01
DRAWS, PHOTOGRAPHS = 4, ("astronaut", "chelsea", "coffee", "rocket", "china", "retina")
FULL_DRAWS, FULL_PHOTOGRAPHS = 20, tuple(name for name, entry in PICTURES.items() if entry.kind == "photograph")

CORE = ("latent-search", "image-adaptive", "tv", "auto", "lasso-wavelet", "lasso-dct", "linear-estimate")
"""In this order: each takes up the results of those before it. They run at every m before the others begin."""

OTHERS = ("sparse-deviation", "intermediate-layers", "npgd", "omp")
OTHERS_UP_TO = 2500
"""Measurements up to which the others run; with ``--full`` they run at every m."""

BEYOND = ("image-adaptive", "intermediate-layers", "sparse-deviation")
"""They go on from a search of latents."""

LEFT_OUT = ("untrained",)
"""An untrained network has a benchmark of its own."""

KEPT_NOTES = ("chosen", "reason", "kept", "iteration", "iterations", "held_out_misfit", "lambda", "layer", "columns")
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
# The measurements


@dataclass(frozen=True)
class Bench:
    """What every cell of one run shares: ``targets`` maps names to images ``(channels, height, width)``."""

    generator: Generator
    encoder: Encoder | None
    targets: dict[str, Tensor]
    seed: int
    full: bool
    folder: Path

    def file(self, m: int, solver: str) -> Path:
        """Where the images of a cell are kept."""
        return self.folder / f"{m}-{solver}.npz"

    def solver(self, m: int, name: str) -> Solver:
        """The solver of a cell, with what it shares taken from the cells before."""
        if self.full:
            return SOLVERS[name]()
        search = Stored(self.file(m, "latent-search"))
        if name == "latent-search":
            return Auto().search
        if name == "auto":
            tuned = StoredAdaptive(path=self.file(m, "image-adaptive"))
            return Auto(search=search, beyond=tuned, rivals=(Stored(self.file(m, "tv")),))
        if name in BEYOND:
            return replace(SOLVERS[name](), search=search)  # type: ignore[type-var]
        return SOLVERS[name]()


@dataclass(frozen=True)
class Stored:
    """A solver that has found already, in this run and from the same measurements, what it is asked for."""

    path: Path

    def recover(self, task: Task) -> Found:
        return read_found(self.path, task)


@dataclass(frozen=True)
class StoredAdaptive(ImageAdaptive):
    """The same in the place of `ImageAdaptive`."""

    path: Path = field(kw_only=True)

    def improved(self, task: Task, start: Found) -> Found:
        return read_found(self.path, task)


@dataclass(frozen=True)
class Kept:
    """A solver that keeps in a file what it found, for whoever asks for the same images by the same measurements.

    Attributes:
        place: a folder, and what the names of the files in it begin with.
    """

    place: Path
    solver: Solver

    def recover(self, task: Task) -> Found:
        path = self.place.with_name(f"{self.place.name}-{_digest(task.problem.measurements)}.npz")
        with claimed(path.parent, path.name):
            if not path.is_file():
                keep_found(path, self.solver.recover(task), task.problem.measurements)
        return read_found(path, task)


def read_found(path: Path, task: Task) -> Found:
    """What a cell found for the images of a task, which are told by their measurements.

    Raises:
        ValueError: the cell found nothing for one of them.
    """
    if not path.is_file():
        raise ValueError(f"got no result of {path.stem}, expected that it ran before; try to see why it did not")
    with np.load(path) as stored:
        kept = {name: stored[name] for name in stored.files}
    same = (task.problem.measurements[:, None] == torch.from_numpy(kept["measurements"])).all(2)
    if not same.any(1).all():
        raise ValueError(f"got other measurements than those of {path.stem}, expected the same; try a fresh --out")
    rows = same.int().argmax(1)
    images = torch.from_numpy(kept["images"])[rows]
    with torch.no_grad():
        residual = task.problem.residual(images, torch.arange(len(rows)))
    notes, status = json.loads(str(kept["notes"])), kept["status"].tolist()
    return Found(
        images,
        residual,
        tuple(Status(status[row]) for row in rows.tolist()),
        torch.from_numpy(kept["latents"])[rows] if "latents" in kept else None,
        tuple(notes[row] for row in rows.tolist()),
    )


def keep_found(path: Path, recovery: Recovery | Found, measurements: Tensor) -> None:
    arrays: dict[str, Any] = {
        "images": recovery.images.numpy(),
        "measurements": measurements.numpy(),
        "status": np.array([status.value for status in recovery.status]),
        "notes": np.array(json.dumps(recovery.notes or [{}] * len(measurements))),
    }
    if recovery.latents is not None:
        arrays["latents"] = recovery.latents.detach().numpy()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def cells(names: Sequence[str], full: bool) -> list[tuple[int, str]]:
    """Every cell, (m, solver): what is required first."""
    core, others = ([name for name in group if name in names] for group in (CORE, (*OTHERS, *names)))
    others = [name for name in dict.fromkeys(others) if name not in CORE]
    reach = max(MEASUREMENTS) if full else OTHERS_UP_TO
    return [(m, name) for m in MEASUREMENTS for name in core] + [
        (m, name) for m in MEASUREMENTS if m <= reach for name in others
    ]


def measure(bench: Bench, m: int, name: str) -> Row:
    """One solver on all targets; that it refuses so few or so many measurements is an answer."""
    truth = torch.stack(list(bench.targets.values()))
    operator = Gaussian(tuple(truth.shape[1:]), m, seed=derive_seed(bench.seed, "operator"))
    values = acquire(operator, truth, noise=NOISE, seed=bench.seed)
    began = time.perf_counter()
    try:
        recovery = recover(
            operator,
            values,
            bench.generator,
            solver=bench.solver(m, name),
            noise=NOISE,
            encoder=bench.encoder,
            seed=bench.seed,
        )
    except ValueError as refused:
        return {"refused": str(refused), "seconds": time.perf_counter() - began}
    keep_found(bench.file(m, name), recovery, values)
    return {
        "psnr": [psnr(*pair) for pair in zip(recovery.images, truth, strict=True)],
        "status": [status.value for status in recovery.status],
        "notes": [{key: note[key] for key in KEPT_NOTES if key in note} for note in recovery.notes],
        "seconds": time.perf_counter() - began,
    }


def targets(generator: Generator, seed: int, full: bool) -> dict[str, Tensor]:
    """Pictures first, so that ``auto`` holds out the same measurements of them as total variation by itself."""
    count, names = (FULL_DRAWS, FULL_PHOTOGRAPHS) if full else (DRAWS, PHOTOGRAPHS)
    latents = [generator.sample_latents(1, generator=stream(seed, f"benchmark-targets/{i}")) for i in range(count)]
    with torch.no_grad():
        drawn = generator(torch.cat(latents))
    pictures = {name: picture(name, generator.image_shape).pixels for name in names}
    return pictures | {f"draw-{index + 1}": image for index, image in enumerate(drawn)}


def configuration(names: Sequence[str], bench: Bench) -> dict[str, Any]:
    """All that a cell depends on besides its own name."""
    entry = bundled_generators()[DEFAULT_GENERATOR]
    return {
        "seed": bench.seed,
        "full": bench.full,
        "generator": {"name": DEFAULT_GENERATOR, "sha256": entry.sha256},
        "learned_start": None if bench.encoder is None else _digest(*bench.encoder.state_dict().values()),
        "targets": {name: _digest(image) for name, image in bench.targets.items()},
        "noise": NOISE,
        "solvers": {name: asdict(SOLVERS[name]()) for name in names},  # type: ignore[call-overload]
        "code": code_hash(("evaluation", "operators", "priors", "recovery")),
        "machine": machine(),
        "versions": versions(),
    }


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# The files


def collect_examples(bench: Bench) -> dict[str, Any]:
    """The images that the second figure shows, in 8 bits, by ``truth`` and ``m/solver``."""
    names = list(bench.targets)
    truth = torch.stack([bench.targets[name] for name in SHOWN]).numpy()
    images = {"truth": truth}
    for m in SHOWN_AT:
        for solver in SHOWN_SOLVERS:
            if bench.file(m, solver).is_file():
                with np.load(bench.file(m, solver)) as stored:
                    images[f"{m}/{solver}"] = stored["images"][[names.index(name) for name in SHOWN]]
    return {name: np.round(255 * values).astype(np.uint8) for name, values in images.items()}


def draw(out: Path) -> None:
    """Both figures, from what a run stored."""
    whole = json.loads((out / f"{NAME}.json").read_text(encoding="utf-8"))
    results = results_of(whole["rows"], whole["configuration"])
    with np.load(out / f"{NAME}_examples.npz") as stored:
        examples = {name: stored[name] for name in stored.files}
    drawings = {f"{NAME}.png": figure(results), f"{NAME}_examples.png": example_figure(examples, results)}
    for name, drawing in drawings.items():
        with atomic_path(IMAGES / name) as temporary:
            drawing.savefig(temporary, dpi=110, format="png")


# The command


def cell_name(m: int, solver: str) -> str:
    return f"m={m}/{solver}"


def results_of(rows: dict[str, Row], config: dict[str, Any]) -> Results:
    keys = {cell: cell.removeprefix("m=").split("/") for cell in rows}
    return Results({(int(keys[cell][0]), keys[cell][1]): row for cell, row in rows.items()}, tuple(config["targets"]))


def write(out: Path, rows: dict[str, Row], bench: Bench, config: dict[str, Any], command: str) -> str:
    """Everything but the figures, of the cells so far."""
    results = results_of(rows, config)
    text = table(results, config, command)
    whole = {"command": command, "configuration": config, "goals": goals(results), "rows": rows}
    write_results(out, NAME, whole, text)
    with atomic_path(out / f"{NAME}_examples.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **collect_examples(bench))
    return text


@click.command(help=__doc__)
@click.option("--full", is_flag=True, help="Every solver by itself on its defaults, and more targets.")
@click.option("--figure-only", is_flag=True, help="Draw the figures of the stored results, and measure nothing.")
@click.option("--seed", type=click.IntRange(0), default=2025, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(full: bool, figure_only: bool, seed: int, out: Path) -> None:
    if figure_only:
        draw(out)
        return
    generator, wanted = load_generator(DEFAULT_GENERATOR), SOLVERS if full else (*CORE, *OTHERS)
    names = [name for name in SOLVERS if name in wanted and name not in LEFT_OUT]
    bench = Bench(generator, load_start(DEFAULT_GENERATOR), targets(generator, seed, full), seed, full, out)
    config = configuration(names, bench)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    bench = replace(bench, folder=out / f"{NAME}-{digest}")
    bench.folder.mkdir(parents=True, exist_ok=True)
    (bench.folder / ".gitignore").write_text("*\n", encoding="utf-8")  # images of a run that may go on, not results

    log, todo = out / f"{NAME}.jsonl", cells(names, full)
    done = stored_rows(log, config)
    rows = {
        cell_name(*cell): done[cell_name(*cell)]
        for cell in todo
        if cell_name(*cell) in done and ("refused" in done[cell_name(*cell)] or bench.file(*cell).is_file())
    }
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    for m, solver in tqdm([cell for cell in todo if cell_name(*cell) not in rows], disable=None):
        rows[cell_name(m, solver)] = measure(bench, m, solver)
        append_row(log, config, cell_name(m, solver), rows[cell_name(m, solver)])
        write(out, rows, bench, config, command)
    click.echo(write(out, rows, bench, config, command))
    draw(out)


if __name__ == "__main__":
    main()
