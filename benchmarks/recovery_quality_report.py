"""What the benchmark of recovery quality says: its table, its figures, and whether what is required is met."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from machine import described
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, NullLocator
from results_files import Row
from scipy.stats import t as student

from cs_lip.recovery import Auto
from cs_lip.report.figures import show_image

BASELINES = ("lasso-dct", "lasso-wavelet", "tv", "omp")
LASSOS = ("lasso-dct", "lasso-wavelet")
ASTRONAUT = {500: 22.0, 2500: 30.0, 5000: 33.5}
OVER_LASSOS = {500: 7.0, 2500: 8.0}
WITHIN = 0.3
"""What is required, in dB."""

SHOWN, SHOWN_AT = ("astronaut", "coffee", "draw-1"), (500, 2500)
SHOWN_SOLVERS = ("auto", "image-adaptive", "tv", "lasso-wavelet")
"""The targets, measurements and solvers of the figure of examples."""

PANELS = (
    ("auto", "image-adaptive", "tv", "lasso-wavelet", "lasso-dct"),
    ("auto", "latent-search", "intermediate-layers", "sparse-deviation", "linear-estimate", "npgd", "omp", "csgm"),
)
"""The solvers of the upper and of the lower panels: more lines with bands than these are not legible."""

LOOKS = {
    "auto": ("#000000", "o"),
    "image-adaptive": ("#0072B2", "s"),
    "tv": ("#D55E00", "^"),
    "lasso-wavelet": ("#009E73", "D"),
    "lasso-dct": ("#CC79A7", "v"),
    "latent-search": ("#56B4E9", "s"),
    "intermediate-layers": ("#E69F00", "^"),
    "sparse-deviation": ("#882255", "D"),
    "linear-estimate": ("#7F7F7F", "v"),
    "npgd": ("#332288", "<"),
    "omp": ("#117733", ">"),
    "csgm": ("#AA4499", "X"),
}
"""Colour and marker of every solver."""

TICKS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Results:
    """The rows of a run by (m, solver), and the names of its targets in their order."""

    rows: dict[tuple[int, str], Row]
    names: tuple[str, ...]

    def psnr(self, m: int, solver: str, group: Sequence[str]) -> list[float]:
        """In dB, of the targets of a group; nothing where the cell is not there or was refused."""
        values = self.rows.get((m, solver), {}).get("psnr")
        return [] if values is None else [values[self.names.index(name)] for name in group]

    def mean(self, m: int, solver: str, group: Sequence[str]) -> float:
        """The mean PSNR; NaN where there is none."""
        values = self.psnr(m, solver, group)
        return float(np.mean(values)) if values else math.nan

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        drawn = tuple(name for name in self.names if name.startswith("draw-"))
        return {"real pictures": tuple(name for name in self.names if name not in drawn), "draws in range": drawn}

    @property
    def counts(self) -> list[int]:
        return sorted({m for m, _ in self.rows})

    @property
    def solvers(self) -> list[str]:
        found = {solver for _, solver in self.rows}
        return [name for name in dict.fromkeys((*PANELS[0], *PANELS[1], *sorted(found))) if name in found]

    def shortfall(self, group: Sequence[str], rivals: Sequence[str]) -> tuple[float, str]:
        """By how much the mean of ``auto`` is below that of the best rival at most, over all m, and where."""
        worst, where = -math.inf, ""
        for m in self.counts:
            for rival in rivals:
                gap = self.mean(m, rival, group) - self.mean(m, "auto", group)
                if gap > worst:
                    worst, where = gap, f"{rival} at m = {m}"
        return worst, where


def goals(results: Results) -> list[dict[str, Any]]:
    """What is required of ``auto``, what was measured, and whether that is met; None where it was not measured."""
    pictures = results.groups["real pictures"]
    found: list[dict[str, Any]] = []

    def judge(what: str, goal: float, value: float, where: str = "", *, most: bool = False) -> None:
        met = None if not math.isfinite(value) else value <= goal if most else value >= goal
        found.append({"what": what, "goal": goal, "most": most, "measured": value, "where": where, "met": met})

    others = [solver for solver in results.solvers if solver != "auto"]
    for title, rivals in (("the best solver", others), ("the best baseline", BASELINES)):
        for label, group in results.groups.items():
            judge(f"{label}: below {title}, at most over all m", WITHIN, *results.shortfall(group, rivals), most=True)
    for m, goal in OVER_LASSOS.items():
        gaps = {name: results.mean(m, "auto", pictures) - results.mean(m, name, pictures) for name in LASSOS}
        closest = min(gaps, key=lambda name: gaps[name])
        value = gaps[closest] if all(map(math.isfinite, gaps.values())) else math.nan
        judge(f"real pictures: over both Lassos at m = {m}", goal, value, closest)
    for m, goal in ASTRONAUT.items():
        judge(f"astronaut at m = {m}", goal, results.mean(m, "auto", ("astronaut",)))
    return found


def table(results: Results, config: dict[str, Any], command: str) -> str:
    lines: list[str] = []
    for label, group in results.groups.items():
        lines += [f"Mean PSNR in dB over {len(group)} {label}:", ""]
        lines += ["| m | " + " | ".join(f"`{name}`" for name in results.solvers) + " |"]
        lines += ["| ---: |" + " ---: |" * len(results.solvers)]
        for m in results.counts:
            means = [results.mean(m, solver, group) for solver in results.solvers]
            best = max((mean for mean in means if mean == mean), default=math.nan)
            shown = [_bold(f"{mean:.2f}", mean == best) if mean == mean else "-" for mean in means]
            lines.append(f"| {m} | " + " | ".join(shown) + " |")
        lines.append("")
    lines += ["| required of `auto` | goal | measured | |", "| --- | ---: | ---: | --- |"]
    for goal in goals(results):
        asked = f"{'at most' if goal['most'] else 'at least'} {goal['goal']:g} dB"
        verdict = {None: "not measured", True: "met", False: "**not met**"}[goal["met"]]
        where = f" ({goal['where']})" if goal["where"] else ""
        measured = "-" if goal["met"] is None else f"{goal['measured']:.2f} dB{where}"
        lines.append(f"| {goal['what']} | {asked} | {measured} | {verdict} |")
    return "\n".join([*lines, "", *_remarks(results, config, command), ""])


def _remarks(results: Results, config: dict[str, Any], command: str) -> list[str]:
    software, hardware = config["versions"], config["machine"]
    (loss, where), name = max((results.shortfall((name,), BASELINES), name) for name in results.names)
    shared = (
        "Every solver computed all by itself, on its defaults."
        if config["full"]
        else "Solvers that start from latents share the search of `auto` "
        f"({Auto().search.restarts} starts beside the learned ones, no last descent), which stands for "
        "`latent-search`; `auto` chooses among the results of this run. "
        "What has no number was not run, or refused."
    )
    refused = {solver: row["refused"] for (_, solver), row in results.rows.items() if "refused" in row}
    return [
        f"- {shared}",
        f"- Single targets: `auto` is at most {loss:.2f} dB below a baseline: {where}, {name}.",
        *(f"- Refused, `{solver}`: {sentence}." for solver, sentence in refused.items()),
        f"- Targets: {', '.join(results.names)}; 64x64 RGB, n = 12,288. Gaussian operator of variance 1/m, noise "
        f"{config['noise']:g}, generator `{config['generator']['name']}` with its learned start, seed "
        f"{config['seed']}.",
        f"- {described(hardware, software)} Made by `{command}`.",
    ]


# The figures


def figure(results: Results) -> Figure:
    """The error against m: one column of panels for each group of targets, a 95 % band around each solver's mean."""
    drawing = Figure(figsize=(11.5, 9), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(PANELS), 2, sharex=True, sharey="col")
    for line, panel in zip(axes, PANELS, strict=True):
        for axis, (label, group) in zip(line, reversed(results.groups.items()), strict=True):
            _plot_errors(axis, results, panel, group)
            axis.set_title(f"{len(group)} {label}", fontsize=11)
        line[0].set_ylabel("error: root mean square a pixel, in [0, 1]")
        line[-1].legend(fontsize=9, loc="lower left", title="mean, 95 % band", title_fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("measurements m of n = 12,288")
    return drawing


def _plot_errors(axis: Axes, results: Results, panel: Sequence[str], group: Sequence[str]) -> None:
    for solver in panel:
        at = [m for m in results.counts if results.psnr(m, solver, group)]
        if not at:
            continue
        means, reach = np.array([interval(results.psnr(m, solver, group)) for m in at]).T
        # Thick and underneath, so that the solver whose result it took shows on top of it.
        width, layer = (4.0, 2.0) if solver == "auto" else (1.4, 2.5)
        colour, marker = LOOKS[solver]
        look: dict[str, Any] = {"color": colour, "linewidth": width, "zorder": layer}
        axis.plot(at, rmse(means), marker=marker, markersize=5, label=solver, **look)
        axis.fill_between(at, rmse(means + reach), rmse(means - reach), alpha=0.1, linewidth=0, color=colour)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(results.counts, [f"{m:,}" for m in results.counts], fontsize=8.5)
    axis.minorticks_off()
    low, high = axis.get_ylim()
    axis.set_yticks([tick for tick in TICKS if low <= tick <= high])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right = axis.secondary_yaxis("right", functions=(decibels, rmse))
    right.set_ylabel("PSNR in dB", fontsize=9)
    right.yaxis.set_major_locator(MultipleLocator(5))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axis.grid(alpha=0.3)


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean over the targets, and half the width of its 95 % interval by Student's t."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), 0.0
    reach = student.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
    return float(np.mean(values)), float(reach)


def rmse(decibel: Any) -> Any:
    """The root mean squared error of a PSNR; of a mean PSNR, the geometric mean of the errors."""
    return 10 ** (-np.asarray(decibel, dtype=float) / 20)


def decibels(error: Any) -> Any:
    return -20 * np.log10(np.maximum(np.asarray(error, dtype=float), 1e-12))


def example_figure(examples: Mapping[str, np.ndarray], results: Results) -> Figure:
    """The truth, and what some solvers recover; the PSNR stands below each."""
    columns = [(None, "truth"), *((m, solver) for m in SHOWN_AT for solver in SHOWN_SOLVERS)]
    drawing = Figure(figsize=(1.45 * len(columns), 1.75 * len(SHOWN) + 0.3), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(SHOWN), len(columns), squeeze=False)
    for line, name in enumerate(SHOWN):
        for column, (m, solver) in enumerate(columns):
            axis, key = axes[line, column], "truth" if m is None else f"{m}/{solver}"
            if key not in examples:
                axis.axis("off")
                continue
            show_image(axis, torch.from_numpy(examples[key][line].astype(np.float32) / 255))
            if m is not None:
                axis.set_xlabel(f"{results.mean(m, solver, (name,)):.1f} dB", fontsize=9)
            if line == 0:
                axis.set_title(solver if m is None else f"{solver}\nm = {m:,}", fontsize=9)
        axes[line, 0].set_ylabel(name, fontsize=10)
    return drawing
