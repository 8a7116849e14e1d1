"""How well untrained networks restore at the stop that is deployed, and `skip` side by side with the published network.

Run it with ``python benchmarks/untrained.py``. It prints a table and writes it to ``untrained.md``, with every number
behind it in ``untrained.json``. Each finished measurement is a line of ``untrained.jsonl``, so that a run which was
stopped goes on where it ended.

The published network is written down here once more, in plain PyTorch modules as its authors build it, and fitted by
their loop: same picture, noise, weights, input and jitter. Iterations are timed in turns.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from machine import described, machine
from results_files import Row, code_hash, measured_rows, write_results
from torch import Tensor, nn

from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.oracle import OraclePeak
from cs_lip.evaluation.pictures import picture
from cs_lip.evaluation.provenance import versions
from cs_lip.operators import Identity
from cs_lip.priors import UntrainedNetwork, convolves_in_bfloat16, untrained_network
from cs_lip.recovery import recover
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import stream

NAME = "untrained"
PRIORS = ("skip", "deep_decoder", "conv_decoder")
PICTURES = {"astronaut": 3, "chelsea": 3, "camera": 1}
"""Name -> channels."""

SIGMA = 25 / 255
STOP_GOAL_DB, SAME_GOAL_DB, TIME_GOAL = 0.5, 0.2, 0.8
TIMED_ITERATIONS = 3

FIRST = 10
"""Iterations over which rounding has not yet led two fits apart."""


# The published network


class Beside(nn.Module):
    """Two branches of one input, joined as channels."""

    def __init__(self, skip: nn.Module, deeper: nn.Module) -> None:
        super().__init__()
        self.skip, self.deeper = skip, deeper

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.skip(x), self.deeper(x)], 1)


def published_step(fan_in: int, fan_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.ReflectionPad2d((kernel - 1) // 2),
        nn.Conv2d(fan_in, fan_out, kernel, stride),
        nn.BatchNorm2d(fan_out),
        nn.LeakyReLU(0.2, inplace=True),
    ]


def published_skip(channels: int, inputs: int = 32, width: int = 128, skip: int = 4, scales: int = 5) -> nn.Sequential:
    """`skip` with the settings of the denoising notebook: for each scale, from the deepest to the first."""
    body: list[nn.Module] = []
    for scale in reversed(range(scales)):
        fan_in = inputs if scale == 0 else width
        down = [*published_step(fan_in, width, 3, 2), *published_step(width, width, 3)]
        deeper = nn.Sequential(*down, *body, nn.Upsample(scale_factor=2, mode="bilinear"))
        joined = [Beside(nn.Sequential(*published_step(fan_in, skip, 1)), deeper), nn.BatchNorm2d(skip + width)]
        body = [*joined, *published_step(skip + width, width, 3), *published_step(width, width, 1)]
    return nn.Sequential(*body, nn.ReflectionPad2d(0), nn.Conv2d(width, channels, 1), nn.Sigmoid())


def with_weights_of(network: UntrainedNetwork, published: nn.Sequential) -> nn.Sequential:
    """The published network with the weights of ours. Both name them from outside in, but for the order at a scale."""

    def of_scale(index: int) -> list[nn.Module]:
        ours = network.scales[index]
        here = [part for step in (ours.skip, ours.halve, ours.deepen) for part in (step.conv, step.norm)]
        deeper = of_scale(index + 1) if index + 1 < len(network.scales) else []
        return [*here, *deeper, ours.norm, ours.join.conv, ours.join.norm, ours.mix.conv, ours.mix.norm]

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    theirs = [module for module in published.modules() if isinstance(module, kinds)]
    for mine, module in zip([*of_scale(0), network.output], theirs, strict=True):
        module.load_state_dict(mine.state_dict(), strict=False)  # ours keeps no running statistics
    return published


class PublishedFit:
    """The published loop on the published network, step by step."""

    def __init__(self, network: UntrainedNetwork, target: Tensor, seed: int, averaging: float = 0.99) -> None:
        self.averaging = averaging
        self.network = with_weights_of(network, published_skip(network.image_shape[0]))
        self.inputs, self.jitter = network.sample_input(generator=stream(seed, "input/0")), network.jitter
        self.noise, self.target = stream(seed, "jitter/0"), target
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=0.01)
        self.average: Tensor | None = None

    def step(self) -> None:
        self.optimiser.zero_grad()
        drawn = self.network(self.inputs + self.jitter * torch.randn(self.inputs.shape, generator=self.noise))
        latest = drawn.detach()
        self.average = latest if self.average is None else self.average.lerp(latest, 1 - self.averaging)
        loss = nn.functional.mse_loss(drawn, self.target)
        loss.backward()
        self.optimiser.step()


# The measurements


def noisy(name: str, side: int, seed: int) -> tuple[Identity, Tensor, Tensor]:
    """The operator, the measurements and the truth of a test picture."""
    truth = picture(name, (PICTURES[name], side, side)).pixels[None]
    operator = Identity(truth.shape[1:])
    return operator, acquire(operator, truth, noise=SIGMA, seed=seed), truth


def denoised(prior: str, name: str, side: int, iterations: int, seed: int) -> Row:
    """The default fit: what it returned, and the best that it passed through."""
    operator, values, truth = noisy(name, side, seed)
    network, peak = untrained_network(prior, operator.in_shape, seed), OraclePeak(truth)
    solver = UntrainedFit(iterations=iterations)
    found = recover(operator, values, network, solver=solver, noise=SIGMA, seed=seed, observe=peak)
    return {
        "psnr_db": psnr(found.images[0], truth[0]),
        "peak_psnr_db": peak.peaks[0].psnr_db,
        "peak_iteration": peak.peaks[0].iteration,
        "noisy_psnr_db": psnr(values[0], truth[0]),
        "status": found.status[0].value,
        "seconds": found.timings["total"],
        **found.notes[0],
    }


def side_by_side(name: str, side: int, iterations: int, seed: int) -> Row:
    """PSNR of both fits to all pixels, iteration by iteration: of the averages, and of the first single images."""
    operator, values, truth = noisy(name, side, seed)
    network = untrained_network("skip", operator.in_shape, seed)

    def ours(count: int, averaging: float) -> list[float]:
        levels: list[float] = []
        solver = UntrainedFit(iterations=count, averaging=averaging, stop="last")
        watch = partial(_append_psnr, levels, truth[0])
        recover(operator, values, network, solver=solver, seed=seed, observe=watch)
        return levels

    def theirs(count: int, averaging: float) -> list[float]:
        fit, levels = PublishedFit(network, values, seed, averaging), []
        for _ in range(count):
            fit.step()
            levels.append(psnr(fit.average[0], truth[0]))
        return levels

    first = zip(ours(FIRST, 0.0), theirs(FIRST, 0.0), strict=True)
    return {
        "first_difference_db": max(abs(mine - other) for mine, other in first),
        "ours_psnr_db": ours(iterations, 0.99),
        "published_psnr_db": theirs(iterations, 0.99),
    }


def _append_psnr(levels: list[float], truth: Tensor, images: Tensor, which: Tensor) -> None:
    levels.append(psnr(images[0], truth))


def timed(side: int, rounds: int, seed: int) -> Row:
    """Seconds of an iteration: of `recover` as it is and in float32 throughout, and of the published loop, in turns."""
    operator, values, _ = noisy("astronaut", side, seed)
    network = untrained_network("skip", operator.in_shape, seed)
    published = PublishedFit(network, values, seed)

    def ours(coarse: bool) -> None:
        recover(operator, values, network, solver=UntrainedFit(TIMED_ITERATIONS, coarse=coarse), seed=seed)

    def theirs() -> None:
        for _ in range(TIMED_ITERATIONS):
            published.step()

    acts = {"ours": partial(ours, True), "float32": partial(ours, False), "published": theirs}
    for act in acts.values():
        act()  # what is slow only once
    taken: dict[str, list[float]] = {f"{name}_seconds": [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            taken[f"{name}_seconds"].append(_seconds(act) / TIMED_ITERATIONS)
    return taken


def _seconds(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def cells(side: int, iterations: int, timed_side: int, rounds: int, seed: int) -> dict[str, Callable[[], Row]]:
    """Every measurement by name, in order."""
    todo: dict[str, Callable[[], Row]] = {"time": partial(timed, timed_side, rounds, seed)}
    todo["published"] = partial(side_by_side, "astronaut", side, iterations, seed)
    for prior in PRIORS:
        for name in PICTURES:
            todo[f"denoise/{prior}/{name}"] = partial(denoised, prior, name, side, iterations, seed)
    return todo


# The report


def summarise(rows: dict[str, Row]) -> dict[str, Any]:
    """The numbers of the tables."""
    fits = {cell: row for cell, row in rows.items() if cell.startswith("denoise/")}
    ours, theirs = rows["published"]["ours_psnr_db"], rows["published"]["published_psnr_db"]
    times = {name: rows["time"][f"{name}_seconds"] for name in ("ours", "float32", "published")}
    ratios = {
        name: [mine / other for mine, other in zip(times[name], times["published"], strict=True)]
        for name in ("ours", "float32")
    }
    return {
        "worst_loss_db": max(row["peak_psnr_db"] - row["psnr_db"] for row in fits.values()),
        "first_difference_db": rows["published"]["first_difference_db"],
        "last_psnr_db": [ours[-1], theirs[-1]],
        "peak_psnr_db": [max(ours), max(theirs)],
        "time_ratio": statistics.median(ratios["ours"]),
        "time_ratio_range": [min(ratios["ours"]), max(ratios["ours"])],
        "float32_time_ratio": statistics.median(ratios["float32"]),
        "bfloat16": convolves_in_bfloat16(torch.device("cpu")),
        "seconds": {name: statistics.median(taken) for name, taken in times.items()},
    }


def table(rows: dict[str, Row], result: dict[str, Any], config: dict[str, Any], command: str) -> str:
    """The results as Markdown."""
    lines = [
        f"| {config['size']}x{config['size']}, sigma 25/255 | noisy | deployed stop | oracle peak | lost |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for cell, row in rows.items():
        if cell.startswith("denoise/"):
            _, prior, name = cell.split("/")
            lines.append(
                f"| `{prior}`, {name} | {row['noisy_psnr_db']:.2f} dB | {row['psnr_db']:.2f} dB at {row['iteration']} "
                f"| {row['peak_psnr_db']:.2f} dB at {row['peak_iteration']} "
                f"| {row['peak_psnr_db'] - row['psnr_db']:.2f} dB |"
            )
    machine, software = config["machine"], config["versions"]
    (last, their_last), (peak, their_peak) = result["last_psnr_db"], result["peak_psnr_db"]
    (low, high), seconds = result["time_ratio_range"], result["seconds"]
    return "\n".join(
        [
            *lines,
            "",
            f"- Most that the deployed stop lost: {result['worst_loss_db']:.2f} dB (goal: at most {STOP_GOAL_DB}).",
            f"- `skip` and the published network, same noise and seed: {last:.2f} and {their_last:.2f} dB after "
            f"{config['iterations']} iterations, {peak:.2f} and {their_peak:.2f} dB at the peak (goal: within "
            f"{SAME_GOAL_DB}); the first {FIRST} images differ by {result['first_difference_db']:.2f} dB at most.",
            f"- An iteration at {config['timed_size']}x{config['timed_size']}: {seconds['ours']:.2f} s, published "
            f"{seconds['published']:.2f} s; ratio {result['time_ratio']:.2f} in the median, {low:.2f} to {high:.2f} "
            f"(goal: at most {TIME_GOAL}). "
            + ("The passes are in bfloat16, which this processor multiplies; " if result["bfloat16"] else "")
            + f"in float32 throughout the ratio is {result['float32_time_ratio']:.2f}.",
            f"- {described(machine, software)}",
            f"- Seed {config['seed']}, at most {config['iterations']} iterations. Made by `{command}`.",
            "",
        ]
    )


@click.command(help=__doc__)
@click.option(
    "--size", type=click.IntRange(33), default=128, show_default=True, help="Of the test pictures, a multiple of 32."
)
@click.option("--iterations", type=click.IntRange(1), default=1500, show_default=True)
@click.option("--timed-size", type=click.IntRange(33), default=256, show_default=True, help="Multiple of 32.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=2024, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(size: int, iterations: int, timed_size: int, rounds: int, seed: int, out: Path) -> None:
    config = {
        "size": size,
        "iterations": iterations,
        "timed_size": timed_size,
        "rounds": rounds,
        "seed": seed,
        "code": code_hash(("operators", "priors/untrained", "recovery")),
        "machine": machine(),
        "versions": versions(),
    }
    log, todo = out / f"{NAME}.jsonl", cells(size, iterations, timed_size, rounds, seed)
    rows = measured_rows(log, config, todo)
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    result = summarise(rows)
    text = table(rows, result, config, command)
    whole = {"command": command, "configuration": config, "summary": result, "rows": rows}
    write_results(out, NAME, whole, text)
    click.echo(text)


if __name__ == "__main__":
    main()
