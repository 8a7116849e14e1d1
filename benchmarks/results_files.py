"""The files of a benchmark: its results, and a line for each finished cell, so that a stopped run goes on."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

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
    return {entry["cell"]: entry["row"] for entry in stored_entries(path) if entry["configuration"] == wanted}


def stored_entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, ``configuration``, ``cell`` and ``row``; one that a crash cut short is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def measured_rows(
    log: Path,
    config: dict[str, Any],
    todo: Mapping[str, Callable[[], Row]],
    told: Row | None = None,
    show: Callable[[dict[str, Row]], object] = len,
    chosen: Collection[str] | None = None,
) -> dict[str, Row]:
    """The row of every cell in the order of ``todo``: as `log` has it, or measured now.

    The same command may run several times at once, say once a core: a process takes the cells that no other one is at,
    and at the end waits for the others. A cell whose process died is open again.

    Args:
        log: a line is added for every cell that is measured.
        config: all that the rows depend on; rows of another configuration do not count.
        todo: what measures a cell, by its name; a cell must not depend on another one's.
        told: what every new row says besides.
        show: gets the rows there are after each new one, the other processes' too.
        chosen: the cells that may be measured; None for all. The others have a row where `log` does.
    """
    wanted = {cell: measure for cell, measure in todo.items() if chosen is None or cell in chosen}
    with tqdm(total=len(wanted), disable=None) as bar:
        for patient in (False, True):
            for cell, measure in wanted.items():
                rows = _rows_so_far(log, config, wanted)
                bar.update(len(rows) - bar.n)
                if cell in rows:
                    continue
                try:
                    with claimed(_taken(log), cell, patient=patient):
                        if cell not in stored_rows(log, config):
                            append_row(log, config, cell, measure() | (told or {}))
                            show(_rows_so_far(log, config, todo))
                except Timeout:
                    continue
    return _rows_so_far(log, config, todo)


def claimed(folder: Path, work: str, *, patient: bool = True) -> FileLock:
    """A lock on some work in a folder, for a ``with`` block; the system opens it when its process dies.

    Raises:
        filelock.Timeout: where the block begins, if another process is at it and `patient` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return FileLock(folder / f"{hashlib.sha256(work.encode()).hexdigest()[:16]}.lock", blocking=patient)


def appending(log: Path) -> FileLock:
    """A lock for a ``with`` block in which nobody else writes to a log."""
    return claimed(_taken(log), "a line")


def _taken(log: Path) -> Path:
    return log.with_name(f"{log.stem}-taken")


def _rows_so_far(log: Path, config: dict[str, Any], todo: Mapping[str, Callable[[], Row]]) -> dict[str, Row]:
    rows = stored_rows(log, config)
    return {cell: rows[cell] for cell in todo if cell in rows}


def append_row(path: Path, config: dict[str, Any], cell: str, row: Row) -> None:
    with appending(path), path.open("a+", encoding="utf-8") as file:
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
