"""What the benchmark of tickets says: its table, and whether what is required is met."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import described_all
from results_files import Row

from cs_lip.evaluation.statistics import Interval, bootstrap_interval

PICTURES, DRAWS = "real pictures", "draws of the dense generator"
AT = 500
"""The number of measurements at which densities are compared in a table of their own."""

RANGES = (24, 25, 26, 28, 29)
"""Edges of PSNR in dB between which tickets are told together."""

EXACT = 1e-6
"""The mean squared error at which a ticket's own draw counts as recovered exactly."""

Rows = Mapping[str, Row]


def read_results(path: Path) -> dict[str, Any]:
    """Rows and configuration of a run."""
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return whole


def of_method(rows: Rows, method: str, density: float) -> dict[int, Row]:
    """The rows of a method at a density by seed."""
    found = {}
    for cell, row in rows.items():
        kind, *place = cell.split("/")
        if kind == method and len(place) == 2 and float(place[0]) == density:
            found[int(place[1])] = row
    return found


def levels(rows: Rows, method: str, density: float, kind: str, m: int) -> dict[tuple[str, int], float]:
    """PSNR in dB by target and seed; empty where the method was not measured."""
    found = {0: rows["dense"]} if method == "dense" and "dense" in rows else of_method(rows, method, density)
    return {
        (str(target), seed): value
        for seed, row in found.items()
        for target, value in enumerate(row["psnr"][kind][str(m)])
    }


def mean(rows: Rows, method: str, density: float, kind: str, m: int) -> float:
    """Over targets and seeds; NaN where there is none."""
    values = levels(rows, method, density, kind, m).values()
    return statistics.fmean(values) if values else math.nan


def below_dense(rows: Rows, method: str, density: float, m: int) -> Interval | None:
    """How far real pictures are below the dense generator's, in dB, with its interval."""
    ours, dense = (levels(rows, name, density, PICTURES, m) for name in (method, "dense"))
    if not ours or not dense:
        return None
    images, seeds = zip(*ours, strict=True)
    values = [dense[target, 0] - value for (target, _), value in ours.items()]
    return bootstrap_interval(values, images=images, seeds=seeds)


def worst_below(rows: Rows, method: str, density: float, config: dict[str, Any]) -> tuple[float, str]:
    """The largest mean loss over all numbers of measurements, and where."""
    losses = {m: below_dense(rows, method, density, m) for m in config["scale"]["measurements"]}
    there = {m: loss.estimate for m, loss in losses.items() if loss is not None}
    if len(there) < len(losses):
        return math.nan, ""
    m = max(there, key=lambda count: there[count])
    return there[m], f"m = {m}"


def speed_up(rows: Rows, density: float, key: str) -> tuple[float, str]:
    """How many times as fast the compacted ticket is, the median of the pairs, and their range."""
    pairs = rows.get(f"speed/{density:g}", {}).get(key)
    if not pairs:
        return math.nan, ""
    ratios = [dense / small for dense, small in pairs]
    return statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} pairs"


def goals(rows: Rows, config: dict[str, Any]) -> list[dict[str, Any]]:
    """What is required, what was measured, and whether that is met; None where it was not measured."""
    found: list[dict[str, Any]] = []

    def judge(what: str, goal: float, unit: str, value: float, where: str = "", *, most: bool = False) -> None:
        met = None if not math.isfinite(value) else value <= goal if most else value >= goal
        told = {"what": what, "goal": goal, "unit": unit, "most": most}
        found.append(told | {"measured": None if met is None else value, "where": where, "met": met})

    for density, goal in ((0.2, 0.5), (0.1, 1.0)):
        what = f"density {density:g}, real pictures: below dense, at most over all m"
        judge(what, goal, "dB", *worst_below(rows, "magnitude", density, config), most=True)
    kept, by_chance = (mean(rows, method, 0.2, DRAWS, 500) for method in ("magnitude", "random"))
    judge("density 0.2, draws of the dense generator at m = 500", 26, "dB", kept)
    judge("density 0.2, the same: over random pruning", 3, "dB", kept - by_chance)
    errors = of_method(rows, "magnitude", 0.2).get(0, {}).get("own_mse", [])
    exact, counted = sum(error <= EXACT for error in errors), f"of {len(errors)}"
    value = 20 * exact / len(errors) if errors else math.nan
    judge(f"density 0.2, own draws with MSE at most {EXACT:g}, of 20", 19, "", value, f"{exact} {counted}")
    small = "channels, at most 0.2 of all weights"
    judge(f"{small}: forward and backward", 3, "times as fast", *speed_up(rows, 0.2, "step_ms"))
    judge(f"{small}: a whole recovery", 2, "times as fast", *speed_up(rows, 0.2, "recover_seconds"))
    what = f"{small}, real pictures: below dense, at most over all m"
    judge(what, 0.7, "dB", *worst_below(rows, "channels", 0.2, config), most=True)
    return found


