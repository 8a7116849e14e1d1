"""Plans: what a sweep compares, and the cells that this makes."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cs_lip.evaluation.acquisition import Outliers
from cs_lip.evaluation.digests import generator_digest, start_digest
from cs_lip.evaluation.sweep.cells import Cell, Target
from cs_lip.evaluation.sweep.claims import Claim
from cs_lip.evaluation.sweep.methods import Method, found_methods
from cs_lip.evaluation.sweep.operators import NAMES, TASKS, Shape, check_operator, sweep_operator
from cs_lip.evaluation.sweep.run_cell import WITHOUT_STARTS, ticket_label
from cs_lip.evaluation.sweep.summary import Recoverer
from cs_lip.evaluation.sweep.targets import absolute, targets
from cs_lip.evaluation.sweep.words import choose
from cs_lip.priors import DEFAULT_GENERATOR
from cs_lip.priors.catalogue import find_entry, is_known, load_generator
from cs_lip.recovery.fidelity import FIDELITIES

IMAGES_AT_ONCE = 10
"""Images of a cell: enough that a batch pays, and few enough that the cells of a plan keep all workers busy."""

MOST_CELLS = 1_000_000
MOST_RESTARTS = 1000


@dataclass(frozen=True)
class Plan:
    """Every combination of what these lists name is measured.

    Attributes:
        methods: what recovers.
        images: see `cs_lip.evaluation.sweep.targets.targets`.
        measurements: numbers m; tasks such as ``denoise`` take none.
        operator: names of `cs_lip.evaluation.sweep.operators.NAMES`.
        noise: standard deviations on every real measurement.
        outliers: shares of measurements that go bad, in [0, 0.5).
        fidelity: names of `cs_lip.recovery.fidelity.FIDELITIES`.
        seeds: how many, 0, 1, ...
        restarts: starts of an image in every search of latents; 0 for each solver's own number.
        generator: a name or a weight file; its image shape is recovered.
        name: of the plan.
        claims: what the rows are judged by.
        results: a folder of stored benchmark results, whose verdicts are told beside those on the claims where it
            exists; empty for none.

    Raises:
        ValueError: a list is empty or holds something twice, a value that cannot be, or a claim or a method on an
            operator that the plan has not.
    """

    methods: tuple[Method, ...]
    images: tuple[str, ...]
    measurements: tuple[int, ...] = ()
    operator: tuple[str, ...] = ("gaussian",)
    noise: tuple[float, ...] = (0.0,)
    outliers: tuple[float, ...] = (0.0,)
    fidelity: tuple[str, ...] = ("least-squares",)
    seeds: int = 1
    restarts: int = 0
    generator: str = DEFAULT_GENERATOR
    name: str = "sweep"
    claims: tuple[Claim, ...] = ()
    results: str = ""

    def __post_init__(self) -> None:
        for key in ("methods", "images", "operator", "noise", "outliers", "fidelity"):
            if not getattr(self, key):
                raise ValueError(f"the plan's grid is empty: it has no {key}; try at least one")
        for key in ("methods", "images", "measurements", "operator", "noise", "outliers", "fidelity"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"the plan's {key} hold something twice, got {values!s:.160}; try each once")
        for each in self.operator:
            choose(each, NAMES, "operator")
        for each in self.fidelity:
            choose(each, tuple(FIDELITIES), "fidelity")
        for level in self.noise:
            if not (math.isfinite(level) and level >= 0):
                raise ValueError(f"the noise must be a finite standard deviation of at least 0, got {level}; try 0.01")
        for share in self.outliers:
            _ = Outliers(share) if share else None
        for claim in self.claims:
            choose(claim.operator, self.operator, "operator of a claim")
        for method in self.methods:
            for each in method.operator:
                choose(each, self.operator, "operator of a method")
        for each in self.operator:
            if not any(method.fits(each) for method in self.methods):
                raise ValueError(f"no method of the plan recovers from {each} measurements; try it without {each}")
        if not self.measurements and not set(self.operator) <= TASKS.keys():
            raise ValueError("the plan's grid is empty: it has no measurements; try measurements = [50, 100, 200]")
        if not 1 <= self.seeds <= 10**6:
            raise ValueError(f"the plan's seeds are how many there are, got {self.seeds}; try seeds = 3")
        if not 0 <= self.restarts <= MOST_RESTARTS:
            raise ValueError(
                f"the plan's restarts must be from 1 to {MOST_RESTARTS}, or 0 for each solver's own, got "
                f"{self.restarts}; try restarts = 10"
            )


@dataclass(frozen=True)
class Grid:
    """A plan with everything found that it names.

    Attributes:
        plan: with every ticket and every image by name or absolute path.
        image_shape: ``(channels, height, width)``.
        images: all of them.
        cells: in the plan's order.
        notes: sentences on what the plan names and there is none of.
    """

    plan: Plan
    image_shape: Shape
    images: tuple[Target, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]


def expand(plan: Plan) -> Grid:
    """The cells of a plan.

    Raises:
        ValueError: an image, a generator or a ticket that is not there, a ticket of another prior, a number of
            measurements that an operator cannot take, or more than a million cells.
    """
    generator, digest, shape = _generator(plan.generator)
    start, images = start_digest(generator), targets(plan.images)
    batches = _batches(images)
    methods, notes = found_methods(plan.methods, generator)
    measured = list(_measured(plan, shape))
    sensed = list(itertools.product(measured, plan.noise, plan.outliers, plan.fidelity, range(plan.seeds)))
    fitting = {each: [pair for pair in methods if pair[0].fits(each)] for each in plan.operator}
    total = len(batches) * sum(len(fitting[operator]) for (operator, _), *_ in sensed)
    if total > MOST_CELLS:
        raise ValueError(f"the plan has {total} cells, {MOST_CELLS} at most can be; try fewer images, seeds or values")
    cells = dict.fromkeys(
        Cell(
            generator,
            digest,
            batch,
            operator,
            m,
            sigma,
            outliers,
            method.prior,
            method.ticket,
            ticket_digest,
            start if method.searches_dense else "",
            method.solver,
            fidelity,
            seed,
            0 if method.solver in WITHOUT_STARTS else plan.restarts,
        )
        for (operator, m), sigma, outliers, fidelity, seed in sensed
        for method, ticket_digest in fitting[operator]
        for batch in batches
    )
    resolved = replace(
        plan,
        methods=tuple(method for method, _ in methods),
        images=tuple(absolute(text) for text in plan.images),
        generator=generator,
    )
    return Grid(resolved, shape, images, tuple(cells), (*notes, *_unknown_labels(resolved)))


def plan_to_table(plan: Plan) -> dict[str, Any]:
    """The plan as `plan_from_table` reads it, for TOML and JSON."""
    table = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(plan).items()}
    methods = [
        {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(method).items() if value}
        for method in table.pop("methods")
    ]
    claims = [asdict(claim) for claim in table.pop("claims")]
    return table | {"method": methods} | ({"claim": claims} if claims else {})


def _generator(name: str) -> tuple[str, str, Shape]:
    """The generator by name or absolute path, the SHA-256 of its weights, and the shape of its images."""
    if is_known(name):
        return name, generator_digest(name), find_entry(name).image_shape
    shape = load_generator(name).image_shape
    path = str(Path(name).resolve())
    return path, generator_digest(path), shape


def _batches(images: Sequence[Target]) -> list[tuple[Target, ...]]:
    """At most `IMAGES_AT_ONCE` images of one kind each: those in range take another time than those beyond."""
    kinds = dict.fromkeys(image.kind for image in images)
    by_kind = [tuple(image for image in images if image.kind == kind) for kind in kinds]
    return [same[start : start + IMAGES_AT_ONCE] for same in by_kind for start in range(0, len(same), IMAGES_AT_ONCE)]


def _measured(plan: Plan, shape: Shape) -> Iterator[tuple[str, int]]:
    """Every operator with every number of measurements."""
    for operator in plan.operator:
        if operator in TASKS:
            yield operator, sweep_operator(operator, shape, 0, seed=0).m
            continue
        for m in plan.measurements:
            check_operator(operator, shape, m)
            yield operator, m


def _unknown_labels(plan: Plan) -> list[str]:
    """What to say of claims on methods that the plan has not."""
    known = [Recoverer(each.solver, each.prior, ticket_label(each.ticket)).label for each in plan.methods]
    asked = dict.fromkeys(label for claim in plan.claims for label in (claim.ours, claim.rival))
    return [
        f"The plan claims something of {label!r:.80}, which is none of its methods ({', '.join(known)}), so it goes "
        "without."
        for label in asked
        if label not in known
    ]
