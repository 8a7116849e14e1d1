"""Is the uncertainty right? Bands of noisy in-range recoveries against the truth, and Laplace against Langevin.

Run it with ``python benchmarks/uncertainty.py``. It prints a table and writes it to ``uncertainty.md``, with every
number behind it in ``uncertainty.json``. Each finished batch is a line of ``uncertainty.jsonl``, so that a run which
was stopped goes on where it ended.

Targets are unseen draws of the face generator; 500 Gaussian measurements with entries of variance 1/m and two levels
of noise. The recovery is the latent search with learned starts, as a user would run it; what it does not explain has no
band and is counted apart. A band is calibrated if it holds the share of the pixels that it says.
"""

import shlex
import sys
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

from cs_lip.evaluation.acquisition import acquire, snr_db
from cs_lip.evaluation.provenance import versions
from cs_lip.operators import Gaussian
from cs_lip.priors import DEFAULT_GENERATOR, Generator, bundled_generators, load_generator, load_start
from cs_lip.recovery import LatentProblem, LatentSearch, Recovery, Status, pose, pose_latents, recover
from cs_lip.recovery.langevin import langevin
from cs_lip.recovery.uncertainty import laplace
from cs_lip.seeding import derive_seed, stream

NAME = "uncertainty"
MEASUREMENTS, NOISES = 500, (0.05, 0.01)
TARGETS, BATCH = 50, 5
"""Of each noise, so 100 recoveries in all."""
RESTARTS = 10
"""Random starts of what the learned ones do not explain, of the 60 that the solver would take by itself."""

LEVELS = (0.5, 0.9)
CHECKED, STEPS, BURN_IN = 3, 1000, 200
"""Targets of each noise that are sampled too, and for how long."""

GOAL = (0.80, 0.97)
"""Between these the 90 % bands should hold the truth."""


# The measurements


def cells(generator: Generator, seed: int) -> dict[str, Callable[[], Row]]:
    todo: dict[str, Callable[[], Row]] = {}
    for noise in NOISES:
        for first in range(0, TARGETS, BATCH):
            todo[f"noise={noise}/from={first}"] = partial(calibration, generator, noise, first, seed)
        for target in range(CHECKED):
            todo[f"noise={noise}/langevin={target}"] = partial(sampling, generator, noise, target, seed)
    return todo


def recovered(
    generator: Generator, noise: float, first: int, count: int, seed: int
) -> tuple[Tensor, LatentProblem, Recovery, float]:
    """Some of the targets, their problem, their recovery, and the signal-to-noise ratio."""
    latents = generator.sample_latents(TARGETS, generator=stream(seed, "data"))[first : first + count]
    with torch.no_grad():
        images = generator(latents)
    operator = Gaussian(generator.image_shape, MEASUREMENTS, seed=derive_seed(seed, "operator"))
    measurements = acquire(operator, images, noise=noise, seed=derive_seed(seed, f"noise/{first}"))
    recovery = recover(
        operator,
        measurements,
        generator,
        solver=LatentSearch(restarts=RESTARTS),
        noise=noise,
        seed=derive_seed(seed, f"search/{first}"),
        encoder=load_start(DEFAULT_GENERATOR),
    )
    ratio = snr_db(float(operator(images).square().sum()), count * MEASUREMENTS, noise)
    assert ratio is not None
    return images, pose_latents(pose(operator, measurements, noise=noise), generator), recovery, ratio


def calibration(generator: Generator, noise: float, first: int, seed: int) -> Row:
    images, problem, recovery, ratio = recovered(generator, noise, first, BATCH, seed)
    assert recovery.latents is not None
    found = laplace(problem, recovery.latents)
    return {
        "explained": [status is Status.CONVERGED for status in recovery.status],
        "coverage": {str(level): found.coverage(images, level).tolist() for level in LEVELS},
        "mse": (found.images - images).square().mean((1, 2, 3)).tolist(),
        "predicted_mse": found.sd.square().mean((1, 2, 3)).tolist(),
        "snr_db": ratio,
    }


