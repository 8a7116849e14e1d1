"""The folder of a sweep: a file for each finished cell, and claims that die with their owner."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.table import Result, Row, row_from_json, row_to_json
from cs_lip.files import atomic_path

FORMAT = 1
PLAN_FILE = "plan.toml"
CELLS, IMAGES, TRUTH, CLAIMS, JOBS = "cells", "images", "truth", "claims", "jobs"
"""The names in a sweep's folder, beside the tables."""

ORIGINS = "origins.json"
"""Beside the true images."""


@dataclass(frozen=True)
class Stored:
    """A finished cell as its file has it."""

    rows: tuple[Row, ...]
    seconds: float


@dataclass(frozen=True)
class SweepFolder:
    """Where the files of a sweep lie: ``cells/ab/ab12....json`` and ``images/ab/ab12....npz`` by the cells' hashes."""

    path: Path

    def cell_file(self, key: str) -> Path:
        """The rows of a cell; it is there once the cell is finished."""
        return self.path / CELLS / key[:2] / f"{key}.json"

    def images_file(self, key: str) -> Path:
        """The recovered images of a cell: ``images``, ``(images, channels, height, width)`` in bytes."""
        return self.path / IMAGES / key[:2] / f"{key}.npz"

    def truth_file(self, name: str) -> Path:
        """The true image of that name."""
        return self.path / TRUTH / f"{quote(name, safe='')}.png"

    def claim_file(self, key: str) -> Path:
        """There while a cell is computed, and after its worker died."""
        return self.path / CLAIMS / f"{key}.lock"

    def check(self) -> None:
        """Refuse a folder that holds other work.

        Raises:
            ValueError: it does, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file, expected a folder; try another --out")
        held = {each.name for each in self.path.iterdir()} if self.path.is_dir() else set()
        held = {name for name in held if not name.startswith(".")}  # what a crash left half written
        if held - {CELLS} and not {PLAN_FILE, CELLS} <= held:
            raise ValueError(
                f"the folder {self.path} holds other work ({min(held):.80}), nothing was written; try another --out"
            )

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Whether the cell could be claimed; within the block no other process can.

        The system drops the claim of a process that dies. The file goes when the block ends well, which may let in two
        processes that saw the old and the new file; both then find the cell finished.
        """
        path = self.claim_file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
            path.unlink(missing_ok=True)
        finally:
            lock.release()

    def abandoned(self, key: str) -> bool:
        """Whether a worker died with the cell."""
        if not self.claim_file(key).exists():
            return False
        with self.claimed(key) as mine:
            return mine

    def write(self, cell: Cell, result: Result, versions: Mapping[str, str], seconds: float) -> None:
        """Write a finished cell: its images first, then the rows, which make it count."""
        key = cell.key
        for path in (self.cell_file(key), self.images_file(key)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.images_file(key)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=result.images)
        with atomic_path(self.cell_file(key)) as temporary:
            temporary.write_text(cell_text(cell, result.rows, versions, seconds), encoding="utf-8")

    def read(self, key: str) -> Stored:
        """A finished cell.

        Raises:
            FileNotFoundError: it is not finished.
            ValueError: its file is damaged, or of a newer format.
        """
        path = self.cell_file(key)
        content = path.read_bytes()
        try:
            given = json.loads(content)
            if given["format"] != FORMAT:
                raise ValueError(f"it has format {given['format']!r:.20}, this version reads {FORMAT}")
            body = {name: given[name] for name in ("cell", "rows", "versions", "seconds")}
            if given["sha256"] != _digest(body):
                raise ValueError("its checksum is another")
            versions = json.dumps(body["versions"], sort_keys=True)
            rows = tuple(row_from_json(row, key, versions) for row in body["rows"])
            return Stored(rows, float(body["seconds"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"the rows in {path} are damaged ({error!s:.120}); try the same command again") from None

    def finished(self) -> set[str]:
        """The keys of all cells that have a file, of whichever plan."""
        return {path.stem for path in (self.path / CELLS).glob("??/*.json")}

    def truths(self) -> dict[str, str]:
        """What the true images that are there were made from, by name: what `write_truths` was told."""
        try:
            told = json.loads((self.path / TRUTH / ORIGINS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        there = told if isinstance(told, dict) else {}
        return {name: str(origin) for name, origin in there.items() if self.truth_file(name).is_file()}

    def write_truths(self, images: Iterable[tuple[str, NDArray[np.uint8]]], origins: Mapping[str, str]) -> None:
        """Write true images ``(1 or 3, height, width)`` with their names, and what all there are were made from."""
        (self.path / TRUTH).mkdir(parents=True, exist_ok=True)
        for name, image in images:
            picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
            with atomic_path(self.truth_file(name)) as temporary:
                picture.save(temporary, format="PNG")
        with atomic_path(self.path / TRUTH / ORIGINS) as temporary:
            temporary.write_text(json.dumps(dict(origins), indent=1), encoding="utf-8")

    def write_plan(self, text: str) -> None:
        """Write the plan as it is run. The folder of the cells comes first: with both, a folder is known as a sweep."""
        (self.path / CELLS).mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path / PLAN_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")


def cell_text(cell: Cell, rows: Sequence[Row], versions: Mapping[str, str], seconds: float) -> str:
    """What the file of a finished cell holds: JSON with a checksum."""
    body = {
        "cell": asdict(cell),
        "rows": [row_to_json(row) for row in rows],
        "versions": dict(versions),
        "seconds": seconds,
    }
    return json.dumps({"format": FORMAT, **body, "sha256": _digest(body)}, allow_nan=False) + "\n"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
