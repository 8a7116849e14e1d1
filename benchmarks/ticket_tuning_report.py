"""What the benchmark of tuned weights says: its tables, its figure, and whether what is required is met."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from machine import described_all
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from results_files import Row

from cs_lip.evaluation.statistics import Interval, bootstrap_interval

GOAL_DB, GOAL_UP_TO = 0.5, 1000
"""By how much a ticket is to beat tuning all weights, and up to how many measurements."""

Rows = Mapping[str, Row]

LOOKS = {
    "ticket": ("o", "#D55E00", "what a ticket keeps"),
    "random": ("s", "#7F7F7F", "as many at random"),
    "shuffled": ("D", "#E69F00", "as many of each layer, shuffled"),
    "own": ("^", "#009E73", "a ticket's own generator"),
}
LAYERS = {"layer": ("x", "#0072B2", "this layer alone"), "last": ("+", "#CC79A7", "this many last layers")}
SHARES = (0.001, 0.01, 0.1, 1)
"""Ticks of the fraction that moves."""

GAINS, LINEAR = (-8, -4, -2, -1, -0.5, 0, 0.5, 1), 1.0
"""Ticks of the difference in dB, and up to where its axis is linear: a last layer alone is worse by many."""


def over_all(rows: Rows, m: int, noise: float, name: str) -> Interval | None:
    """The difference to tuning all weights, in dB on the same pictures; None where either was not run."""
    ours, whole = (rows.get(f"{m}/{noise:g}/{other}") for other in (name, "all"))
    if ours is None or whole is None:
        return None
    return bootstrap_interval([one - other for one, other in zip(ours["psnr"], whole["psnr"], strict=True)])


def goals(rows: Rows, config: dict[str, Any]) -> list[dict[str, Any]]:
    """For each m and noise the best ticket's gain over tuning all weights, and the best random mask's beside it."""
    found = []
    scale = config["scale"]
    for m in sorted(count for count in scale["measurements"] if count <= GOAL_UP_TO):
        for noise in scale["noises"]:
            names = {cell.rpartition("/")[2] for cell in rows if cell.startswith(f"{m}/{noise:g}/")}
            best = {kind: _best(rows, m, noise, sorted(names), kind) for kind in ("ticket", "own", "random", "layer")}
            gains = {kind: gain for kind, (gain, _) in best.items() if math.isfinite(gain)}
            value = max((gains[kind] for kind in ("ticket", "own") if kind in gains), default=math.nan)
            told = ", ".join(f"`{name}` {gain:+.2f}" for gain, name in best.values() if name)
            met = None if math.isnan(value) else value >= GOAL_DB
            found.append({"m": m, "noise": noise, "goal": GOAL_DB, "measured": value if met is not None else None})
            found[-1] |= {"where": told, "met": met}
    return found


def _best(rows: Rows, m: int, noise: float, names: Sequence[str], kind: str) -> tuple[float, str]:
    gains = {name: over_all(rows, m, noise, name) for name in names if name.startswith(f"{kind}-")}
    there = {name: gain.estimate for name, gain in gains.items() if gain is not None}
    return max(((gain, name) for name, gain in there.items()), default=(math.nan, ""))


def table(rows: Rows, todo: Sequence[str], config: dict[str, Any], command: str) -> str:
    scale = config["scale"]
    variants = list(dict.fromkeys(cell.rpartition("/")[2] for cell in todo))
    lines: list[str] = []
    for noise in scale["noises"]:
        counts = [m for m in sorted(scale["measurements"]) if f"{m}/{noise:g}/search" in rows]
        if not counts:
            continue
        lines += [f"Mean PSNR in dB over {len(scale['pictures'])} real pictures, noise {noise:g}:", ""]
        lines += ["| tuned | of all weights " + "".join(f"| m = {m} " for m in counts) + "|"]
        lines += ["| --- | ---: |" + " ---: |" * len(counts)]
        measured = [name for name in variants if any(f"{m}/{noise:g}/{name}" in rows for m in counts)]
        lines += [_line(rows, noise, name, counts) for name in measured]
        lines.append("")
    lines += [f"| a ticket over all weights, m <= {GOAL_UP_TO} | goal | measured | |", "| --- | ---: | ---: | --- |"]
    for goal in goals(rows, config):
        verdict = {None: "not measured", True: "met", False: "**not met**"}[goal["met"]]
        measured = "-" if goal["met"] is None else f"{goal['measured']:+.2f} dB (best of each kind: {goal['where']})"
        lines.append(
            f"| m = {goal['m']}, noise {goal['noise']:g} | at least {goal['goal']:g} dB | {measured} | {verdict} |"
        )
    return "\n".join([*lines, "", *_remarks(rows, len(todo), config, command), ""])


def _line(rows: Rows, noise: float, name: str, counts: Sequence[int]) -> str:
    found = [rows.get(f"{m}/{noise:g}/{name}") for m in counts]
    shares = [row["share"] for row in found if row is not None]
    parts = [f"`{name}`", f"{shares[0]:.3f}"]
    for m, row in zip(counts, found, strict=True):
        gain = over_all(rows, m, noise, name)
        level = "-" if row is None else f"{statistics.fmean(row['psnr']):.2f}"
        parts.append(level if gain is None or name == "all" else f"{level} ({gain.low:+.2f} to {gain.high:+.2f})")
    return "| " + " | ".join(parts) + " |"


def _remarks(rows: Rows, total: int, config: dict[str, Any], command: str) -> list[str]:
    scale = config["scale"]
    return [
        "- In brackets the difference to `all` on the same pictures, an interval of 95 % by bootstrap over them. The "
        "best of several tickets, layers or random masks was chosen on these very pictures, which flatters each alike.",
        "- `search`: the latents alone; the others start from it. `ticket` and `random`: weights of the hidden layers; "
        "`shuffled`: as many of each layer as the ticket keeps, but others; "
        "`layer-1` is the first, `last-2` the last two. `own`: the ticket's own generator after distillation, whose "
        "zeros stay. Biases move in `all` and `own` alone.",
        f"- Not run: {total - len(rows)} of {total} cells." if len(rows) < total else f"- All {total} cells were run.",
        f"- Pictures: {', '.join(scale['pictures'])}, 64x64 RGB. Gaussian operator of variance 1/m, at the stop by "
        f"held-out measurements, {scale['shifts']} shift{'s' * (scale['shifts'] > 1)}, `{config['search']}` without a "
        f"learned start, seed {config['seed']}.",
        f"- {described_all(rows.values(), config['versions'])} Made by `{command}`.",
    ]


def figure(rows: Rows, config: dict[str, Any]) -> Figure:
    """The gain over tuning all weights against the fraction of weights that move; bars of 95 % over the pictures."""
    scale = config["scale"]
    there = {tuple(cell.split("/")[:2]) for cell in rows}
    counts = [m for m in sorted(scale["measurements"]) if any(str(m) == count for count, _ in there)]
    noises = [noise for noise in scale["noises"] if any(f"{noise:g}" == level for _, level in there)]
    drawing = Figure(figsize=(2.7 * len(counts) + 0.5, 3.6 * len(noises) + 0.6), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(noises), len(counts), sharex=True, sharey=True, squeeze=False)
    for line, noise in zip(axes, noises, strict=True):
        for axis, m in zip(line, counts, strict=True):
            axis.set_visible(_panel(axis, rows, m, noise))
            axis.set_title(f"m = {m:,}, noise {noise:g}", fontsize=10)
        seen = [axis for axis in line if axis.get_visible()]
        for axis in seen[:1]:
            axis.set_ylabel("PSNR over tuning all weights (dB)")
            axis.tick_params(labelleft=True)
    for column in axes.T:
        lowest = [axis for axis in column if axis.get_visible()][-1:]
        for axis in lowest:
            axis.set_xlabel("fraction of the weights that moves")
            axis.tick_params(labelbottom=True)
    handles = {label: mark for axis in axes.flat for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawing.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize=9)
    return drawing


def _panel(axis: Axes, rows: Rows, m: int, noise: float) -> bool:
    """Draws what there is of one number of measurements and noise; returns whether there is anything."""
    names = [cell.rpartition("/")[2] for cell in rows if cell.startswith(f"{m}/{noise:g}/")]
    for kind, (marker, colour, label) in (LOOKS | LAYERS).items():
        points = []
        for name in names:
            gain = over_all(rows, m, noise, name) if name.startswith(f"{kind}-") else None
            if gain is not None:
                points.append((rows[f"{m}/{noise:g}/{name}"]["share"], gain, name))
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        places, levels = [share for share, _, _ in points], [gain.estimate for _, gain, _ in points]
        style = "-" if kind in LOOKS else "none"
        axis.plot(places, levels, linestyle=style, marker=marker, color=colour, markersize=6, label=label)
        spread = [
            [gain.estimate - gain.low for _, gain, _ in points],
            [gain.high - gain.estimate for _, gain, _ in points],
        ]
        axis.errorbar(places, levels, spread, fmt="none", ecolor=colour, elinewidth=1, capsize=3, alpha=0.6)
        if kind in LAYERS:
            for share, gain, name in points:
                place = (4, 3) if kind == "layer" else (4, -10)
                text = name.partition("-")[2]
                axis.annotate(text, (share, gain.estimate), place, textcoords="offset points", fontsize=8)
    axis.axhline(0, color="black", linewidth=0.8)
    if m <= GOAL_UP_TO:
        axis.axhline(GOAL_DB, color="black", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    axis.set_yscale("symlog", linthresh=LINEAR)
    axis.set_yticks(GAINS, [f"{gain:+g}" if gain else "0" for gain in GAINS])
    axis.set_xticks(SHARES, [f"{share:g}" for share in SHARES])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    return bool(axis.get_legend_handles_labels()[0])
