"""What the benchmark of lottery image priors says: its tables, its figure, and whether what is claimed holds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from machine import described_all
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from results_files import Row

from cs_lip.evaluation.statistics import Interval, bootstrap_interval

STOPS = {"psnr_db": "deployed stop", "peak_psnr_db": "oracle peak"}
WITHIN, OVER_DECODER = 0.1, 1.0
"""What is claimed, in dB: how little a ticket may be below the dense network, and how far above the Deep Decoder."""

Rows = Mapping[str, Row]

SHOWN = {
    "lip": "own mask",
    "from": "from\n{first}",
    "from-denoise": "from its\ndenoising",
    "random": "random",
    "snip": "SNIP",
    "decoder": "Deep\nDecoder",
}
"""What the figure calls the methods; ``from`` stands for the mask of the first picture."""

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#7F7F7F", "#CC79A7")
"""Of the pictures."""


@dataclass(frozen=True)
class Verdict:
    """One claim.

    Attributes:
        claim: in words.
        goal: the least mean difference in dB at which it holds.
        pictures: that it is about.
        measured: the difference at each stop, by the names of `STOPS`, with the interval over the pictures that were
            run; None where there is none.
    """

    claim: str
    goal: float
    pictures: int
    measured: dict[str, Interval | None]

    def holds(self, stop: str) -> str:
        found = self.measured[stop]
        return "not run" if found is None else "yes" if found.estimate >= self.goal else "**no**"


def tasks(rows: Rows) -> list[str]:
    return list(dict.fromkeys(cell.split("/")[0] for cell in rows))


def levels(config: dict[str, Any]) -> dict[str, float]:
    """Level -> density, densest first."""
    return dict(sorted(config["densities"].items(), key=lambda entry: -entry[1]))


def difference(
    rows: Rows, task: str, ours: tuple[str, str], rival: tuple[str, str], pictures: Sequence[str], stop: str
) -> Interval | None:
    """The mean of PSNR differences over those of the pictures where both were run; None where there is none.

    Args:
        ours, rival: method and level.
    """
    pairs = [[rows.get(f"{task}/{name}/{'/'.join(key)}") for key in (ours, rival)] for name in pictures]
    gains = [mine[stop] - other[stop] for mine, other in pairs if mine and other]
    return bootstrap_interval(gains) if gains else None


def best_level(rows: Rows, task: str, config: dict[str, Any]) -> str:
    """The level of density at most 0.2 whose tickets are best at the deployed stop, of those run on most pictures."""
    scores = {}
    for level, density in levels(config).items():
        found = difference(rows, task, ("lip", level), ("dense", "0"), config["scale"]["pictures"], "psnr_db")
        if density <= 0.2 + 1e-9 and found is not None:
            scores[level] = (found.count, found.estimate)
    return max(scores, key=lambda level: scores[level]) if scores else next(iter(levels(config)))


def verdicts(rows: Rows, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every claim at each stop, as `cs_lip.evaluation.sweep.claims.stored_verdicts` reads them."""
    return [
        {
            "claim": f"{verdict.claim}, {title}",
            "asked": f"at least {verdict.goal:+.1f} dB",
            "measured": "" if (found := verdict.measured[stop]) is None else _shown(found, verdict.pictures),
            "holds": None if found is None else found.estimate >= verdict.goal,
        }
        for verdict in judged(rows, config)
        for stop, title in STOPS.items()
    ]


