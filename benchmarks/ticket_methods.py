"""How the benchmarks of tickets find them: every criterion and control at a density, with as much training."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from results_files import claimed

from cs_lip.priors import DCGAN, DEFAULT_GENERATOR, Generator, load_generator
from cs_lip.tickets import Evidence, Mask, Ticket, compact, read_ticket, score, select, ticketed, write_ticket
from cs_lip.tickets.bernoulli import BernoulliSettings
from cs_lip.tickets.controls import dcgan_weights, narrow_dcgan_settings, reinitialised, shuffled
from cs_lip.tickets.distillation import Distillation, DistillationSettings
from cs_lip.tickets.lottery import search
from cs_lip.tickets.norms import absorbed
from cs_lip.tickets.retraining import Level
from cs_lip.tickets.search_settings import SearchSettings
from cs_lip.tickets.transfer import about_generator

HEAD = 0.9
"""The density from which criteria that look at a loss begin: that of distillation vanishes at the teacher itself."""


@dataclass(frozen=True)
class Finding:
    """How much every search may train.

    Attributes:
        rounds: levels of pruning.
        steps: of distillation at each level.
        final_steps: under the last mask. Controls make ``rounds * steps`` more of them, since they have no levels.
        learned_steps: of the learned mask, before it is trained like a control.
        batch: latents in a step.
    """

    rounds: int = 4
    steps: int = 100
    final_steps: int = 1000
    learned_steps: int = 1000
    batch: int = 16

    @property
    def all_steps(self) -> int:
        """Of distillation in all."""
        return self.rounds * self.steps + self.final_steps


@dataclass(frozen=True)
class Finder:
    """Finds tickets of the face generator and keeps them in a folder.

    Attributes:
        dense: the teacher.
        finding: see there.
        folder: of a run; what lies there was found with the same settings.
    """

    dense: DCGAN
    finding: Finding
    folder: Path

    @property
    def trainer(self) -> Distillation:
        return Distillation(self.dense, DistillationSettings(batch=self.finding.batch))

    def ticket(self, method: str, density: float, seed: int) -> Ticket:
        """The ticket of a method, found now if it is not in the folder."""
        path = self.folder / f"{method}-{density:g}-{seed}.safetensors"
        with claimed(self.folder, path.name):
            if not path.is_file():
                write_ticket(path, METHODS[method](self, density, seed))
        return read_ticket(path)

    def levels(self, name: str, network: Generator, asked: SearchSettings) -> Ticket:
        """A search level by level."""
        with claimed(self.folder, name):
            return search(network, asked, self.trainer, self.folder / name, about=about_generator(DEFAULT_GENERATOR))

    def trained(self, network: DCGAN, mask: Mask, seed: int) -> Ticket:
        """A network with a mask that is fixed, after as many steps as a search makes in all."""
        mask.apply_(network)
        steps = self.finding.all_steps
        (student,) = self.trainer.train(network, level=Level(0, 1, steps, steps), seed=seed)
        about = replace(about_generator(DEFAULT_GENERATOR), seeds={"search": seed})
        if network.widths != self.dense.widths:
            about = replace(about, settings={**about.settings, "widths": list(network.widths)})
        return Ticket(mask, student.state_dict(), about)


def pruned(
    finder: Finder,
    density: float,
    seed: int,
    *,
    criterion: str,
    allocation: str = "erk",
    granularity: str = "weight",
    by_loss: bool = False,
) -> Ticket:
    """Iterative pruning by a criterion, from the teacher's weights, rewinding the learning rate alone."""
    finding = finder.finding
    asked = SearchSettings(
        density,
        rounds=finding.rounds,
        criterion=criterion,
        granularity=granularity,
        allocation=allocation,
        rewind="learning-rate",
        trained=True,
        steps=finding.steps,
        final_steps=finding.final_steps,
        seed=seed,
    )
    start: Generator = absorbed(finder.dense)
    if by_loss:
        first = replace(asked, density=HEAD, rounds=1, criterion="sensitivity", final_steps=finding.steps)
        start = ticketed(finder.levels(f"search-head-{seed}", start, first))
    return finder.levels(f"search-{criterion}-{allocation}-{granularity}-{density:g}-{seed}", start, asked)


