"""What a plan claims, and whether the rows of its sweep, or stored benchmarks, bear that out."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from cs_lip.evaluation.statistics import Interval, bootstrap_interval
from cs_lip.evaluation.sweep.summary import Recoverer
from cs_lip.evaluation.sweep.table import Row
from cs_lip.files import atomic_path

VERDICTS_FILE = "verdicts.json"
SWEEP = "this sweep"
HOLDS = {True: "Holds", False: "Does not hold", None: "Not measured"}
"""What to say of `Verdict.holds`."""


@dataclass(frozen=True)
class Claim:
    """That one method is better than another, or hardly worse.

    Attributes:
        says: in words.
        source: who claims it, and where.
        operator: by which the images are measured.
        ours, rival: methods, by the labels of the sweep's table (`cs_lip.evaluation.sweep.summary.Recoverer`).
        at_least: the mean difference of their PSNR in dB from which on the claim holds; 0 where it is "better".

    Raises:
        ValueError: a difference that is not finite.
    """

    says: str
    source: str
    operator: str
    ours: str
    rival: str
    at_least: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.at_least):
            raise ValueError(f"a claim's at_least must be a finite number of dB, got {self.at_least}; try 0.0")


@dataclass(frozen=True)
class Verdict:
    """A claim, what was measured, and whether it holds.

    Attributes:
        claim: in words, with its source.
        asked: what must be measured for it to hold.
        measured: in words; empty where nothing was.
        holds: None where nothing was measured.
        by: the file of stored results that says so, or `SWEEP` and what there is to say of it.
    """

    claim: str
    asked: str
    measured: str
    holds: bool | None
    by: str


def judge(claims: Sequence[Claim], rows: Sequence[Row], *, finished: bool = True) -> list[Verdict]:
    """A verdict for every claim, from the differences over the images and seeds that both methods have.

    Args:
        finished: whether the rows are all of the sweep; the verdicts tell where they are not.
    """
    by = SWEEP if finished else f"{SWEEP}, which is not finished"
    return [_verdict(claim, _difference(claim, rows), by) for claim in claims]


def stored_verdicts(folder: Path) -> list[Verdict]:
    """The verdicts that stored benchmark results hold, by file name; none where the folder is not there.

    Raises:
        ValueError: a file whose verdicts are damaged.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        whole = _read(path)
        if isinstance(whole, dict) and isinstance(whole.get("verdicts"), list):
            found += [_from_json(entry, path, {"by": path.name}) for entry in whole["verdicts"]]
    return found


def write_verdicts(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Into a sweep's folder; without verdicts the file of an earlier plan goes."""
    path = folder / VERDICTS_FILE
    if not verdicts:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1), encoding="utf-8")


def read_verdicts(folder: Path) -> list[Verdict]:
    """Those of a sweep's folder; none where there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / VERDICTS_FILE
    if not path.is_file():
        return []
    whole = _read(path)
    if not isinstance(whole, list):
        raise ValueError(f"the verdicts in {path!s:.160} are damaged; try the same `cs-lip sweep` command again")
    return [_from_json(entry, path) for entry in whole]


def _difference(claim: Claim, rows: Sequence[Row]) -> Interval | None:
    """The mean of ours minus the rival's PSNR; None where no image and seed has both.

    Several settings of one image and seed count once, by their mean, since they are not independent.
    """
    ours, rival = (_levels(rows, claim.operator, label) for label in (claim.ours, claim.rival))
    pairs: dict[tuple[str, int], list[float]] = defaultdict(list)
    for key, level in ours.items():
        if key in rival:
            pairs[key[0], key[1]].append(level - rival[key])
    if not pairs:
        return None
    images, seeds = zip(*pairs, strict=True)
    return bootstrap_interval([fmean(values) for values in pairs.values()], images=images, seeds=seeds)


def _levels(rows: Sequence[Row], operator: str, label: str) -> dict[tuple[str, int, object], float]:
    return {
        (row.image, row.seed, (row.m, row.sigma, row.outliers, row.fidelity)): row.psnr
        for row in rows
        if row.operator == operator
        and math.isfinite(row.psnr)
        and Recoverer(row.solver, row.prior, row.ticket).label == label
    }


def _verdict(claim: Claim, found: Interval | None, by: str) -> Verdict:
    asked = f"{claim.ours} over {claim.rival}, {claim.operator}: at least {claim.at_least:+.2f} dB"
    measured, holds = "", None
    if found is not None:
        spread = "" if math.isnan(found.low) else f" ({found.low:+.2f} to {found.high:+.2f})"
        measured, holds = f"{found.estimate:+.2f} dB{spread}", found.estimate >= claim.at_least
    return Verdict(f"{claim.says} ({claim.source})", asked, measured, holds, by)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path!s:.160} is no JSON; try to make it again") from None


def _from_json(given: object, path: Path, also: dict[str, str] | None = None) -> Verdict:
    kinds = {"claim": str, "asked": str, "measured": str, "by": str}
    entry = given | (also or {}) if isinstance(given, dict) else {}
    if (
        entry.keys() != kinds.keys() | {"holds"}
        or not all(isinstance(entry[key], kind) for key, kind in kinds.items())
        or entry["holds"] not in (True, False, None)
    ):
        raise ValueError(f"a verdict in {path!s:.160} is damaged; try to make the file again")
    return Verdict(**entry)
