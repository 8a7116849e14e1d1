"""The weights that numbers depend on, by the SHA-256 of their files."""

from pathlib import Path

from cs_lip.priors.catalogue import find_entry, is_known
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.priors.starts import find_start


def generator_digest(name: str) -> str:
    """The SHA-256 of a generator's weights.

    Args:
        name: as for `cs_lip.priors.load_generator`, which holds the file of a name to the catalogue's checksum.

    Raises:
        ValueError: no such file.
    """
    return find_entry(name).sha256 if is_known(name) else sha256_of(Path(name))


def start_digest(name: str) -> str:
    """The SHA-256 of the learned start that `cs_lip.priors.load_start` would take; empty where there is none."""
    start = find_start(find_entry(name)) if is_known(name) else None
    if start is None:
        return ""
    return start.sha256 or (sha256_of(start.path) if start.path.is_file() else "")