def verdicts(rows: Rows, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The goals as `cs_lip.evaluation.sweep.claims.stored_verdicts` reads them."""
    return [
        {"claim": f"tickets, {goal['what']}", "asked": _asked(goal), "measured": _measured(goal), "holds": goal["met"]}
        for goal in goals(rows, config)
    ]


def _unit(goal: dict[str, Any]) -> str:
    return f" {goal['unit']}" if goal["unit"] else ""


def _asked(goal: dict[str, Any]) -> str:
    return f"{'at most' if goal['most'] else 'at least'} {goal['goal']:g}{_unit(goal)}"


def _measured(goal: dict[str, Any]) -> str:
    """Empty where it was not."""
    where = f" ({goal['where']})" if goal["where"] else ""
    if goal["met"] is None or not goal["unit"]:
        return where.strip(" ()")
    return f"{goal['measured']:.2f}{_unit(goal)}{where}"


# The table


def table(rows: Rows, todo: Sequence[str], config: dict[str, Any], command: str) -> str:
    counts = config["scale"]["measurements"]
    lines = [
        "| ticket | density | of all weights | agreement "
        + "".join(f"| pictures, m = {m} " for m in counts)
        + "".join(f"| dense draws, m = {m} " for m in counts)
        + "| own draws exact |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * (2 * len(counts) + 1),
    ]
    parts = [cell.split("/") for cell in todo if not cell.startswith("speed")]
    methods = list(dict.fromkeys(part[0] for part in parts))
    measured = {(part[0], float(part[1]) if len(part) > 1 else 1.0) for part in parts if "/".join(part) in rows}
    order = sorted(measured, key=lambda place: (methods.index(place[0]), -place[1]))
    lines += [_line(rows, method, density, counts) for method, density in order]
    lines += ["", *_by_density(rows, order, PICTURES), "", *_by_density(rows, order, DRAWS)]
    lines += ["", *_by_range(rows, order[1:], counts)]
    lines += ["", "| required of tickets by magnitude | goal | measured | |", "| --- | ---: | ---: | --- |"]
    for goal in goals(rows, config):
        verdict = {None: "not measured", True: "met", False: "**not met**"}[goal["met"]]
        lines.append(f"| {goal['what']} | {_asked(goal)} | {_measured(goal) or '-'} | {verdict} |")
    return "\n".join([*lines, "", *_remarks(rows, todo, config, command), ""])


def _by_density(rows: Rows, measured: Sequence[tuple[str, float]], kind: str) -> list[str]:
    """Methods against densities: real pictures over the dense generator, or its draws as they are."""
    densities = sorted({density for method, density in measured if method != "dense"}, reverse=True)
    what = (
        "real pictures over the dense generator, dB" if kind == PICTURES else "draws of the dense generator, PSNR in dB"
    )
    titles = [f"m = {AT}: {what}", *(f"density {density:g}" for density in densities)]
    lines = [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * len(densities)}"]
    for method in dict.fromkeys(method for method, _ in measured if method != "dense"):
        cells = [_at_density(rows, method, density, kind) for density in densities]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return lines


def _by_range(rows: Rows, tickets: Sequence[tuple[str, float]], counts: Sequence[int]) -> list[str]:
    """What tickets that kept as much of the dense generator's range gain on real pictures."""
    lines = [
        "| draws of the dense generator, PSNR in dB " + "".join(f"| gain on pictures, m = {m} " for m in counts) + "|"
    ]
    lines.append("| --- |" + " ---: |" * len(counts))
    edges = (0.0, *RANGES, math.inf)
    for low, high in pairwise(edges):
        cells = []
        for m in counts:
            within = [place for place in tickets if low <= mean(rows, *place, DRAWS, m) < high]
            losses = [below_dense(rows, *place, m) for place in within]
            gains = [-loss.estimate for loss in losses if loss is not None]
            told = (
                f"{statistics.fmean(gains):+.2f}, {min(gains):+.2f} to {max(gains):+.2f} ({len(gains)})"
                if gains
                else "-"
            )
            cells.append(told)
        title = f"below {high:g}" if not low else f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _at_density(rows: Rows, method: str, density: float, kind: str) -> str:
    loss = below_dense(rows, method, density, AT)
    if not of_method(rows, method, density) or loss is None:
        return "-"
    if kind == DRAWS:
        return f"{mean(rows, method, density, DRAWS, AT):.2f}"
    return f"{-loss.estimate:+.2f} ({-loss.high:+.2f} to {-loss.low:+.2f})"


def _line(rows: Rows, method: str, density: float, counts: Sequence[int]) -> str:
    found = {0: rows["dense"]} if method == "dense" else of_method(rows, method, density)
    first = next(iter(found.values()))
    errors = [error for row in found.values() for error in row["own_mse"]]
    agreed = [row["agreement_db"] for row in found.values() if "agreement_db" in row]
    parts = [
        f"`{method}`" + (f", {len(found)} seeds" if len(found) > 1 else ""),
        f"{first.get('density', 1.0):.3g}",
        f"{first['share']:.2f}",
        f"{statistics.fmean(agreed):.2f}" if agreed else "-",
        *(_below(below_dense(rows, method, density, m), rows, method, density, m) for m in counts),
        *(f"{mean(rows, method, density, DRAWS, m):.2f}" for m in counts),
        f"{sum(error <= EXACT for error in errors)} of {len(errors)}",
    ]
    return "| " + " | ".join(parts) + " |"


def _below(loss: Interval | None, rows: Rows, method: str, density: float, m: int) -> str:
    level = mean(rows, method, density, PICTURES, m)
    if loss is None or method == "dense":
        return f"{level:.2f}"
    return f"{level:.2f} ({-loss.high:+.2f} to {-loss.low:+.2f})"


def _speed(rows: Rows, density: float) -> str:
    parts = []
    for key, what in (("step_ms", "forward and backward"), ("recover_seconds", "a whole recovery")):
        ratio, pairs = speed_up(rows, density, key)
        parts.append(f"{what} {ratio:.2f} times as fast as dense ({pairs})")
    return f"- `channels` of density {density:g}, compacted: {', '.join(parts)}."


def _remarks(rows: Rows, todo: Sequence[str], config: dict[str, Any], command: str) -> list[str]:
    scale = config["scale"]
    finding = scale["finding"]
    missing = sum(cell not in rows for cell in todo)
    return [
        "- PSNR in dB, means over targets and seeds; in brackets the difference to the dense generator on the same "
        "targets, an interval of 95 % by bootstrap over pictures and seeds. Agreement is the PSNR against "
        "the dense generator's images at the same latents. Gains by how well the dense generator's draws are "
        "recovered: mean, least to most, and in brackets how many tickets.",
        f"- {missing} of {len(todo)} cells were not run: what has no row here, and further seeds."
        if missing
        else f"- All {len(todo)} cells were run.",
        *(_speed(rows, density) for density in scale["channel_densities"] if f"speed/{density:g}" in rows),
        f"- Every ticket but the controls: {finding['rounds']} rounds of {finding['steps']} steps of distillation at "
        f"batch {finding['batch']} and {finding['final_steps']} at the end; the controls `shuffled`, `reinitialised` "
        f"and `narrow` make as many steps at once, and so does `bernoulli` after {finding['learned_steps']} steps that "
        "learn its mask. `random` is pruned at random round by round. "
        "`snip`, `grasp` and `taylor` begin at density 0.9, pruned by `sensitivity` and trained, since the loss "
        "vanishes at the teacher. Density is that of the hidden layers, of `channels` that of all weights.",
        f"- Targets: {', '.join(scale['pictures'])}; {scale['draws']} draws of the dense generator; {scale['own']} "
        f"draws of each ticket, without noise at m = {config['own_at']}. 64x64 RGB, n = 12,288. Gaussian operator of "
        f"variance 1/m, noise {config['noise']:g}, `{config['solvers']['search']}` without a learned start, seed "
        f"{config['seed']}.",
        f"- {described_all(rows.values(), config['versions'])} Made by `{command}`.",
    ]