def judged(rows: Rows, config: dict[str, Any]) -> list[Verdict]:
    """Every claim, task by task."""
    pictures = config["scale"]["pictures"]
    first, *others = pictures
    found: list[Verdict] = []
    for task in tasks(rows):
        level, transferred = best_level(rows, task, config), next(iter(levels(config)))
        share = f"density {config['densities'][level]:.2g}"

        def judge(
            claim: str,
            goal: float,
            ours: tuple[str, str],
            rival: tuple[str, str],
            names: Sequence[str],
            task: str = task,
        ) -> None:
            measured = {stop: difference(rows, task, ours, rival, names, stop) for stop in STOPS}
            found.append(Verdict(f"{task}: {claim}", goal, len(names), measured))

        judge(f"a ticket of {share} is as good as dense", -WITHIN, ("lip", level), ("dense", "0"), pictures)
        judge(f"{share}, over a Deep Decoder of its size", OVER_DECODER, ("lip", level), ("decoder", level), pictures)
        judge(f"{share}, over a random mask", 0.0, ("lip", level), ("random", level), pictures)
        judge(f"{share}, over SNIP", 0.0, ("lip", level), ("snip", level), pictures)
        taken = f"the mask of {first} is as good as dense on the others"
        judge(taken, -WITHIN, (f"from-{first}", transferred), ("dense", "0"), others)
        if task != "denoise":
            taken = "the mask from denoising the same picture is as good as dense"
            judge(taken, -WITHIN, ("from-denoise", transferred), ("dense", "0"), pictures)
    return found


def table(rows: Rows, total: int, config: dict[str, Any], command: str) -> str:
    lines: list[str] = []
    pictures = config["scale"]["pictures"]
    for task in tasks(rows):
        lines += [f"Mean PSNR in dB over {len(pictures)} pictures, {task}:", ""]
        lines += [
            "| network | density | a layer keeps | parameters | deployed stop | oracle peak | deployed, over dense |"
        ]
        lines += ["| --- | ---: | --- | ---: | ---: | ---: | ---: |"]
        keys = dict.fromkeys(tuple(cell.split("/")[2:]) for cell in rows if cell.startswith(f"{task}/"))
        lines += [_line(rows, task, key[0], key[1], pictures) for key in keys]
        lines.append("")
    lines += ["| claimed | at least | deployed stop | oracle peak | holds, deployed | holds, oracle |"]
    lines += ["| --- | ---: | ---: | ---: | --- | --- |"]
    for verdict in judged(rows, config):
        told = [_shown(verdict.measured[stop], verdict.pictures) for stop in STOPS]
        told += [verdict.holds(stop) for stop in STOPS]
        lines.append(f"| {verdict.claim} | {verdict.goal:+.1f} dB | {' | '.join(told)} |")
    return "\n".join([*lines, "", *_remarks(rows, total, config, command), ""])


def _line(rows: Rows, task: str, method: str, level: str, pictures: Sequence[str]) -> str:
    found = {name: rows[cell] for name in pictures if (cell := f"{task}/{name}/{method}/{level}") in rows}
    first = next(iter(found.values()))
    means = [f"{statistics.fmean(row[stop] for row in found.values()):.2f}" for stop in STOPS]
    ours, rival = (method, level), ("dense", "0")
    gain = None if ours == rival else difference(rows, task, ours, rival, list(found), "psnr_db")
    name = f"`{method}`" + ("" if len(found) == len(pictures) else f", {len(found)} of them")
    density = "-" if method == "decoder" else f"{first['density']:.2f}"
    shares = [share for row in found.values() for share in row.get("layers_keep") or ()]
    keep = f"{min(shares):.2g} to {max(shares):.2g}" if shares else "-"
    return f"| {name} | {density} | {keep} | {first['parameters']:,} | {' | '.join(means)} | {_shown(gain)} |"


def _shown(found: Interval | None, pictures: int = 0) -> str:
    if found is None:
        return "-"
    told = [f"{found.low:+.2f} to {found.high:+.2f}"] if found.count > 1 else []
    told += [f"{found.count} of {pictures} pictures"] if found.count < pictures else []
    return f"{found.estimate:+.2f} dB" + (f" ({'; '.join(told)})" if told else "")


