"""The methods of a plan: solvers with their priors and tickets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cs_lip.evaluation.sweep.run_cell import CLASSICAL, ticket_label
from cs_lip.evaluation.sweep.words import choose
from cs_lip.priors.untrained.registry import UNTRAINED
from cs_lip.recovery import SOLVERS
from cs_lip.tickets.store import bundled_tickets, find_ticket
from cs_lip.tickets.ticket import read_ticket

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
        if self.prior and self.solver != "untrained":
            raise ValueError(
                f"the solver {self.solver} takes the plan's generator, got the prior {self.prior}; try untrained"
            )
        if self.ticket and self.solver == "linear-estimate":
            raise ValueError("the solver linear-estimate knows the dense generator alone; try it without a ticket")

    @property
    def searches_dense(self) -> bool:
        """Whether it searches the latents of the plan's generator itself."""
        return self.solver not in CLASSICAL and not self.prior and not self.ticket

    def fits(self, operator: str) -> bool:
        """Whether it recovers from such measurements."""
        return not self.operator or operator in self.operator


def found_methods(asked: Sequence[Method], generator: str) -> tuple[list[tuple[Method, str]], tuple[str, ...]]:
    """The methods with the SHA-256 of their tickets, and what to say of those that there are none of.

    Raises:
        ValueError: a ticket that is not there, of another prior than its method's, or of the name of another one.
    """
    found: dict[Method, str] = {}
    notes = []
    for method in asked:
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
    if method.prior and method.prior.replace("-", "_") not in (about.prior, about.architecture):
        raise ValueError(
            f"the ticket {name:.120} is of {about.prior:.60}, its method of {method.prior}; try one of both"
        )
    known = str(file.path.resolve()) if Path(name).suffix or Path(name).exists() else name
    return replace(method, ticket=known), file.sha256
