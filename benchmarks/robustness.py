"""Recovery from measurements of which some are bad: every fidelity beside clean measurements with least squares.

Run it with ``python benchmarks/robustness.py``. It prints a table and writes it to ``robustness.md``, with every
number behind it in ``robustness.json``. Each finished recovery is a line of ``robustness.jsonl``, so that a run which
was stopped goes on where it ended.

1000 Gaussian measurements with noise 0.01; 2 % of them are gross outliers (980 good and 20 bad, as in the experiments
of Jalal et al. 2020 and of the lottery image priors), or all have heavy-tailed errors. The fidelities reckon with a
contamination of 5 %, more than there is, as one who does not know would. Targets are unseen draws of the generator and
photographs.
"""

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from machine import described, machine
from results_files import Row, code_hash, measured_rows, write_results
from torch import Tensor

from cs_lip.evaluation.acquisition import OUTLIER_KINDS, Outliers, acquire
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.pictures import picture
from cs_lip.evaluation.provenance import versions
from cs_lip.operators import Gaussian
from cs_lip.priors import DEFAULT_GENERATOR, Generator, bundled_generators, load_generator
from cs_lip.recovery import LatentSearch, recover
from cs_lip.recovery.fidelity import FIDELITIES
from cs_lip.recovery.median_of_means import MedianOfMeans
from cs_lip.recovery.min_max import MinMax
from cs_lip.seeding import derive_seed, stream

NAME = "robustness"
M, NOISE, OUTLIERS, CONTAMINATION, RESTARTS = 1000, 0.01, 0.02, 0.05, 5
DRAWS, PHOTOGRAPHS = 2, ("astronaut", "chelsea")
MIN_MAX = "min-max (Jalal et al.)"
METHODS = (*FIDELITIES, MIN_MAX)
CLEAN = "clean"


def targets(generator: Generator, seed: int) -> dict[str, Tensor]:
    latents = generator.sample_latents(DRAWS, generator=stream(seed, "data"))
    with torch.no_grad():
        drawn = {f"draw-{index + 1}": image[None] for index, image in enumerate(generator(latents))}
    return drawn | {name: picture(name, generator.image_shape).pixels[None] for name in PHOTOGRAPHS}


def cells(generator: Generator, seed: int) -> dict[str, Callable[[], Row]]:
    todo: dict[str, Callable[[], Row]] = {}
    for name, image in targets(generator, seed).items():
        for kind in (CLEAN, *OUTLIER_KINDS):
            for method in METHODS if kind != CLEAN else (METHODS[0],):
                todo[f"{name}/{kind}/{method}"] = partial(search, generator, image, kind, method, seed)
    return todo


def search(generator: Generator, image: Tensor, kind: str, method: str, seed: int) -> Row:
    operator = Gaussian(generator.image_shape, M, seed=derive_seed(seed, "operator"))
    outliers = None if kind == CLEAN else Outliers(OUTLIERS, kind)
    values = acquire(operator, image, noise=NOISE, seed=seed, outliers=outliers)
    game = method == MIN_MAX
    fidelity = MedianOfMeans(CONTAMINATION) if game else FIDELITIES[method](CONTAMINATION)
    solver = MinMax(restarts=RESTARTS) if game else LatentSearch(restarts=RESTARTS)
    began = time.perf_counter()
    found = recover(operator, values, generator, solver=solver, fidelity=fidelity, noise=NOISE, seed=seed)
    seconds = time.perf_counter() - began
    return {"psnr": float(psnr(found.images[0], image[0])), "status": found.status[0].value, "seconds": seconds}


def table(rows: dict[str, Row], config: dict[str, Any], command: str) -> str:
    names = [f"draw-{index + 1}" for index in range(DRAWS)] + list(PHOTOGRAPHS)
    lines = [
        "| measurements | fidelity | " + " | ".join(names) + " | largest loss |",
        "| --- | --- |" + " ---: |" * (len(names) + 1),
    ]
    clean = np.array([rows[f"{name}/{CLEAN}/{METHODS[0]}"]["psnr"] for name in names])
    for kind in (CLEAN, *OUTLIER_KINDS):
        for method in METHODS if kind != CLEAN else (METHODS[0],):
            values = np.array([rows[f"{name}/{kind}/{method}"]["psnr"] for name in names])
            numbers = " | ".join(f"{value:.2f}" for value in values)
            lines.append(f"| {kind} | {method} | {numbers} | {(clean - values).max():.2f} |")
    software, hardware = config["versions"], config["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"PSNR in dB; the loss is against clean measurements. m = {M}, noise {NOISE:g}, outliers {OUTLIERS:g}, "
            f"contamination reckoned with {CONTAMINATION:g}.",
            "",
            f"- `LatentSearch` with {RESTARTS} starts, or the game of two players where it says so; generator "
            f"`{DEFAULT_GENERATOR}`, seed {config['seed']}.",
            "- Goal: with gross outliers, trimmed or median of means lose at most 1 dB where least squares loses more "
            "than 8.",
            f"- {described(hardware, software)} Made by `{command}`.",
            "",
        ]
    )


def configuration(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "generator": {"name": DEFAULT_GENERATOR, "sha256": bundled_generators()[DEFAULT_GENERATOR].sha256},
        "m": M,
        "noise": NOISE,
        "outliers": OUTLIERS,
        "contamination": CONTAMINATION,
        "restarts": RESTARTS,
        "code": code_hash(("evaluation", "operators", "priors", "recovery")),
        "machine": machine(),
        "versions": versions(),
    }


@click.command(help=__doc__)
@click.option("--seed", type=click.IntRange(0), default=2024, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(seed: int, out: Path) -> None:
    log, config = out / f"{NAME}.jsonl", configuration(seed)
    todo = cells(load_generator(DEFAULT_GENERATOR), seed)
    rows = measured_rows(log, config, todo)
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    text = table(rows, config, command)
    whole = {"command": command, "configuration": config, "rows": rows}
    write_results(out, NAME, whole, text)
    click.echo(text)


if __name__ == "__main__":
    main()
