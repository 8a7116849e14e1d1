"""Levenberg-Marquardt with 512 latents: with Jacobians and without.

Run it with ``python benchmarks/levenberg_marquardt.py``. It prints a table and writes it to ``levenberg_marquardt.md``,
with every number behind it in ``levenberg_marquardt.json``.

The generator is a PGGAN of 64x64 RGB images from 512 latents with random weights, so that nothing has to be downloaded;
the image is one of its draws, seen by 1000 Gaussian measurements without noise. The start lies three tenths of the way
to another draw: this compares descents, and finding their basin is the matter of other solvers. What is counted are
tangents (images of a forward-mode product), gradients (backward passes), and processor time.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
from machine import described, machine
from results_files import Row, write_results
from torch import Tensor

from cs_lip.evaluation.provenance import versions
from cs_lip.operators import Gaussian
from cs_lip.priors import PGGAN, Generator
from cs_lip.priors.pggan import FoldedPGGAN
from cs_lip.recovery import LevenbergMarquardt, pose, pose_latents
from cs_lip.recovery.levenberg_marquardt_steps import MatrixFreeCurvature
from cs_lip.recovery.trace import Trace
from cs_lip.seeding import stream

NAME = "levenberg_marquardt"
LATENTS, DEPTHS, MEASUREMENTS, AWAY = 512, (128, 128, 64, 32, 16), 1000, 0.3
METHODS = {"Jacobians": LATENTS, "matrix-free": 0}
"""And up to how many latents they form Jacobians."""


def generator(seed: int) -> FoldedPGGAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PGGAN(LATENTS, DEPTHS).fold()


class Counts:
    """Counts what the search does while it is open."""

    def __enter__(self) -> "Counts":
        self.tangents, self.products = 0, 0
        self._push, self._product = Generator.push, MatrixFreeCurvature.product

        def push(network: Generator, latent: Tensor, tangents: Tensor) -> Tensor:
            self.tangents += len(tangents)
            return self._push(network, latent, tangents)

        def product(curvature: MatrixFreeCurvature, vector: Tensor) -> Tensor:
            self.products += 1
            return self._product(curvature, vector)

        Generator.push, MatrixFreeCurvature.product = push, product  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Generator.push, MatrixFreeCurvature.product = self._push, self._product  # type: ignore[method-assign]


def descend(dense_up_to: int, target: int, seed: int) -> Row:
    network = generator(seed)
    latents, others = (network.sample_latents(1, generator=stream(seed, f"{name}/{target}")) for name in ("z", "start"))
    with torch.no_grad():
        image = network(latents)
    operator = Gaussian(network.image_shape, MEASUREMENTS, seed=seed)
    problem = pose(operator, operator(image))
    search, trace = pose_latents(problem, network), Trace(problem)
    began = time.process_time()
    with Counts() as counts:
        start = torch.lerp(latents, others, AWAY)
        found = LevenbergMarquardt(dense_up_to=dense_up_to).solve(search, start, torch.tensor([0]), trace)
    with torch.no_grad():
        error = float((network(found.latents) - image).square().mean())
    return {
        "explained": bool(found.explained(search)[0]),
        "mse": error,
        "steps": len(trace.history),
        "tangents": counts.tangents,
        "products": counts.products,
        "cpu_seconds": time.process_time() - began,
    }


def table(rows: dict[str, list[Row]], config: dict[str, Any], command: str) -> str:
    lines = ["| | explained | MSE | steps | tangents | backward passes of products | processor seconds |"]
    lines += ["| --- |" + " ---: |" * 6]
    for method, found in rows.items():
        middle = {key: sorted(row[key] for row in found)[len(found) // 2] for key in found[0]}
        lines.append(
            f"| {method} | {sum(row['explained'] for row in found)} of {len(found)} | {middle['mse']:.1e} | "
            f"{middle['steps']} | {middle['tangents']} | {middle['products']} | {middle['cpu_seconds']:.1f} |"
        )
    software, hardware = config["versions"], config["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"- Medians over {len(next(iter(rows.values())))} draws of a PGGAN with random weights, {LATENTS} latents, "
            f"channels {DEPTHS}, m = {MEASUREMENTS}, seed {config['seed']}.",
            f"- {described(hardware, software)} Made by `{command}`.",
            "",
        ]
    )


@click.command(help=__doc__)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--targets", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(seed: int, targets: int, out: Path) -> None:
    rows: dict[str, list[Row]] = {method: [] for method in METHODS}
    for target in range(targets):
        for method, dense_up_to in METHODS.items():
            rows[method].append(descend(dense_up_to, target, seed))
    config = {"seed": seed, "targets": targets, "machine": machine(), "versions": versions()}
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    text = table(rows, config, command)
    write_results(out, NAME, {"command": command, "configuration": config, "rows": rows}, text)
    click.echo(text)


if __name__ == "__main__":
    main()
