"""What a sweep's rows say, with intervals: PSNR, paired differences against the dense generator, success rates."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cs_lip.evaluation.statistics import Interval, bootstrap_interval, paired_difference, wilson_interval
from cs_lip.evaluation.sweep.table import Row

SUCCESS_MSE = 1e-4
"""An image counts as recovered from here down, which is 40 dB."""


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
        gain: the mean difference of its PSNR and the dense prior's, image by image and seed by seed; None for that
            one itself, and where there is none.
        success: the rate of images with an MSE of `SUCCESS_MSE` or less.
    """

    setting: Setting
    recoverer: Recoverer
    psnr: Interval
    gain: Interval | None
    success: Interval


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """A summary of every method in every setting, settings in order, methods in that of the rows.

    A ticket is compared with its own dense prior under the same solver; anything else, and where there is none, with
    the first dense generator of the setting. Rows without a finite PSNR are left out, which an exact recovery has as
    well as a diverged one.
    """
    table: dict[Setting, dict[Recoverer, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        setting = Setting(row.kind, row.operator, row.sigma, row.outliers, row.fidelity, row.m)
        table[setting][Recoverer(row.solver, row.prior, row.ticket)].append(row)
    return [
        _summary(setting, recoverer, own, table[setting])
        for setting in sorted(table)
        for recoverer, own in table[setting].items()
        if any(math.isfinite(row.psnr) for row in own)
    ]


def _summary(
    setting: Setting, recoverer: Recoverer, rows: Sequence[Row], others: dict[Recoverer, list[Row]]
) -> Summary:
    finite = [row for row in rows if math.isfinite(row.psnr)]
    psnr = bootstrap_interval(
        [row.psnr for row in finite], images=[row.image for row in finite], seeds=[row.seed for row in finite]
    )
    dense = _dense(recoverer, list(others))
    gain = None
    if dense is not None and dense != recoverer:
        ours, rival = _by_key(finite), _by_key(others[dense])
        gain = paired_difference(ours, rival) if ours.keys() & rival.keys() else None
    recovered = sum(row.mse <= SUCCESS_MSE for row in rows)
    return Summary(setting, recoverer, psnr, gain, wilson_interval(recovered, len(rows)))


def _dense(recoverer: Recoverer, all_of_them: Sequence[Recoverer]) -> Recoverer | None:
    dense = [each for each in all_of_them if each.prior and not each.ticket]
    generators = [each for each in dense if each.solver != "untrained"]
    own = [each for each in dense if recoverer.ticket and each.prior == recoverer.prior]
    same = [each for each in own + generators if each.solver == recoverer.solver]
    return next(iter(same + generators), None)


def _by_key(rows: Sequence[Row]) -> dict[tuple[str, int], float]:
    return {(row.image, row.seed): row.psnr for row in rows if math.isfinite(row.psnr)}
