"""Cells: the points of a sweep, and their hashes."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from cs_lip import __version__

TargetKind = Literal["in-range", "picture", "file"]


@dataclass(frozen=True)
class Target:
    """An image of a cell, by what draws or reads it again.

    Attributes:
        name: unique in its sweep.
        kind: ``in-range``, ``picture`` or ``file``.
        place: the number of the draw, the bundled picture's name, or the file's absolute path.
        sha256: of the file; empty for the others, which the generator's weights or the packages fix.
    """

    name: str
    kind: TargetKind
    place: str
    sha256: str = ""

    def origin(self, generator_sha256: str) -> str:
        """What its pixels are fixed by, as a hash."""
        return hashlib.sha256(json.dumps([asdict(self), generator_sha256]).encode()).hexdigest()


@dataclass(frozen=True)
class Cell:
    """Some images, measured by one operator and recovered together by one method. Plain values alone.

    Attributes:
        generator: a name or an absolute path; whose image shape is recovered, and who draws the images in range.
        generator_sha256: of its weights.
        images: recovered as one batch.
        operator, m, sigma, outliers: see `cs_lip.evaluation.sweep.table.Row`; for a task ``m`` is what it measures.
        prior: an untrained network's name; empty for the generator, or for none where the solver needs none.
        ticket: a name or an absolute path; empty for a dense prior.
        ticket_sha256: of its file.
        start_sha256: of the learned start of the generator that is searched; empty where none is used.
        solver, fidelity: by name.
        seed: of operator, noise, outliers and solver; every image has noise and outliers of its own.
        restarts: starts of an image in a search of latents; 0 for the solver's own number.
    """

    generator: str
    generator_sha256: str
    images: tuple[Target, ...]
    operator: str
    m: int
    sigma: float
    outliers: float
    prior: str
    ticket: str
    ticket_sha256: str
    start_sha256: str
    solver: str
    fidelity: str
    seed: int
    restarts: int = 0

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the cell as canonical JSON, in hexadecimal digits.

        The version of cs-lip is part of it: rows of two versions may differ for reasons that no plan states, and to
        compute them again costs less than to mix them. Versions of other packages are not, since their differences are
        those of rounding; every row records them.
        """
        text = json.dumps(
            {"cell": asdict(self), "version": __version__}, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def method(self) -> tuple[str, str, str]:
        """What recovers: solver, prior and ticket."""
        return self.solver, self.prior, self.ticket


def cell_from_json(given: dict[str, Any]) -> Cell:
    """The cell that ``asdict`` made a table of."""
    return Cell(**(given | {"images": tuple(Target(**image) for image in given["images"])}))
