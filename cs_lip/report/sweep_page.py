"""The page of a sweep."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cs_lip.evaluation.sweep.claims import read_verdicts
from cs_lip.evaluation.sweep.plan_file import plan_from_table, plan_text
from cs_lip.evaluation.sweep.table import Row, read_configuration, read_rows
from cs_lip.report.curves import MOST_PANELS, error_figure
from cs_lip.report.density import density_figure, has_curve
from cs_lip.report.exhibits import Exhibit, load_exhibits
from cs_lip.report.groups import (
    condition_names,
    condition_of,
    grouped,
    level_name,
    mean_of,
    method_names,
    method_of,
    with_interval,
)
from cs_lip.report.matrix import matrix_figure
from cs_lip.report.page import Gallery, Page, Panel, Picture, Table, panel, picture_uri
from cs_lip.report.phase import SUCCESS_MSE, phase_figure, phase_groups
from cs_lip.report.sweep_tables import claims_table, means_table, rows_table
from cs_lip.report.text import decibels
from cs_lip.report.transfer import MEANS, MOST_ACROSS, Across, transfer_figure

COMMAND = "cs-lip sweep plan.toml --out again && cs-lip report again"

BANDS = "Bands are 95 % bootstrap intervals of the mean over images and seeds."


def sweep_page(folder: Path) -> Page:
    """What there is to say and to see of a sweep.

    Raises:
        ValueError: there is no table of a sweep, it is damaged or of a newer format, or it has no rows.
    """
    rows = read_rows(folder)
    if not rows:
        raise ValueError(f"the sweep in {folder} has no rows yet; try the same `cs-lip sweep` command again")
    exhibits, note = load_exhibits(folder, rows)
    return Page(
        title=_title(rows),
        summary=tuple(_summary(rows)),
        command=COMMAND,
        panels=tuple(_panels(rows, exhibits)),
        gallery=_gallery(exhibits, note) if exhibits else None,
        tables=(*_claims(folder), means_table(rows), rows_table(rows)),
        configuration=_plan(folder),
        versions=_versions(rows),
    )


def _title(rows: Sequence[Row]) -> str:
    counts = sorted({row.m for row in rows})
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    methods = len(method_names(rows))
    return f"{methods} {'method' if methods == 1 else 'methods'} at {span} measurements"


def _summary(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    names = method_names(rows)
    yield "Methods", "; ".join(names.values())
    yield (
        "Measurements",
        ", ".join(str(m) for m in sorted({row.m for row in rows})) + f" of {rows[0].n} numbers an image",
    )
    seeds = len({row.seed for row in rows})
    yield "Images", f"{len({row.image for row in rows})}, with {seeds} {'seed' if seeds == 1 else 'seeds'}"
    yield "Rows", f"{len(rows)} in {len({row.cell for row in rows})} cells"
    yield (
        "Status",
        ", ".join(f"{times} {status}" for status, times in Counter(row.status for row in rows).most_common()),
    )
    if lost := sum(not math.isfinite(row.mse) for row in rows):
        yield "Left out", f"{lost} rows without a finite error are in no mean"
    yield "Seconds", f"{sum(row.seconds for row in rows):.0f} of solving"
    for condition, title in condition_names(rows).items():
        if best := _best([row for row in rows if condition_of(row) == condition]):
            yield f"Best, {title}", best


def _best(rows: Sequence[Row]) -> str:
    """The method with the highest mean PSNR at the largest number of measurements."""
    m = max(row.m for row in rows)
    names = method_names(rows)
    means = {
        method: mean
        for method, own in grouped([row for row in rows if row.m == m], method_of).items()
        if (mean := mean_of(own, "psnr")) is not None
    }
    if not means:
        return ""
    method = max(means, key=lambda each: means[each].estimate)
    return f"{names[method]} at m = {m}: {with_interval(means[method], '{:.1f}')} dB"


def _panels(rows: Sequence[Row], exhibits: Sequence[Exhibit]) -> Iterator[Panel]:
    cut = len(condition_names(rows)) > MOST_PANELS
    some = f" The first {MOST_PANELS} of {len(condition_names(rows))} conditions are drawn." if cut else ""
    settings = {(row.operator, row.m) for row in rows}
    if len({operator for operator, _ in settings}) < len(settings):
        yield panel("error", "Error against the number of measurements", BANDS + some, error_figure(rows))
    if has_curve(rows):
        across = " Solvers without a prior are lines across." if any(not row.prior for row in rows) else ""
        yield panel("density", "PSNR against density", BANDS + across + some, density_figure(rows))
    if groups := phase_groups(rows):
        first = f" The first {MOST_PANELS} of {len(groups)} diagrams are drawn." if len(groups) > MOST_PANELS else ""
        yield panel(
            "phase",
            "Where recovery succeeds",
            f"The share of images and seeds with a mean squared error of at most {SUCCESS_MSE:g} "
            f"({-10 * math.log10(SUCCESS_MSE):.0f} dB), in per cent with its 95 % interval.{first}",
            phase_figure(rows),
        )
    yield from _maps(rows)
    for kind, exhibit in {each.kind: each for each in reversed(exhibits)}.items():
        yield panel(
            f"images-{kind}", f"{exhibit.image}, recovered", "Each image with its PSNR.", matrix_figure(exhibit)
        )


def _maps(rows: Sequence[Row]) -> Iterator[Panel]:
    """The maps of how tickets carry over, at each noise with its outliers."""
    levels = grouped(rows, lambda row: (row.sigma, row.outliers))
    for number, (level, own) in enumerate(sorted(levels.items()), start=1):
        last, where = (f"-{number}", f", {level_name(*level)}") if len(levels) > 1 else ("", "")
        for across, title in _carried(own).items():
            yield panel(f"transfer-{across}s{last}", title + where, MEANS[across], transfer_figure(own, across))


def _carried(rows: Sequence[Row]) -> dict[Across, str]:
    """The maps of how tickets carry over, with their titles: where a ticket and other methods meet several tasks, or
    the same tasks on several images, at one number of measurements each."""
    tasks = {method: {(row.operator, row.m) for row in own} for method, own in grouped(rows, method_of).items()}
    every = set().union(*tasks.values())
    if not any(row.ticket for row in rows) or len(tasks) < 2 or len({operator for operator, _ in every}) < len(every):
        return {}
    titles: dict[Across, str] = {}
    if len(every) > 1:
        titles["task"] = "How tickets carry over to tasks"
    if 1 < len({row.image for row in rows}) <= MOST_ACROSS and all(own == every for own in tasks.values()):
        titles["image"] = "How tickets carry over to images"
    return titles


def _gallery(exhibits: Sequence[Exhibit], note: str) -> Gallery:
    pictures = []
    for number, exhibit in enumerate(exhibits):
        if exhibit.truth is not None:
            pictures.append(Picture(number, None, "truth", "", picture_uri(exhibit.truth)))
        pictures += [
            Picture(number, shot.m, shot.method, decibels(shot.psnr), picture_uri(shot.pixels))
            for shot in exhibit.shots
        ]
    counts = sorted({shot.m for exhibit in exhibits for shot in exhibit.shots})
    return Gallery(note, tuple(exhibit.image for exhibit in exhibits), tuple(counts), tuple(pictures))


def _claims(folder: Path) -> tuple[Table, ...]:
    verdicts = read_verdicts(folder)
    return (claims_table(verdicts),) if verdicts else ()


def _plan(folder: Path) -> str:
    """The plan of the table, which that of the folder is not where a later sweep was stopped; as it stands where it is
    none that this version reads.
    """
    configuration = read_configuration(folder)
    try:
        return plan_text(plan_from_table(configuration, "of the table"))
    except ValueError:
        return json.dumps(configuration, indent=2)


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    """Of all rows; several of one package stand side by side."""
    found: dict[str, dict[str, None]] = {}
    for text in {row.versions: None for row in rows}:
        for name, number in json.loads(text or "{}").items():
            found.setdefault(name, {})[number] = None
    return {name: ", ".join(numbers) for name, numbers in found.items()}
