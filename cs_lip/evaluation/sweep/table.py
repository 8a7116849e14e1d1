"""The table of a sweep: its columns, and the files ``sweep.h5`` and ``rows.csv``."""

import csv
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cs_lip.files import atomic_path, opened_hdf5, written_hdf5

KIND, FORMAT = "cs-lip sweep", 1
TABLE_FILE, CSV_FILE = "sweep.h5", "rows.csv"

MOST_ROWS = 10**7
"""Of a table that is read: a damaged file could claim any number."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one image in one cell.

    Attributes:
        image: its name.
        kind: ``in-range`` (a draw of the dense generator), ``picture`` (a bundled one) or ``file``.
        operator: ``gaussian``, ``fourier``, ``denoise``, ``inpaint`` or ``super-resolve``.
        m, n: real measurements, and pixels times channels.
        sigma: standard deviation of the noise on every real measurement.
        snr_db: of the image's own measurements; NaN without noise.
        outliers: share of measurements that were made bad.
        prior: the generator's or the untrained network's name; empty for solvers that need none.
        ticket: its name; empty for a dense prior.
        density: fraction of the prunable weights kept, as measured on the ticket; 1 for a dense prior, NaN without any.
        granularity: of the ticket, ``weight``, ``kernel`` or ``channel``; empty without one.
        criterion: by which the ticket was found; empty without one.
        solver, fidelity: by name.
        seed: of the operator, the noise and the solver.
        status: see `cs_lip.recovery.Status`.
        mse, psnr, ssim: against the truth, PSNR in dB; NaN where an image is too small for SSIM.
        oracle_psnr: the best PSNR of all iterations, which no stop can know; of untrained networks alone, else NaN.
        relative_residual: |A x - y| / |y|, over the measurements that the fidelity trusts.
        iterations: of the solver, those that worked on this image.
        seconds: this image's equal share of the cell's wall time.
        cell: the hash of the cell.
        versions: of what the numbers depend on, as JSON.
    """

    image: str
    kind: str
    operator: str
    m: int
    n: int
    sigma: float
    snr_db: float
    outliers: float
    prior: str
    ticket: str
    density: float
    granularity: str
    criterion: str
    solver: str
    fidelity: str
    seed: int
    status: str
    mse: float
    psnr: float
    ssim: float
    oracle_psnr: float
    relative_residual: float
    iterations: int
    seconds: float
    cell: str
    versions: str


@dataclass(frozen=True, eq=False)
class Result:
    """What a cell came to.

    Attributes:
        rows: one an image, in the cell's order, with empty ``versions``.
        images: recovered, ``(images, channels, height, width)``, rounded to bytes.
    """

    rows: tuple[Row, ...]
    images: NDArray[np.uint8]


COLUMNS: dict[str, type] = {each.name: each.type for each in fields(Row) if isinstance(each.type, type)}
"""The columns in their order, and whether they hold texts, whole numbers or floats."""


def row_to_json(row: Row) -> dict[str, Any]:
    """A row as strict JSON: null for NaN and infinity. Cell and versions, which its file says once, are left out."""
    told = {name: value for name, value in asdict(row).items() if name not in ("cell", "versions")}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in told.items()
    }


def row_from_json(given: dict[str, Any], cell: str, versions: str) -> Row:
    """What `row_to_json` made a row of.

    Raises:
        ValueError: a column is missing, unknown, or of another type.
    """
    whole = given | {"cell": cell, "versions": versions}
    if whole.keys() != COLUMNS.keys():
        raise ValueError(f"a row has other columns ({', '.join(sorted(whole.keys() ^ COLUMNS.keys()))})")
    return Row(**{name: _value(name, whole[name], kind) for name, kind in COLUMNS.items()})


def write_table(folder: Path, rows: Sequence[Row], configuration: dict[str, Any], versions: dict[str, str]) -> None:
    """Write ``sweep.h5`` (one group, a dataset a column) and ``rows.csv`` (NaN as nothing), each atomically.

    Args:
        configuration: the plan, JSON-able.
        versions: of what collected the rows; each row has those of what measured it.
    """
    with written_hdf5(folder / TABLE_FILE, KIND, FORMAT) as file:
        file.attrs["configuration"], file.attrs["versions"] = json.dumps(configuration), json.dumps(versions)
        group = file.create_group("rows")
        for name, kind in COLUMNS.items():
            values = [getattr(row, name) for row in rows]
            dtype = {str: h5py.string_dtype(), int: np.int64, float: np.float64}[kind]
            group.create_dataset(name, data=np.array(values, dtype=object if kind is str else dtype), dtype=dtype)
    with (
        atomic_path(folder / CSV_FILE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in rows)


def read_rows(folder: Path) -> list[Row]:
    """The rows in a sweep's ``sweep.h5``.

    Args:
        folder: of the sweep, or the file itself.

    Raises:
        ValueError: no such file, another program's, damaged, or of a newer format.
    """
    path = folder / TABLE_FILE if folder.is_dir() else folder
    with _opened(path) as file:
        columns = {name: _column(file["rows"][name], name, kind) for name, kind in COLUMNS.items()}
        if len({len(values) for values in columns.values()}) > 1:
            raise KeyError("its columns have different lengths")
        return [Row(*values) for values in zip(*columns.values(), strict=True)]


def read_configuration(folder: Path) -> dict[str, Any]:
    """The plan that a sweep's table was collected for.

    Raises:
        ValueError: as `read_rows`.
    """
    path = folder / TABLE_FILE if folder.is_dir() else folder
    with _opened(path) as file:
        found: dict[str, Any] = json.loads(file.attrs["configuration"])
        return found


def _opened(path: Path) -> Any:
    return opened_hdf5(path, (KIND,), FORMAT, "the folder of a sweep that `cs-lip sweep` wrote")


def _column(dataset: h5py.Dataset, name: str, kind: type) -> list[Any]:
    if dataset.ndim != 1 or dataset.shape[0] > MOST_ROWS:
        raise KeyError(f"the column {name} has shape {dataset.shape}")
    if kind is str:
        return [sys.intern(text) for text in dataset.asstr()[:]]
    values: list[Any] = dataset[:].tolist()
    return [kind(value) for value in values]


def _cells(row: Row) -> Iterable[str]:
    for name, kind in COLUMNS.items():
        value = getattr(row, name)
        yield "" if kind is float and math.isnan(value) else repr(value) if kind is float else str(value)


def _value(name: str, value: Any, kind: type) -> Any:
    if kind is float and value is None:
        return math.nan
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"the column {name} holds {value!r:.40}, expected {kind.__name__}")
    return sys.intern(value) if isinstance(value, str) else value
