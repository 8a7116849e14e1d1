"""CSGM's experiment on handwritten digits: the error of recovery against the number of measurements, beside Lasso.

Run it with ``python benchmarks/mnist.py``. It prints a table and writes it to ``mnist.md``, with every number behind
it in ``mnist.json``, and draws ``docs/images/mnist.png``. Each finished measurement is a line of ``mnist.jsonl``, so
that a run which was stopped goes on where it ended.

The protocol is that of Bora et al. 2017, section 6.1: Gaussian measurements with entries of variance 1/m, noise whose
norm is 0.1 in expectation, mean squared error per pixel on the first 64 digits of MNIST's test set. Lasso is in the
pixels, its images clipped to [0, 1]; its weight is the best of a grid for the reported digits themselves, chosen with
the truth, which favours it.
"""

import math
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from machine import described, machine
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from results_files import Row, code_hash, measured_rows, write_results
from sklearn.linear_model import Lasso
from torch import Tensor

from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.digits import bundled_digits
from cs_lip.evaluation.provenance import versions
from cs_lip.files import atomic_path
from cs_lip.operators import Gaussian, Identity
from cs_lip.priors import Generator, bundled_generators, load_generator
from cs_lip.recovery import Adam, LatentSearch, Solver, recover
from cs_lip.report.figures import show_image
from cs_lip.seeding import derive_seed

NAME, GENERATOR = "mnist", "mnist-dcgan-28"
MEASUREMENTS = (10, 25, 50, 100, 200, 300, 500, 750)
SEARCH, SEARCHED_AT = LatentSearch(), (10, 50, 100, 200, 300)
"""The search of latents, which takes minutes for 64 real digits, and where it runs."""

NOISE_NORM = 0.1
CSGM_PENALTY = 0.1
"""Weight of |z|^2 beside the squared image error on [0, 1], as CSGM's code has it for MNIST."""

PENALISED = Adam(steps=300, restarts=3)
"""What searches with that penalty: it binds everywhere, so that there is no exact fit to refine to."""

RESTARTS = 10
"""Random starts of each digit, as in CSGM's protocol, of the 60 that the solver would take by itself."""

ALPHAS = tuple(np.logspace(-5, -1.5, 8).tolist())
PICTURED, SHOWN = 100, 12
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "mnist.png"
GOALS = {"represent": 0.012, "m=100": 0.02}

LABELS = {
    "latent-search": "cs-lip, latent-search",
    "csgm-penalty": f"cs-lip, Adam, penalty {CSGM_PENALTY:g}",
    "lasso": "Lasso, pixels",
}
COLOURS = {"latent-search": "#0072B2", "csgm-penalty": "#009E73", "lasso": "#D55E00"}


# The measurements


def cells(generator: Generator, digits: Tensor, seed: int) -> dict[str, Callable[[], Row]]:
    todo: dict[str, Callable[[], Row]] = {"represent": partial(represent, generator, digits, seed)}
    for m in MEASUREMENTS:
        todo[f"m={m}/csgm-penalty"] = partial(search, generator, digits, m, seed, PENALISED, CSGM_PENALTY)
        todo[f"m={m}/lasso"] = partial(lasso, digits, m, seed)
    for m in SEARCHED_AT:
        todo[f"m={m}/latent-search"] = partial(search, generator, digits, m, seed, SEARCH, None)
    return todo


def represent(generator: Generator, digits: Tensor, seed: int) -> Row:
    """The best image in the generator's range: every pixel is seen, nothing is penalised."""
    began = time.perf_counter()
    operator = Identity(generator.image_shape)
    recovery = recover(operator, digits, generator, solver=SEARCH, restarts=RESTARTS, latent_penalty=0.0, seed=seed)
    return row(recovery.images, digits, began)


def search(generator: Generator, digits: Tensor, m: int, seed: int, solver: Solver, penalty: float | None) -> Row:
    operator, measurements, noise = measured(digits, m, seed)
    began = time.perf_counter()
    restarts = min(RESTARTS, solver.restarts)
    recovery = recover(
        operator,
        measurements,
        generator,
        solver=solver,
        restarts=restarts,
        noise=noise,
        latent_penalty=penalty,
        seed=seed,
    )
    return row(recovery.images, digits, began, pictured=m == PICTURED)


def lasso(digits: Tensor, m: int, seed: int) -> Row:
    """argmin |A x - y|^2 / (2 m) + alpha |x|_1 by scikit-learn, with the alpha that is best for these digits."""
    operator, measurements, _ = measured(digits, m, seed)
    matrix, values = operator.to_matrix().double().numpy(), measurements.double().numpy()
    began = time.perf_counter()
    rows = []
    for alpha in ALPHAS:
        model = Lasso(alpha=alpha, fit_intercept=False, max_iter=5000, tol=1e-4)
        images = np.stack([model.fit(matrix, y).coef_ for y in values]).clip(0, 1)
        found = torch.from_numpy(images).float().reshape(digits.shape)
        rows.append(row(found, digits, began, pictured=m == PICTURED) | {"alpha": alpha})
    return min(rows, key=lambda entry: np.mean(entry["mse"]))


def measured(digits: Tensor, m: int, seed: int) -> tuple[Gaussian, Tensor, float]:
    operator = Gaussian(tuple(digits.shape[1:]), m, seed=derive_seed(seed, "operator"))
    noise = NOISE_NORM / math.sqrt(m)
    return operator, acquire(operator, digits, noise=noise, seed=seed), noise


