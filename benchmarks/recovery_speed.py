"""How fast and how well the default solver recovers, side by side with CSGM's protocol on the same targets.

Run it with ``python benchmarks/recovery_speed.py``. It prints a table and writes it to ``recovery_speed.md``, with
every number behind it in ``recovery_speed.json``. Each finished measurement is a line of ``recovery_speed.jsonl``, so
that a run which was stopped goes on where it ended.
"""

import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from machine import described, machine, peak_bytes
from results_files import Row, code_hash, measured_rows, write_results
from torch import Tensor

from cs_lip.evaluation.metrics import mse, psnr
from cs_lip.evaluation.pictures import bundled_photographs
from cs_lip.evaluation.provenance import versions
from cs_lip.operators import Gaussian
from cs_lip.priors import DEFAULT_GENERATOR, Encoder, Generator, load_generator, load_start
from cs_lip.recovery import DEFAULT_SOLVER, SOLVERS, Adam, LevenbergMarquardt, Recovery, recover
from cs_lip.seeding import derive_seed, stream

NAME = "recovery_speed"
PROTOCOL = "csgm"
PAIR = (DEFAULT_SOLVER, PROTOCOL)
SUCCESS = 1e-6
PHOTOGRAPH = "astronaut"


@dataclass(frozen=True)
class Bench:
    """What every measurement of one run shares."""

    generator: Generator
    encoder: Encoder | None
    operator: Gaussian
    targets: Tensor
    photograph: Tensor
    seed: int

    def recover(self, images: Tensor, solver: str) -> tuple[Recovery, float]:
        """The recovery of ``images`` from their measurements, and its wall time in seconds."""
        measurements = self.operator(images)
        began = time.perf_counter()
        recovery = recover(
            self.operator, measurements, self.generator, solver=solver, encoder=self.encoder, seed=self.seed
        )
        return recovery, time.perf_counter() - began


def prepare(targets: int, measurements: int, seed: int) -> Bench:
    """Draws of the bundled generator from a stream of their own: target i is the same however many there are."""
    generator = load_generator(DEFAULT_GENERATOR)
    latents = [generator.sample_latents(1, generator=stream(seed, f"benchmark-targets/{i}")) for i in range(targets)]
    with torch.no_grad():
        images = generator(torch.cat(latents))
    photographs = {image.name: image.pixels for image in bundled_photographs(generator.image_shape)}
    operator = Gaussian(generator.image_shape, measurements, seed=derive_seed(seed, "operator"))
    bench = Bench(generator, load_start(DEFAULT_GENERATOR), operator, images, photographs[PHOTOGRAPH][None], seed)
    # What PyTorch does only once a process belongs to no target's time.
    for warm_up in (Adam(steps=2), LevenbergMarquardt(iterations=1)):
        recover(operator, operator(images[:1]), generator, solver=warm_up)
    return bench


# The measurements


def cells(bench: Bench) -> dict[str, Callable[[], Row]]:
    """Every measurement by name, in order: the solvers take turns, so that both see the machine in the same state."""
    count = len(bench.targets)
    todo: dict[str, Callable[[], Row]] = {}
    for index in range(count):
        for solver in PAIR:
            todo[f"target-{index}/{solver}"] = partial(on_images, bench, bench.targets[index : index + 1], solver)
    todo[f"batch-of-{count}/{DEFAULT_SOLVER}"] = partial(on_images, bench, bench.targets, DEFAULT_SOLVER)
    for solver in PAIR:
        todo[f"{PHOTOGRAPH}/{solver}"] = partial(on_images, bench, bench.photograph, solver)
    todo["command"] = partial(command_memory, bench.operator.m)
    return todo


def on_images(bench: Bench, images: Tensor, solver: str) -> Row:
    recovery, seconds = bench.recover(images, solver)
    pairs = list(zip(recovery.images, images, strict=True))
    return {
        "seconds": seconds,
        "mse": [mse(*pair) for pair in pairs],
        "psnr_db": [psnr(*pair) for pair in pairs],
        "relative_residual": list(recovery.relative_residual),
        "status": [status.value for status in recovery.status],
        "timings": recovery.timings,
    }


