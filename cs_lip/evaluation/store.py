"""Measurements and runs on disk: HDF5 that holds numbers and JSON, and never code."""

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from cs_lip.evaluation.acquisition import Outliers
from cs_lip.evaluation.oracle import Peak
from cs_lip.evaluation.run import Measurements, Run, strict, summary
from cs_lip.files import atomic_path, opened_hdf5, written_hdf5
from cs_lip.recovery import Record, Recovery, Status

FORMAT = 1
MEASUREMENTS, RECOVERY = "cs-lip measurements", "cs-lip recovery"
RUN_FILE, FIGURE_FILE, SUMMARY_FILE = "recovery.h5", "recovery.png", "summary.json"
"""The names of a run's files in its folder."""
PAGE_FILE = "report.html"
"""Of a run or a sweep, in its folder; whoever replaces the run removes the page of the one before."""


def save_measurements(path: Path, measurements: Measurements) -> None:
    """Write measurements to one HDF5 file, atomically; an existing file is replaced."""
    with _written(path, MEASUREMENTS) as file:
        _put_measurements(file, measurements)


def load_measurements(path: Path) -> Measurements:
    """Read measurements, from a file of measurements or from a run's.

    Raises:
        ValueError: no such file, not HDF5 or truncated, of another kind, of a newer format, or with fields missing.
    """
    attempt = "a file that `cs-lip measure` or `cs-lip recover` wrote"
    with _opened(path, (MEASUREMENTS, RECOVERY), attempt) as file:
        return _get_measurements(file)


def save_run(path: Path, run: Run) -> None:
    """Write a run to one HDF5 file, atomically; an existing file is replaced."""
    with _written(path, RECOVERY) as file:
        _put_measurements(file, run.measurements)
        if run.truth is not None:
            file["truth"] = _array(run.truth)
        file["least_squares"] = _array(run.least_squares)
        file["images"] = _array(run.recovery.images)
        if run.sd is not None:
            file["sd"] = _array(run.sd)
        if run.recovery.latents is not None:
            file["latents"] = _array(run.recovery.latents)
        if run.oracle_peak is not None:
            _put_json(file, oracle_peak=asdict(run.oracle_peak))
        file["relative_residual"] = np.array(run.recovery.relative_residual)
        file["status"] = [status.value for status in run.recovery.status]
        _put_history(file.create_group("history"), run.recovery.history)
        _put_json(
            file,
            notes=run.recovery.notes,
            timings=run.recovery.timings,
            solver_configuration=run.recovery.configuration,
            config=run.config,
            versions=run.versions,
        )


def load_run(path: Path) -> Run:
    """Read a run that `save_run` wrote.

    Raises:
        ValueError: as `load_measurements`, or a file of measurements alone.
    """
    attempt = "a run of `cs-lip recover` or `restore`; `cs-lip recover --from FILE` makes one of measurements"
    with _opened(path, (RECOVERY,), attempt) as file:
        recovery = Recovery(
            images=_tensor(file["images"]),
            latents=_tensor(file["latents"]) if "latents" in file else None,
            relative_residual=tuple(float(value) for value in file["relative_residual"]),
            status=tuple(Status(name) for name in _texts(file["status"])),
            notes=tuple(_get_json(file, "notes")) if "notes" in file.attrs else ({},) * len(file["status"]),
            history=_get_history(file["history"]),
            timings=_get_json(file, "timings"),
            configuration=_get_json(file, "solver_configuration"),
        )
        return Run(
            measurements=_get_measurements(file),
            truth=_tensor(file["truth"]) if "truth" in file else None,
            least_squares=_tensor(file["least_squares"]),
            recovery=recovery,
            config=_get_json(file, "config"),
            versions=_get_json(file, "versions"),
            sd=_tensor(file["sd"]) if "sd" in file else None,
            oracle_peak=_peak(_get_json(file, "oracle_peak")) if "oracle_peak" in file.attrs else None,
        )


def save_summary(path: Path, run: Run) -> None:
    """Write ``summary.json`` (see `cs_lip.evaluation.run.summary`), atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(summary_json(run) + "\n", encoding="utf-8")


def summary_json(run: Run) -> str:
    """The summary as strict JSON."""
    return json.dumps(summary(run), indent=2, allow_nan=False)


def _written(path: Path, kind: str) -> AbstractContextManager[h5py.File]:
    return written_hdf5(path, kind, FORMAT)


def _opened(path: Path, kinds: Sequence[str], attempt: str) -> AbstractContextManager[h5py.File]:
    return opened_hdf5(path, kinds, FORMAT, attempt)


def _put_measurements(file: h5py.File, measurements: Measurements) -> None:
    file["measurements"] = _array(measurements.values)
    file["names"], file["sources"] = list(measurements.names), list(measurements.sources)
    file.attrs["noise"] = measurements.noise
    _put_json(file, operator=measurements.recipe)
    if measurements.response is not None:
        _put_json(file, operator_response=measurements.response)
    if measurements.outliers is not None:
        _put_json(file, outliers=asdict(measurements.outliers))


def _get_measurements(file: h5py.File) -> Measurements:
    return Measurements(
        values=_tensor(file["measurements"]),
        recipe=_get_json(file, "operator"),
        noise=float(file.attrs["noise"]),
        names=_texts(file["names"]),
        sources=_texts(file["sources"]),
        response=_get_json(file, "operator_response") if "operator_response" in file.attrs else None,
        outliers=Outliers(**_get_json(file, "outliers")) if "outliers" in file.attrs else None,
    )


def _put_history(group: h5py.Group, history: tuple[Record, ...]) -> None:
    group["phase"] = [record.phase for record in history]
    group["iteration"] = np.array([record.iteration for record in history], dtype=np.int64)
    group["seconds"] = np.array([record.seconds for record in history])
    group["relative_residual"] = np.array([record.relative_residual for record in history])


def _get_history(group: h5py.Group) -> tuple[Record, ...]:
    columns = zip(
        _texts(group["phase"]), group["iteration"][:], group["seconds"][:], group["relative_residual"][:], strict=True
    )
    return tuple(
        Record(phase, int(iteration), float(seconds), tuple(map(float, residuals)))
        for phase, iteration, seconds, residuals in columns
    )


def _peak(told: dict[str, Any]) -> Peak:
    """JSON has no infinity, which is the PSNR of an exact image."""
    level = told["psnr_db"]
    return Peak(math.inf if level is None else level, told["iteration"])


def _put_json(file: h5py.File, **values: Any) -> None:
    for name, value in values.items():
        file.attrs[name] = json.dumps(strict(value), allow_nan=False)


def _get_json(file: h5py.File, name: str) -> Any:
    return json.loads(file.attrs[name])


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return array


def _tensor(dataset: h5py.Dataset) -> Tensor:
    return torch.from_numpy(dataset[:])


def _texts(dataset: h5py.Dataset) -> tuple[str, ...]:
    return tuple(dataset.asstr()[:])