def _remarks(rows: Rows, total: int, config: dict[str, Any], command: str) -> list[str]:
    scale, tasks_of = config["scale"], config["tasks"]
    return [
        "- In brackets intervals of 95 % by bootstrap over the pictures. Of several densities the claims are about the "
        "one whose tickets are best at the deployed stop, on these pictures; masks are taken over at the densest.",
        f"- Not run: {total - len(rows)} of {total} fits." if len(rows) < total else f"- All {total} fits were run.",
        "- Density is that of the hidden convolutions; biases, norms, the layers that read the input and the last one "
        "are dense, and are counted among the parameters. A layer keeps: the least and the most of any picture's mask, "
        "where it was recorded. A Deep Decoder has as many parameters, to the nearest number of channels.",
        f"- The dense network is `skip` {_settings(scale['settings'])}. "
        f"Pictures: {', '.join(scale['pictures'])}, {scale['side']}x{scale['side']} RGB. To denoise, noise "
        f"{tasks_of['sigma']:.3f}; to inpaint, {tasks_of['kept']:.0%} of the pixels; to super-resolve, a factor of "
        f"{tasks_of['factor']}. At most {scale['iterations']} iterations, {scale['steps']} at each level of a search, "
        f"which sees the measurements alone. Seed {config['seed']}.",
        f"- {described_all(rows.values(), config['versions'])} Made by `{command}`.",
    ]


def _settings(settings: dict[str, Any]) -> str:
    told = ", ".join(f"{key} {list(value)}" for key, value in settings.items())
    return f"with {told}" if told else "as published"


def figure(rows: Rows, config: dict[str, Any]) -> Figure:
    """The difference to the dense network, picture by picture: a column for each task, a line for each density that
    was run; full dots at the deployed stop, hollow ones at the oracle peak, a bar at the mean of each."""
    shown, pictures = tasks(rows), config["scale"]["pictures"]
    there = [level for level in levels(config) if any(cell.endswith(f"/{level}") for cell in rows)]
    drawing = Figure(figsize=(4.2 * len(shown) + 1.4, 3.4 * len(there) + 0.6), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(there), len(shown), sharex=True, sharey=True, squeeze=False)
    for line, level in zip(axes, there, strict=True):
        for axis, task in zip(line, shown, strict=True):
            _panel(axis, rows, task, level, pictures)
            axis.set_title(f"{task}, density {config['densities'][level]:.2g}", fontsize=10)
        line[0].set_ylabel("PSNR over the dense network (dB)")
    dots = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=name)
        for name, colour in zip(pictures, COLOURS, strict=False)
    ]
    hollow = Line2D([], [], color="black", marker="o", linestyle="", markerfacecolor="none", label="oracle peak")
    drawing.legend(handles=[*dots, hollow], loc="outside right upper", fontsize=9)
    return drawing


def _panel(axis: Axes, rows: Rows, task: str, level: str, pictures: Sequence[str]) -> None:
    axis.axhline(0, color="black", linewidth=0.8)
    axis.axhline(-WITHIN, color="black", linewidth=0.8, linestyle=":")
    for place, method in enumerate(SHOWN):
        name = f"from-{pictures[0]}" if method == "from" else method
        for side, (stop, filled) in enumerate(zip(STOPS, ("full", "none"), strict=True)):
            x, gains = place + 0.3 * side - 0.15, []
            for each, colour in zip(pictures, COLOURS, strict=False):
                gain = difference(rows, task, (name, level), ("dense", "0"), [each], stop)
                if gain is not None:
                    gains.append(gain.estimate)
                    axis.plot([x], gains[-1:], "o", color=colour, fillstyle=filled, markersize=5)
            if gains:
                axis.hlines(statistics.fmean(gains), x - 0.13, x + 0.13, color="black", linewidth=1.4)
    axis.set_xticks(range(len(SHOWN)), [name.format(first=pictures[0]) for name in SHOWN.values()], fontsize=8)
    # Linear to 1 dB, where the claims are decided, and logarithmic beyond, where SNIP is.
    axis.set_yscale("symlog", linthresh=1.0, linscale=1.5)
    axis.set_yticks([-8, -4, -2, -1, -0.5, 0, 0.5, 1], ["-8", "-4", "-2", "-1", "-0.5", "0", "0.5", "1"])
    axis.minorticks_off()
    axis.grid(axis="y", alpha=0.3)