def sampling(generator: Generator, noise: float, target: int, seed: int) -> Row:
    """The sampled standard deviations over Laplace's, and how the sampled mean lies in Laplace's band."""
    images, problem, recovery, _ = recovered(generator, noise, target, 1, seed)
    assert recovery.latents is not None
    found = laplace(problem, recovery.latents)
    samples = langevin(problem, recovery.latents, steps=STEPS, burn_in=BURN_IN, seed=derive_seed(seed, "langevin"))
    ratio = (samples.uncertainty.sd / found.sd).flatten()
    shift = ((samples.uncertainty.images - found.images) / found.sd).flatten()
    return {
        "explained": recovery.status[0] is Status.CONVERGED,
        "acceptance": float(samples.acceptance[0]),
        "sd_ratio_quantiles": torch.quantile(ratio, torch.tensor([0.05, 0.5, 0.95])).tolist(),
        "shift_rms": float(shift.square().mean().sqrt()),
        "coverage": {str(level): float(samples.uncertainty.coverage(images, level)) for level in LEVELS},
        "laplace_coverage": {str(level): float(found.coverage(images, level)) for level in LEVELS},
    }


# The report


def table(rows: dict[str, Row], config: dict[str, Any], command: str) -> str:
    lines = [
        "| noise (SNR) | explained | in the 50 % band | in the 90 % band | least to most | MSE | predicted MSE |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for noise in NOISES:
        parts = [row for cell, row in rows.items() if cell.startswith(f"noise={noise}/from=")]
        explained = np.concatenate([part["explained"] for part in parts])
        half, most = (np.concatenate([part["coverage"][str(level)] for part in parts])[explained] for level in LEVELS)
        error, predicted = (
            np.concatenate([part[name] for part in parts])[explained] for name in ("mse", "predicted_mse")
        )
        lines.append(
            f"| {noise:g} ({np.mean([part['snr_db'] for part in parts]):.0f} dB) | {explained.sum()} of "
            f"{len(explained)} | {half.mean():.1%} | {most.mean():.1%} | {most.min():.1%} to {most.max():.1%} | "
            f"{error.mean():.2e} | {predicted.mean():.2e} |"
        )
    lines += ["", "| noise, target | acceptance | sampled sd over Laplace's: 5 %, median, 95 % | mean shifted by |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for noise in NOISES:
        for target in range(CHECKED):
            row = rows[f"noise={noise}/langevin={target}"]
            low, middle, high = row["sd_ratio_quantiles"]
            lines.append(
                f"| {noise:g}, {target} | {row['acceptance']:.0%} | {low:.2f}, {middle:.2f}, {high:.2f} | "
                f"{row['shift_rms']:.2f} sd |"
            )
    software, hardware = config["versions"], config["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"- Shares of the {np.prod(config['image_shape'])} values of an image, means over the explained ones; goal "
            f"{GOAL[0]:.0%} to {GOAL[1]:.0%} in the 90 % band.",
            f"- Generator `{DEFAULT_GENERATOR}`, m = {MEASUREMENTS}, latent search with learned starts and {RESTARTS} "
            f"random ones, seed {config['seed']}. Langevin: {STEPS} steps after {BURN_IN}.",
            f"- {described(hardware, software)} Made by `{command}`.",
            "",
        ]
    )


def configuration(generator: Generator, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "generator": {"name": DEFAULT_GENERATOR, "sha256": bundled_generators()[DEFAULT_GENERATOR].sha256},
        "image_shape": generator.image_shape,
        "restarts": RESTARTS,
        "steps": [STEPS, BURN_IN],
        "code": code_hash(("operators", "priors", "recovery")),
        "machine": machine(),
        "versions": versions(),
    }


@click.command(help=__doc__)
@click.option("--seed", type=click.IntRange(0), default=2025, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(seed: int, out: Path) -> None:
    generator = load_generator(DEFAULT_GENERATOR).fold()
    log, config = out / f"{NAME}.jsonl", configuration(generator, seed)
    todo = cells(generator, seed)
    rows = measured_rows(log, config, todo)
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    text = table(rows, config, command)
    write_results(out, NAME, {"command": command, "configuration": config, "rows": rows}, text)
    click.echo(text)


if __name__ == "__main__":
    main()
