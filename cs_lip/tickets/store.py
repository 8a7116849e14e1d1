"""The tickets known by name: bundled, or the user's own."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cs_lip.priors.catalogue import NAME, pretrained_folder, user_folder
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.tickets.ticket import SUFFIX, Ticket, read_ticket

CATALOGUE = "catalogue.toml"


@dataclass(frozen=True)
class TicketFile:
    """A ticket known by name, or by its file.

    Attributes:
        path, sha256, bytes: of the file.
        description: a sentence; empty for one of the user's own.
        recovery: measurements -> dB, as measured when it was bundled; empty where nobody did.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    description: str = ""
    recovery: Mapping[str, float] = field(default_factory=dict)


def bundled_tickets(folder: Path | None = None) -> dict[str, TicketFile]:
    """The bundled tickets by name, from ``catalogue.toml`` in ``folder`` (default: ``tickets`` among the pretrained
    weights); none where there is no such file.

    Raises:
        ValueError: a row lacks a field.
    """
    folder = folder or pretrained_folder() / "tickets"
    catalogue = folder / CATALOGUE
    if not catalogue.is_file():
        return {}
    table = tomllib.loads(catalogue.read_text(encoding="utf-8"))
    return {name: _bundled(name, row, folder) for name, row in table.items()}


def user_tickets_folder() -> Path:
    """The folder of the user's own tickets, beside that of their generators."""
    return user_folder().parent / "tickets"


def own_tickets() -> dict[str, Path]:
    """The files of the user's own tickets by name: every ``NAME.safetensors`` in `user_tickets_folder`."""
    files = sorted(user_tickets_folder().glob(f"*{SUFFIX}"))
    return {path.stem: path for path in files if NAME.fullmatch(path.stem)}


def find_ticket(name_or_file: str | Path) -> TicketFile:
    """The file of a ticket: bundled or the user's own by name, or a file by path.

    Args:
        name_or_file: a text, which is a name before it is a file, or a path, which is a file.

    Raises:
        ValueError: there is none of that name and no such file, one of the user's own is no file, or a bundled one has
            another SHA-256 than the catalogue's.
    """
    name, path = str(name_or_file), Path(name_or_file)
    bundled, own = bundled_tickets(), own_tickets()
    if isinstance(name_or_file, str) and name in bundled:
        return _verified(bundled[name])
    if isinstance(name_or_file, str) and name in own:
        path = own[name]
        if not path.is_file():
            raise ValueError(f"the ticket {name!r} at {path} is no file; try to remove it")
    elif not path.is_file():
        known = ", ".join([*bundled, *own])[:240] or "`cs-lip tickets import`"
        raise ValueError(f"there is no ticket {name!r:.120}, by name or file; try {known}")
    return TicketFile(name, path, sha256_of(path), path.stat().st_size)


def load_ticket(name_or_file: str | Path) -> Ticket:
    """The ticket of that name or in that file; see `find_ticket` and `cs_lip.tickets.ticket.read_ticket`.

    Raises:
        ValueError: as those.
    """
    return read_ticket(find_ticket(name_or_file).path)


def _verified(ticket: TicketFile) -> TicketFile:
    advice = "try to install cs-lip again"
    if not ticket.path.is_file():
        raise ValueError(f"the ticket {ticket.name!r} is missing at {ticket.path}; {advice}")
    found = sha256_of(ticket.path)
    if found != ticket.sha256:
        raise ValueError(
            f"the ticket {ticket.name!r} at {ticket.path} has SHA-256 {found[:12]}..., expected "
            f"{ticket.sha256[:12]}..., so the file is damaged or was swapped; {advice}"
        )
    return ticket


REQUIRED: dict[str, type] = {"file": str, "sha256": str, "bytes": int, "description": str}
"""The fields of a row in the catalogue, and their types. It has more, which are for people: the file says them too."""


def _bundled(name: str, row: Any, folder: Path) -> TicketFile:
    for key, kind in REQUIRED.items():
        if not isinstance(row, Mapping) or type(row.get(key)) is not kind:
            raise ValueError(f"the bundled ticket {name!r:.80} lacks the field {key!r}; try to install cs-lip again")
    path = folder / Path(row["file"]).name
    return TicketFile(name, path, row["sha256"], row["bytes"], row["description"], row.get("recovery", {}))
