"""The folder of a search: what was asked, the ticket of each level, and the one that it ends with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cs_lip.files import atomic_path

RECORD_FILE, START_FILE, TICKET_FILE = "search.json", "start.safetensors", "ticket.safetensors"

SHOWN = 80
"""Characters of a setting, in an error."""


@dataclass(frozen=True)
class Levels:
    """The files of a search in their folder."""

    folder: Path

    @property
    def start(self) -> Path:
        """The network at the step to rewind to, where that is not the one that the search was given."""
        return self.folder / START_FILE

    @property
    def ticket(self) -> Path:
        """What the search ends with."""
        return self.folder / TICKET_FILE

    def level(self, index: int) -> Path:
        """The ticket of a level, counted from 1."""
        return self.folder / f"level-{index:02d}.safetensors"

    @property
    def finished(self) -> int:
        """How many levels are there, one after the other from the first."""
        index = 0
        while self.level(index + 1).is_file():
            index += 1
        return index


def open_levels(folder: Path, record: Mapping[str, Any]) -> Levels:
    """The search in a folder, to go on with, or a new one in a new or empty folder.

    Args:
        record: all that the search's numbers depend on, JSON-able.

    Raises:
        ValueError: the folder holds other work, or a search with another record, whose first difference is named; it is
            a file; or what has the name of a ticket in it is none.
    """
    told = json.loads(json.dumps(record))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder; try another --out")
    path = folder / RECORD_FILE
    if path.is_file():
        _check_same(folder, _read(path), told)
        _check_files(folder)
        return Levels(folder)
    if folder.is_dir() and (held := sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))):
        raise ValueError(f"the folder {folder} holds other work ({held[0]}), nothing was written; try another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return Levels(folder)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is damaged; try another --out to begin anew")
    return stored


def _check_same(folder: Path, stored: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    before, now = _flat(stored), _flat(told)
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            there, here = _where_they_differ(str(before.get(name)), str(now.get(name)))
            raise ValueError(
                f"{folder} holds a search whose {name.replace('_', ' ')} is {there}, not {here}; try the same settings "
                "to go on with it, or another --out"
            )


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """Both texts, shortened to ``SHOWN`` characters about the first in which they differ."""
    if max(len(one), len(other)) <= SHOWN:
        return one, other
    pairs = enumerate(zip(one, other, strict=False))
    first = next((index for index, (mine, its) in pairs if mine != its), min(len(one), len(other)))
    begin = max(0, first - SHOWN // 2)
    shown = [("..." if begin else "") + text[begin : begin + SHOWN] for text in (one, other)]
    return shown[0], shown[1]


def _check_files(folder: Path) -> None:
    """Refuse what stands in the way of the next level, which is found out hours later otherwise.

    Raises:
        ValueError: what has the name of a ticket is no file.
    """
    for path in sorted(folder.glob("*.safetensors")):
        if not path.is_file():
            raise ValueError(f"{path} is no file, expected a ticket of the search; try to remove it")


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name -> value of nested records, the names joined by blanks."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
