"""Rows of a sweep sorted for figures: who measured under which conditions, and means with their intervals."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from cs_lip.evaluation.statistics import Interval, bootstrap_interval
from cs_lip.evaluation.sweep.table import Row

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Method:
    """What recovers: one line of a figure. The names of columns of `Row`; ``density`` is None where that is NaN."""

    solver: str
    fidelity: str
    prior: str
    ticket: str
    density: float | None
    criterion: str

    @property
    def is_dense(self) -> bool:
        """Whether it is a dense network's, of which tickets are parts."""
        return bool(self.prior) and not self.ticket


@dataclass(frozen=True, order=True)
class Condition:
    """What is recovered from: one panel of a figure."""

    kind: str
    operator: str
    sigma: float
    outliers: float


def method_of(row: Row) -> Method:
    """The method of a row."""
    density = None if math.isnan(row.density) else row.density
    return Method(row.solver, row.fidelity, row.prior, row.ticket, density, row.criterion)


def condition_of(row: Row) -> Condition:
    """The condition of a row."""
    return Condition(row.kind, row.operator, row.sigma, row.outliers)


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """The rows of each key, in the order in which they come."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def method_names(rows: Iterable[Row]) -> dict[Method, str]:
    """What each method is called: its solver, and of the rest what tells it from the others. Dense networks come first,
    then their tickets from the densest on, then solvers without a prior.
    """
    found = sorted(set(map(method_of, rows)), key=_place)
    priors = {method.prior for method in found if method.prior}
    fidelities = {method.fidelity for method in found}
    tickets = any(method.ticket for method in found)
    names = {}
    for method in found:
        parts = [method.solver]
        if method.prior and len(priors) > 1:
            parts.append(PurePath(method.prior).name)
        if method.ticket:
            parts.append(f"ticket {PurePath(method.ticket).name:.40} (density {method.density:.2g})")
        elif method.prior and tickets:
            parts.append("dense")
        if len(fidelities) > 1:
            parts.append(method.fidelity)
        names[method] = ", ".join(parts)
    return names


def condition_names(rows: Iterable[Row]) -> dict[Condition, str]:
    """What the condition of each row is called; see `names_of`."""
    return names_of(map(condition_of, rows))


def names_of(conditions: Iterable[Condition]) -> dict[Condition, str]:
    """What each condition is called: the kind of image, and of the rest what tells it from the others."""
    found = sorted(set(conditions))
    several = {name: len({getattr(each, name) for each in found}) > 1 for name in ("operator", "sigma", "outliers")}
    names = {}
    for condition in found:
        parts = [{"in-range": "images in range", "picture": "real pictures", "file": "your images"}[condition.kind]]
        if several["operator"]:
            parts.append(condition.operator)
        if several["sigma"]:
            parts.append(f"noise {condition.sigma:g}")
        if several["outliers"]:
            parts.append(f"{condition.outliers:.1%} outliers")
        names[condition] = ", ".join(parts)
    return names


def level_name(sigma: float, outliers: float) -> str:
    """What a level of noise with a share of outliers is called."""
    return f"noise {sigma:g}" + (f", {outliers:.1%} outliers" if outliers else "")


def mean_of(rows: Sequence[Row], column: str) -> Interval | None:
    """The mean of a column over images and seeds with its 95 % interval; None where no row has a finite number."""
    told = [row for row in rows if math.isfinite(getattr(row, column))]
    if not told:
        return None
    values = [getattr(row, column) for row in told]
    return bootstrap_interval(values, images=[row.image for row in told], seeds=[row.seed for row in told])


def with_interval(value: Interval | None, form: str) -> str:
    """``mean (low to high)`` for a table, the mean alone where there is no interval, and a dash where there is none."""
    if value is None:
        return "-"
    mean = form.format(value.estimate)
    return mean if math.isnan(value.low) else f"{mean} ({form.format(value.low)} to {form.format(value.high)})"


def _place(method: Method) -> tuple[int, float, str, str, str, str]:
    rank = 0 if method.is_dense else 1 if method.ticket else 2
    return rank, -(method.density or 0), method.solver, method.prior, method.ticket, method.fidelity
