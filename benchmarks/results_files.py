"""The files of a benchmark: its results, and a line for each finished measurement, so that a stopped run goes on."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cs_lip
from cs_lip.files import atomic_path

Row = dict[str, Any]


TARGETS = ("evaluation/acquisition.py", "evaluation/images.py", "evaluation/metrics.py", "evaluation/pictures.py")
"""The code that makes targets and measurements, and tells errors."""


def code_hash(parts: Sequence[str]) -> str:
    """A hash over the code of rooms and modules of the package, so that rows of older code do not mix with new ones."""
    package = Path(cs_lip.__file__).parent
    digest = hashlib.sha256()
    for part in parts:
        path = package / part
        for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def stored_rows(path: Path, config: dict[str, Any]) -> dict[str, Row]:
    """The rows of the same configuration by cell; a line that a crash cut short is passed over."""
    wanted = json.loads(json.dumps(config))
    return {entry["cell"]: entry["row"] for entry in _entries(path) if entry["configuration"] == wanted}


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def append_row(path: Path, config: dict[str, Any], cell: str, row: Row) -> None:
    with path.open("a+", encoding="utf-8") as file:
        # A line that a crash cut short must not swallow the new one.
        cut_short = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        file.write(("\n" if cut_short else "") + json.dumps({"configuration": config, "cell": cell, "row": row}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_results(folder: Path, name: str, whole: dict[str, Any], text: str) -> None:
    """All numbers as ``name.json`` and the table as ``name.md``, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", json.dumps(whole, indent=1) + "\n"), (".md", text)):
        with atomic_path(folder / f"{name}{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