def command_memory(measurements: int) -> Row:
    """The peak memory and the time of ``cs-lip recover`` on its defaults, as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        script = "from cs_lip.cli.main import main; main()"
        arguments = ["recover", "--measurements", str(measurements), "--out", str(Path(folder) / "run")]
        began = time.perf_counter()
        peak = peak_bytes(["-c", script, *arguments])
        return {"seconds": time.perf_counter() - began, "peak_bytes": peak}


def configuration(measurements: int, seed: int) -> dict[str, Any]:
    """All that a measurement depends on besides its own name; rows of another configuration are not taken over."""
    return {
        "measurements": measurements,
        "seed": seed,
        "generator": DEFAULT_GENERATOR,
        "solvers": {name: asdict(SOLVERS[name]()) for name in PAIR},  # type: ignore[call-overload]
        "code": code_hash(("operators", "priors", "recovery")),
        "machine": machine(),
        "versions": versions(),
    }


# The report


def summarise(rows: dict[str, Row], targets: int) -> dict[str, Any]:
    """The numbers of the table."""
    solvers = {}
    for solver in PAIR:
        mine = [rows[f"target-{index}/{solver}"] for index in range(targets)]
        seconds, errors = [row["seconds"] for row in mine], [row["mse"][0] for row in mine]
        solvers[solver] = {
            "median_seconds": statistics.median(seconds),
            "min_seconds": min(seconds),
            "max_seconds": max(seconds),
            "total_seconds": sum(seconds),
            "successes": sum(error <= SUCCESS for error in errors),
            "median_mse": statistics.median(errors),
            "max_mse": max(errors),
            "photograph_psnr_db": rows[f"{PHOTOGRAPH}/{solver}"]["psnr_db"][0],
            "photograph_seconds": rows[f"{PHOTOGRAPH}/{solver}"]["seconds"],
        }
    ratios = [
        rows[f"target-{index}/{DEFAULT_SOLVER}"]["seconds"] / rows[f"target-{index}/{PROTOCOL}"]["seconds"]
        for index in range(targets)
    ]
    batch = rows[f"batch-of-{targets}/{DEFAULT_SOLVER}"]
    return {
        "targets": targets,
        "solvers": solvers,
        "median_of_paired_ratios": statistics.median(ratios),
        "min_of_paired_ratios": min(ratios),
        "max_of_paired_ratios": max(ratios),
        "ratio_of_totals": solvers[DEFAULT_SOLVER]["total_seconds"] / solvers[PROTOCOL]["total_seconds"],
        "batch_seconds": batch["seconds"],
        "batch_successes": sum(error <= SUCCESS for error in batch["mse"]),
        "command_peak_gib": rows["command"]["peak_bytes"] / 2**30,
        "command_seconds": rows["command"]["seconds"],
    }


def table(result: dict[str, Any], config: dict[str, Any], command: str) -> str:
    """The summary as Markdown."""
    ours, theirs = (result["solvers"][solver] for solver in PAIR)
    count, machine, software = result["targets"], config["machine"], config["versions"]
    lines = [
        f"| {count} unseen draws, m = {config['measurements']}, no noise | `{DEFAULT_SOLVER}` (default) "
        f"| `{PROTOCOL}` (protocol) |",
        "| --- | ---: | ---: |",
    ]

    def line(label: str, form: str, *keys: str) -> None:
        lines.append(
            f"| {label} | " + " | ".join(form.format(*(side[k] for k in keys)) for side in (ours, theirs)) + " |"
        )

    line("seconds a target: median", "{:.2f}", "median_seconds")
    line("seconds a target: least to most", "{:.2f} to {:.2f}", "min_seconds", "max_seconds")
    line("seconds in all", "{:.1f}", "total_seconds")
    line(f"recovered (MSE <= {SUCCESS:g})", f"{{}} of {count}", "successes")
    line("median MSE", "{:.1e}", "median_mse")
    line("largest MSE", "{:.1e}", "max_mse")
    line(f"{PHOTOGRAPH} (photograph): PSNR", "{:.2f} dB", "photograph_psnr_db")
    line(f"{PHOTOGRAPH} (photograph): seconds", "{:.1f}", "photograph_seconds")
    paired = [result[f"{part}_of_paired_ratios"] for part in ("median", "min", "max")]
    return "\n".join(
        [
            *lines,
            "",
            f"- Time of the default over the protocol's: {result['ratio_of_totals']:.3f} in all; target by target "
            f"{paired[0]:.3f} in the median, {paired[1]:.3f} to {paired[2]:.3f}.",
            f"- All {count} targets in one batch with the default: {result['batch_seconds']:.1f} s, "
            f"{result['batch_successes']} of {count} recovered.",
            f"- `cs-lip recover --measurements {config['measurements']}` on its defaults: peak memory "
            f"{result['command_peak_gib']:.2f} GiB, {result['command_seconds']:.0f} s.",
            f"- {described(machine, software)}",
            f"- Seed {config['seed']}; the two solvers take turns target by target in one process. "
            f"Made by `{command}`.",
            "",
        ]
    )


@click.command(help=__doc__)
@click.option("--targets", type=click.IntRange(1), default=20, show_default=True)
@click.option("--measurements", type=click.IntRange(1), default=500, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=2024, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(targets: int, measurements: int, seed: int, out: Path) -> None:
    log, config = out / f"{NAME}.jsonl", configuration(measurements, seed)
    bench = prepare(targets, measurements, seed)
    todo = cells(bench)
    rows = measured_rows(log, config, todo)
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    result = summarise(rows, targets)
    text = table(result, config, command)
    whole = {
        "command": command,
        "configuration": config,
        "summary": result,
        "rows": rows,
    }
    write_results(out, NAME, whole, text)
    click.echo(text)


if __name__ == "__main__":
    main()
