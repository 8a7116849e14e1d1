"""Joining the rows of finished cells into the table of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.sweep import Scan, scan
from cs_lip.evaluation.sweep.table import write_table


def collect(folder: Path, cells: Sequence[Cell], configuration: dict[str, Any]) -> Scan:
    """Write ``sweep.h5`` and ``rows.csv`` from what is finished of a plan's cells, in the plan's order.

    Args:
        folder: of the sweep.
        cells: of the plan.
        configuration: the plan, JSON-able.

    Returns:
        What was finished.
    """
    found = scan(folder, cells)
    rows = [row for key in found.cells if key in found.rows for row in found.rows[key]]
    write_table(folder, rows, configuration, versions())
    return found
