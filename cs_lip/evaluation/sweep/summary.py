"""What a sweep's rows say, with intervals: PSNR, and paired differences against the dense prior."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cs_lip.evaluation.statistics import Interval, bootstrap_interval, paired_difference
from cs_lip.evaluation.sweep.table import Row


@dataclass(frozen=True, order=True)
class Setting:
    """What is measured of which kind of images; see `Row`."""

    kind: str
    operator: str
    sigma: float
    outliers: float
    fidelity: str
    m: int


@dataclass(frozen=True, order=True)
class Recoverer:
    """What recovers; see `Row`."""

    solver: str
    prior: str
    ticket: str

    @property
    def label(self) -> str:
        """For tables: ticket or untrained prior are named, the dense generator is not."""
        named = self.ticket or (self.prior if self.solver == "untrained" else "")
        return f"{self.solver} {named}".strip()


@dataclass(frozen=True)
class Summary:
    """One method in one setting.

    Attributes:
        psnr: its mean over images and seeds, in dB.
        gain: see `gain_over_dense`.
    """

    setting: Setting
    recoverer: Recoverer
    psnr: Interval
    gain: Interval | None


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """A summary of every method in every setting, settings in order, methods in that of the rows.

    Rows without a finite PSNR are left out: those of exact recoveries as well as of diverged ones.
    """
    table = by_setting(rows)
    return [
        _summary(setting, recoverer, own, table[setting])
        for setting in sorted(table)
        for recoverer, own in table[setting].items()
        if any(math.isfinite(row.psnr) for row in own)
    ]


def by_setting(rows: Iterable[Row]) -> dict[Setting, dict[Recoverer, list[Row]]]:
    """The rows of every method in every setting, both in the order of the rows."""
    table: dict[Setting, dict[Recoverer, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        table[setting_of(row)][recoverer_of(row)].append(row)
    return {setting: dict(methods) for setting, methods in table.items()}


def setting_of(row: Row) -> Setting:
    """The setting of a row."""
    return Setting(row.kind, row.operator, row.sigma, row.outliers, row.fidelity, row.m)


def recoverer_of(row: Row) -> Recoverer:
    """What recovered the image of a row."""
    return Recoverer(row.solver, row.prior, row.ticket)


def gain_over_dense(rows: Sequence[Row], setting: Mapping[Recoverer, Sequence[Row]]) -> Interval | None:
    """How many dB of PSNR a method is above its `dense_rival`, in the mean over the images and seeds that both have.

    Args:
        rows: of one method in one setting, at least one.
        setting: the rows of every method there; see `by_setting`.

    Returns:
        The paired difference; None where there is no rival, or no image and seed with a finite PSNR of both.
    """
    dense = dense_rival(recoverer_of(rows[0]), setting)
    ours, rival = _by_key(rows), _by_key(setting[dense] if dense else ())
    return paired_difference(ours, rival) if ours.keys() & rival.keys() else None


def dense_rival(ours: Recoverer, methods: Iterable[Recoverer]) -> Recoverer | None:
    """What a method of a setting is measured against; None where that is itself, or there is nothing.

    For a ticket it is its own dense prior under the same solver, since the mask alone then makes the difference. For
    all others, and for a ticket whose dense prior is missing, it is the first dense generator of the setting: one
    level for all of them, which the order of the plan sets. Of {auto, latent-search, tv} the two latter are measured
    against auto. An untrained network is no such level, but one more method to be judged by it.
    """
    dense = [each for each in methods if each.prior and not each.ticket]
    own = [each for each in dense if ours.ticket and (each.solver, each.prior) == (ours.solver, ours.prior)]
    generators = [each for each in dense if each.solver != "untrained"]
    rival = next(iter(own + generators), None)
    return None if rival == ours else rival


def _summary(
    setting: Setting, recoverer: Recoverer, rows: Sequence[Row], methods: Mapping[Recoverer, Sequence[Row]]
) -> Summary:
    finite = [row for row in rows if math.isfinite(row.psnr)]
    psnr = bootstrap_interval(
        [row.psnr for row in finite], images=[row.image for row in finite], seeds=[row.seed for row in finite]
    )
    return Summary(setting, recoverer, psnr, gain_over_dense(rows, methods))


def _by_key(rows: Sequence[Row]) -> dict[tuple[str, int], float]:
    return {(row.image, row.seed): row.psnr for row in rows if math.isfinite(row.psnr)}
