"""The tables of a sweep's page: means with their intervals, and the rows themselves."""

from collections.abc import Sequence

from cs_lip.evaluation.statistics import Interval
from cs_lip.evaluation.sweep.claims import HOLDS, Verdict
from cs_lip.evaluation.sweep.summary import by_setting, gain_over_dense, setting_of
from cs_lip.evaluation.sweep.table import CSV_FILE, Row
from cs_lip.report.groups import (
    condition_names,
    condition_of,
    grouped,
    mean_of,
    method_names,
    method_of,
    with_interval,
)
from cs_lip.report.page import Entry, Table, number_entry, text_entry
from cs_lip.report.phase import SUCCESS_MSE, success_rate

MOST_ROWS = 1000
"""Of a table on a page; more make it slow to open and to sort."""

ROW_COLUMNS = (
    ("image", "image", "{}"),
    ("kind", "kind", "{}"),
    ("operator", "operator", "{}"),
    ("m", "m", "{}"),
    ("noise", "sigma", "{:g}"),
    ("SNR dB", "snr_db", "{:.1f}"),
    ("outliers", "outliers", "{:g}"),
    ("prior", "prior", "{}"),
    ("ticket", "ticket", "{}"),
    ("density", "density", "{:.3g}"),
    ("granularity", "granularity", "{}"),
    ("criterion", "criterion", "{}"),
    ("solver", "solver", "{}"),
    ("fidelity", "fidelity", "{}"),
    ("seed", "seed", "{}"),
    ("status", "status", "{}"),
    ("PSNR dB", "psnr", "{:.2f}"),
    ("oracle PSNR dB", "oracle_psnr", "{:.2f}"),
    ("SSIM", "ssim", "{:.3f}"),
    ("MSE", "mse", "{:.2e}"),
    ("residual", "relative_residual", "{:.1e}"),
    ("iterations", "iterations", "{}"),
    ("seconds", "seconds", "{:.1f}"),
)


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """What is claimed, what was measured, and whether it holds."""
    lines = tuple(
        tuple(map(text_entry, (HOLDS[each.holds], each.measured, each.claim, each.asked, each.by))) for each in verdicts
    )
    note = "Differences are of PSNR, paired by image and seed, with their 95 % bootstrap intervals."
    return Table("Claims", note, ("verdict", "measured", "claim", "asked", "by"), lines)


def means_table(rows: Sequence[Row]) -> Table:
    """A line for every condition, number of measurements and method, the first `MOST_ROWS`."""
    conditions, names = condition_names(rows), method_names(rows)
    groups, settings = grouped(rows, lambda row: (condition_of(row), row.m, method_of(row))), by_setting(rows)
    order = {key: number for number, key in enumerate([*conditions, *names])}
    lines = []
    for condition, m, method in sorted(groups, key=lambda key: (order[key[0]], key[1], order[key[2]]))[:MOST_ROWS]:
        own = groups[condition, m, method]
        gain = gain_over_dense(own, settings[setting_of(own[0])])
        known = [text_entry(conditions[condition]), number_entry(m, "{}"), text_entry(names[method])]
        lines.append((*known, *_measured(own, gain)))
    titles = (
        "images",
        "m",
        "method",
        "rows",
        "MSE",
        "PSNR dB",
        "above dense, dB",
        f"share with MSE to {SUCCESS_MSE:g}",
    )
    note = (
        "Means over images and seeds with their 95 % intervals. What a method is above dense is paired by image and "
        "seed: a ticket against its own dense network, all else against the first dense generator of the plan."
        + _cut(len(groups))
    )
    return Table("Means", note, titles, tuple(lines))


def rows_table(rows: Sequence[Row]) -> Table:
    """The first `MOST_ROWS` rows, without columns in which nothing stands."""
    columns = [column for column in ROW_COLUMNS if any(_told(getattr(row, column[1])) for row in rows)]
    lines = [tuple(_entry(getattr(row, name), form) for _, name, form in columns) for row in rows[:MOST_ROWS]]
    return Table("Rows", _cut(len(rows)).strip(), tuple(title for title, _, _ in columns), tuple(lines))


def _measured(own: Sequence[Row], gain: Interval | None) -> tuple[Entry, ...]:
    return (
        number_entry(len(own), "{}"),
        _interval_entry(mean_of(own, "mse"), "{:.2e}"),
        _interval_entry(mean_of(own, "psnr"), "{:.2f}"),
        _interval_entry(gain, "{:+.2f}"),
        _interval_entry(success_rate(own), "{:.2f}"),
    )


def _interval_entry(value: Interval | None, form: str) -> Entry:
    return number_entry(None if value is None else value.estimate, with_interval(value, form))


def _entry(value: str | float, form: str) -> Entry:
    return text_entry(value) if isinstance(value, str) else number_entry(value, form)


def _told(value: str | float) -> bool:
    """Neither an empty text nor NaN."""
    return value != "" and value == value


def _cut(count: int) -> str:
    return (
        f" The first {MOST_ROWS} of {count} rows; all rows of the sweep are in {CSV_FILE}." if count > MOST_ROWS else ""
    )
