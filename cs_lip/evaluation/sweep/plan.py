"""Plans: what a sweep compares, and the cells that this makes."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cs_lip.evaluation.acquisition import Outliers
from cs_lip.evaluation.sweep.cells import Cell, Target
from cs_lip.evaluation.sweep.claims import Claim
from cs_lip.evaluation.sweep.operators import NAMES, TASKS, Shape, check_operator, sweep_operator
from cs_lip.evaluation.sweep.run_cell import CLASSICAL, ticket_label
from cs_lip.evaluation.sweep.summary import Recoverer
from cs_lip.evaluation.sweep.targets import targets
from cs_lip.evaluation.sweep.words import choose
from cs_lip.priors import DEFAULT_GENERATOR
from cs_lip.priors.catalogue import find_entry, is_known, load_generator
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.priors.untrained.registry import UNTRAINED
from cs_lip.recovery import SOLVERS
from cs_lip.recovery.fidelity import FIDELITIES
from cs_lip.tickets.store import bundled_tickets, find_ticket
from cs_lip.tickets.ticket import read_ticket

IMAGES_AT_ONCE = 10
"""Images of a cell: enough that a batch pays, and few enough that the cells of a plan keep all workers busy."""

MOST_CELLS = 1_000_000
MOST_RESTARTS = 1000

BUNDLED = "bundled"
"""As a ticket: all bundled ones of the plan's generator, or of the method's untrained prior."""

PRIORS = tuple(name.replace("_", "-") for name in UNTRAINED)


@dataclass(frozen=True)
class Method:
    """What recovers.

    Attributes:
        solver: a name of `cs_lip.recovery.SOLVERS`.
        prior: an untrained network's name; empty for the plan's generator, or for none where the solver needs none.
        ticket: a name or a file, ``bundled`` for all bundled ones of this prior; empty for the dense prior.
        operator: those of the plan's operators whose measurements it recovers from; empty for all.

    Raises:
        ValueError: no such solver or prior, a combination that says nothing, or an operator named twice.
    """

    solver: str
    prior: str = ""
    ticket: str = ""
    operator: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.operator)) < len(self.operator):
            raise ValueError(f"a method names an operator twice, got {self.operator!s:.160}; try each once")
        choose(self.solver, tuple(SOLVERS), "solver")
        if self.prior:
            choose(self.prior, PRIORS, "untrained prior")
        if self.solver in CLASSICAL and (self.prior or self.ticket):
            raise ValueError(f"the solver {self.solver} needs no prior and no ticket; try it without")
        if self.solver == "untrained" and not (self.prior or self.ticket):
            raise ValueError('the solver untrained needs an untrained prior or its ticket; try prior = "skip"')
        if self.prior and self.solver not in ("untrained", "auto"):
            raise ValueError(
                f"the solver {self.solver} searches a generator, got the prior {self.prior}; try untrained"
            )
        if self.ticket and self.solver == "linear-estimate":
            raise ValueError("the solver linear-estimate knows the dense generator alone; try it without a ticket")

    def fits(self, operator: str) -> bool:
        """Whether it recovers from such measurements."""
        return not self.operator or operator in self.operator


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
        plan: with every ticket by name or absolute path.
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
    images = targets(plan.images)
    batches = _batches(images)
    methods, notes = _methods(plan, generator)
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
            method.solver,
            fidelity,
            seed,
            0 if method.solver in CLASSICAL else plan.restarts,
        )
        for (operator, m), sigma, outliers, fidelity, seed in sensed
        for method, ticket_digest in fitting[operator]
        for batch in batches
    )
    resolved = Plan(**(vars(plan) | {"methods": tuple(method for method, _ in methods), "generator": generator}))
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
        entry = find_entry(name)
        return name, entry.sha256, entry.image_shape
    shape = load_generator(name).image_shape
    path = Path(name).resolve()
    return str(path), sha256_of(path), shape


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


def _methods(plan: Plan, generator: str) -> tuple[list[tuple[Method, str]], tuple[str, ...]]:
    """The methods with the SHA-256 of their tickets, and what to say of those that there are none of."""
    found: dict[Method, str] = {}
    notes = []
    for method in plan.methods:
        if not method.ticket:
            found[method] = ""
            continue
        names = _bundled(method, generator) if method.ticket == BUNDLED else [method.ticket]
        if not names:
            notes.append(f"No ticket of {method.prior or generator} is bundled, so the sweep goes without.")
        for name in names:
            resolved, digest = _ticket(name, method, generator)
            found[resolved] = digest
    if not found:
        raise ValueError("the plan's grid is empty: no ticket that it asks for is bundled; try a ticket's file")
    labels = [ticket_label(name) for name in {method.ticket for method in found if method.ticket}]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ValueError(f"two tickets are called {twice[0]!r:.80}; try other file names")
    return list(found.items()), tuple(notes)


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


def _bundled(method: Method, generator: str) -> list[str]:
    wanted = method.prior.replace("-", "_") or generator
    priors = {name: read_ticket(entry.path).about for name, entry in bundled_tickets().items()}
    return [name for name, about in priors.items() if wanted in (about.prior, about.architecture)]


def _ticket(name: str, method: Method, generator: str) -> tuple[Method, str]:
    file = find_ticket(name)
    about = read_ticket(file.path).about
    is_untrained = about.kind == "untrained"
    if is_untrained != (method.solver == "untrained" or bool(method.prior)):
        raise ValueError(
            f"the ticket {name:.120} is of the {about.kind} prior {about.prior:.40}, which the solver {method.solver} "
            f"does not fit; try {'untrained' if is_untrained else 'auto'}"
        )
    if not is_untrained and about.prior != Path(generator).stem:
        raise ValueError(
            f"the ticket {name:.120} is of {about.prior:.60}, the plan of {generator:.120}; try one of both"
        )
    known = str(file.path.resolve()) if Path(name).suffix or Path(name).exists() else name
    return replace(method, ticket=known), file.sha256


def names_of(methods: Sequence[Method]) -> list[str]:
    """What to call the methods, in tables."""
    return [" ".join(filter(None, (each.solver, each.prior, ticket_label(each.ticket)))) for each in methods]