def row(images: Tensor, digits: Tensor, began: float, *, pictured: bool = False) -> Row:
    errors = (images - digits).square().mean((1, 2, 3))
    pictures = (images[:SHOWN] * 255).round().to(torch.uint8).numpy().tobytes().hex() if pictured else None
    return {"mse": errors.tolist(), "seconds": time.perf_counter() - began, "pictures": pictures}


# The report


def interval(errors: list[float]) -> tuple[float, float, float]:
    """The mean over the digits, and its 95 % bootstrap interval."""
    values = np.array(errors)
    chosen = np.random.default_rng(0).integers(len(values), size=(4000, len(values)))
    low, high = np.quantile(values[chosen].mean(1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def table(rows: dict[str, Row], config: dict[str, Any], command: str) -> str:
    def cell(name: str) -> str:
        if name not in rows:
            return "-"
        return "{:.4f} ({:.4f} to {:.4f})".format(*interval(rows[name]["mse"]))

    lines = ["| m | " + " | ".join(LABELS.values()) + " |", "| ---: |" + " ---: |" * len(LABELS)]
    lines += [f"| {m} | " + " | ".join(cell(f"m={m}/{kind}") for kind in LABELS) + " |" for m in MEASUREMENTS]
    beaten = {
        kind: [m for m in MEASUREMENTS if m < 300 and mean(rows, m, kind) < mean(rows, m, "lasso")]
        for kind in ("latent-search", "csgm-penalty")
    }
    software, hardware = config["versions"], config["machine"]
    return "\n".join(
        [
            *lines,
            "",
            "Mean squared error per pixel over 64 unseen digits, with 95 % bootstrap intervals.",
            "",
            f"- Representation error (search over all 784 pixels): {cell('represent')}; goal {GOALS['represent']:g}.",
            f"- `latent-search` at m = 100: {mean(rows, 100, 'latent-search'):.4f}; goal {GOALS['m=100']:g}.",
            *(
                f"- {LABELS[kind]}: better than Lasso at m = {', '.join(map(str, better))} of those measured below 300."
                for kind, better in beaten.items()
            ),
            f"- Generator `{GENERATOR}`, `latent-search` with {RESTARTS} starts, noise norm {NOISE_NORM:g}, "
            f"seed {config['seed']}.",
            f"- {described(hardware, software)} Made by `{command}`.",
            "",
        ]
    )


def mean(rows: dict[str, Row], m: int, kind: str) -> float:
    """NaN, which is less than nothing, where that was not measured."""
    return float(np.mean(rows[f"m={m}/{kind}"]["mse"])) if f"m={m}/{kind}" in rows else math.nan


def figure(rows: dict[str, Row], digits: Tensor) -> Figure:
    """The error against m with its intervals, and the digits recovered from `PICTURED` measurements."""
    drawing = Figure(figsize=(11, 7.2), layout="constrained")
    FigureCanvasAgg(drawing)
    parts = drawing.add_gridspec(2, 1, height_ratios=[1.15, 1])
    _plot_errors(drawing.add_subplot(parts[0]), rows)
    kinds = ("truth", "lasso", "latent-search", "csgm-penalty")
    places = parts[1].subgridspec(len(kinds), SHOWN)
    for line, kind in enumerate(kinds):
        pictures = digits[:SHOWN] if kind == "truth" else _pictures(rows[f"m={PICTURED}/{kind}"], digits)
        for column, image in enumerate(pictures):
            axis = drawing.add_subplot(places[line, column])
            show_image(axis, image)
            if column == 0:
                label = LABELS.get(kind, kind).replace(", ", ",\n")
                axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return drawing


def _plot_errors(axis: Axes, rows: dict[str, Row]) -> None:
    for kind, label in LABELS.items():
        places = SEARCHED_AT if kind == "latent-search" else MEASUREMENTS
        middle, low, high = np.array([interval(rows[f"m={m}/{kind}"]["mse"]) for m in places]).T
        axis.loglog(places, middle, marker="o", markersize=4, color=COLOURS[kind], label=label)
        axis.fill_between(places, low, high, color=COLOURS[kind], alpha=0.2, linewidth=0)
    floor = interval(rows["represent"]["mse"])[0]
    axis.axhline(floor, color="0.4", linestyle=":", label="representation error")
    axis.set_xticks(MEASUREMENTS, [str(m) for m in MEASUREMENTS])
    axis.minorticks_off()
    axis.set_xlabel("measurements m of 784 pixels")
    axis.set_ylabel("mean squared error per pixel")
    axis.set_title(f"64 unseen digits; below, recovered from m = {PICTURED}", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)


def _pictures(found: Row, digits: Tensor) -> Tensor:
    pixels = np.frombuffer(bytes.fromhex(found["pictures"]), np.uint8).reshape(-1, *digits.shape[1:])
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def configuration(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "generator": {"name": GENERATOR, "sha256": bundled_generators()[GENERATOR].sha256},
        "solver": asdict(SEARCH),
        "restarts": RESTARTS,
        "penalised": asdict(PENALISED),
        "code": code_hash(("evaluation", "operators", "priors", "recovery")),
        "machine": machine(),
        "versions": versions(),
    }


@click.command(help=__doc__)
@click.option("--seed", type=click.IntRange(0), default=2024, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(seed: int, out: Path) -> None:
    log, config = out / f"{NAME}.jsonl", configuration(seed)
    digits = bundled_digits()
    todo = cells(load_generator(GENERATOR), digits, seed)
    rows = measured_rows(log, config, todo)
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    text = table(rows, config, command)
    whole = {"command": command, "configuration": config, "rows": rows}
    write_results(out, NAME, whole, text)
    with atomic_path(FIGURE) as temporary:
        figure(rows, digits).savefig(temporary, dpi=110, format="png")
    click.echo(text)


if __name__ == "__main__":
    main()
