"""Numbers for people: a run as a table for the terminal, and levels in decibels."""

import math
from typing import Any

COLUMNS = (
    ("image", "name", "{}"),
    ("source", "source", "{}"),
    ("PSNR dB", "psnr_db", "{:.2f}"),
    ("SSIM", "ssim", "{:.3f}"),
    ("MSE", "mse", "{:.1e}"),
    ("residual", "relative_residual", "{:.1e}"),
    ("mean sd", "mean_sd", "{:.1e}"),
    ("status", "status", "{}"),
    ("solver", "solver", "{}"),
    ("seconds", "seconds", "{:.1f}"),
)


def decibels(psnr: float) -> str:
    """A PSNR for people; a dash where there is none, such as that of an image that diverged."""
    return "exact" if psnr == math.inf else f"{psnr:.1f} dB" if math.isfinite(psnr) else "-"


def _cell(row: dict[str, Any], key: str, form: str) -> str:
    if row[key] is None:
        return "exact" if key == "psnr_db" and row["mse"] == 0 else "-"
    return form.format(row[key])


def run_table(summary: dict[str, Any]) -> str:
    """A line for every image of a `cs_lip.evaluation.run.summary`; a dash where there is no truth to judge by, or the
    image diverged.
    """
    rows = summary["images"]
    columns = [column for column in COLUMNS if column[1] in rows[0]]
    lines = [[title for title, _, _ in columns]]
    for row in rows:
        lines.append([_cell(row, key, form) for _, key, form in columns])
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    texts = ("name", "source", "status", "solver")
    aligned = [
        "  ".join(
            cell.ljust(width) if key in texts else cell.rjust(width)
            for cell, width, (_, key, _) in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(aligned)