def learned(finder: Finder, density: float, seed: int) -> Ticket:
    """A mask that is learned on the teacher's weights as they are, and then trained."""
    network = absorbed(finder.dense)
    evidence = Evidence(
        finder.trainer.losses(seed)[0], density, seed, learning=BernoulliSettings(finder.finding.learned_steps)
    )
    dense = Mask.dense(network)
    return finder.trained(network, select(score("bernoulli", network, dense, evidence), density, parent=dense), seed)


def permuted(finder: Finder, density: float, seed: int) -> Ticket:
    """As many weights of each layer as the magnitude ticket has, but others."""
    mask = shuffled(finder.ticket("magnitude", density, seed).mask, seed)
    return finder.trained(absorbed(finder.dense), mask, seed)


def begun_anew(finder: Finder, density: float, seed: int) -> Ticket:
    """The magnitude ticket's mask on new initial weights."""
    mask = finder.ticket("magnitude", density, seed).mask
    return finder.trained(reinitialised(finder.dense, mask, seed), mask, seed)


def narrow(finder: Finder, density: float, seed: int) -> Ticket:
    """A dense generator with about as many weights as the magnitude ticket keeps, all layers counted, from new initial
    weights."""
    kept = Mask.measured(ticketed(finder.ticket("magnitude", density, seed))).counts.kept
    small = DCGAN(**narrow_dcgan_settings(about_generator(DEFAULT_GENERATOR).settings, kept))
    network = reinitialised(small, Mask.dense(small), seed)
    return finder.trained(network, Mask.dense(network), seed)


METHODS: Mapping[str, Callable[[Finder, float, int], Ticket]] = {
    "magnitude": partial(pruned, criterion="magnitude"),
    "random": partial(pruned, criterion="random"),
    "channels": partial(pruned, criterion="magnitude", allocation="uniform", granularity="channel"),
    "magnitude-global": partial(pruned, criterion="magnitude", allocation="global"),
    "sensitivity": partial(pruned, criterion="sensitivity"),
    "taylor": partial(pruned, criterion="taylor", by_loss=True),
    "snip": partial(pruned, criterion="snip", by_loss=True),
    "grasp": partial(pruned, criterion="grasp", by_loss=True),
    "synflow": partial(pruned, criterion="synflow", allocation="global"),
    "bernoulli": learned,
    "shuffled": permuted,
    "reinitialised": begun_anew,
    "narrow": narrow,
}
"""How tickets are found, by the name in the tables."""


def drawn_by(ticket: Ticket) -> Generator:
    """The generator of a ticket as a recovery takes it: one of channels compacted."""
    network = ticketed(ticket)
    assert isinstance(network, Generator)
    return compact(network) if ticket.about.granularity == "channel" else network


def share(ticket: Ticket) -> float:
    """The fraction of the weights of all five layers of the dense generator that the ticket's network has."""
    kept = Mask.measured(ticketed(ticket)).counts.kept
    return kept / dcgan_weights(about_generator(DEFAULT_GENERATOR).settings)


def dense_generator() -> DCGAN:
    generator = load_generator(DEFAULT_GENERATOR)
    assert isinstance(generator, DCGAN)
    return generator


def finder(finding: Finding, out: Path, code: str) -> Finder:
    """The finder of a run, whose folder belongs to these settings and this code, the hash of what finds tickets."""
    told = json.dumps([asdict(finding), about_generator(DEFAULT_GENERATOR).base_sha256, code])
    folder = out / f"tickets-found-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    return Finder(dense_generator(), finding, folder)
