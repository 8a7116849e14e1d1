"""Whether lottery image priors hold what is claimed: tickets of the skip network against dense, small and sparse ones.

Run it with ``python benchmarks/lip.py``, about 6 hours with a process on each of two cores. It prints a table and
writes it to ``lip.md``, with every number behind it in ``lip.json``, and draws ``docs/images/lip.png``
(``--figure-only`` draws it again). Each finished fit is a line of ``lip.jsonl``, and the masks lie in a folder beside
it level by level, so that a run which was stopped goes on where it ended.

A mask is found from the measurements of a picture alone, by iterative magnitude pruning with 20 % of the hidden weights
pruned a level and the rest begun anew (Wu, Chen, Jiang & Wang, TMLR 2023, arXiv 2410.24187). Every fit is told at the
stop that could be deployed and at its oracle peak, the best of all iterations by the truth, as the paper has it.
``--full`` has the published network, larger pictures and longer fits, and takes days; ``--quick`` only shows that
everything runs.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lip_report import figure, table, verdicts
from results_files import TARGETS, Row, claimed, code_hash, write_results
from resumable import measure_cells, resumable
from torch import Tensor

from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.oracle import OraclePeak
from cs_lip.evaluation.pictures import picture
from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.ticket_search import Fits
from cs_lip.files import atomic_path
from cs_lip.operators import Downsample, Identity, LinearOperator, bernoulli_mask
from cs_lip.operators import Mask as Inpainting
from cs_lip.priors import UntrainedNetwork, untrained_network
from cs_lip.recovery import pose, recover
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import derive_seed
from cs_lip.tickets import Evidence, Mask, read_ticket, score, select
from cs_lip.tickets.controls import deep_decoder_settings, random_mask
from cs_lip.tickets.levels import Levels
from cs_lip.tickets.lottery import search
from cs_lip.tickets.search_settings import SearchSettings
from cs_lip.tickets.transfer import about_untrained

NAME, PRIOR = "lip", "skip"
TASKS = ("denoise", "inpaint", "super-resolve")
SIGMA, KEPT, FACTOR = 25 / 255, 0.5, 4
RIVALS = ("decoder", "random", "snip")
SEARCH = ("evaluation/oracle.py", "evaluation/ticket_search.py")
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


@dataclass(frozen=True)
class Scale:
    """How large a run is.

    Attributes:
        pictures: the first is the one whose masks the others take over.
        side: of the pictures.
        iterations: of every fit at most.
        steps: of the fit at each level of a search.
        levels: of a search that are fitted, by density, the most telling first. Level ``t`` has density
            ``0.2 ** (t / 7)``, which is 0.795 of what the level before has left.
        depth: of the Deep Decoder.
        settings: of the skip network: half the published channels, which are still 20 times as many weights as there
            are values in a picture.
    """

    pictures: tuple[str, ...] = ("astronaut", "chelsea", "coffee", "rocket", "china")
    side: int = 96
    iterations: int = 1000
    steps: int = 500
    levels: tuple[int, ...] = (7, 10)
    depth: int = 5
    settings: dict[str, Any] = field(default_factory=lambda: {"widths": (64,) * 5})

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    @staticmethod
    def density(level: int) -> float:
        """Of the hidden weights."""
        return 0.2 ** (level / 7)


FULL = Scale(side=128, iterations=1500, steps=1000, levels=(7, 10, 14), settings={})
QUICK = Scale(("astronaut", "coffee"), 32, 12, 2, (7, 8), 3, {"widths": (8, 8), "skips": (4, 4)})


@dataclass(frozen=True)
class Bench:
    """What every cell of one run shares."""

    scale: Scale
    seed: int
    folder: Path

    def measured(self, task: str, name: str) -> tuple[LinearOperator, Tensor, float, Tensor]:
        """Operator, measurements, noise and truth ``(1, channels, height, width)`` of a picture's task."""
        shape = self.scale.shape
        truth = picture(name, shape).pixels[None]
        operator: LinearOperator = Identity(shape)
        if task == "inpaint":
            operator = Inpainting(bernoulli_mask(shape[1:], keep=KEPT, seed=derive_seed(self.seed, "operator")), shape)
        if task == "super-resolve":
            operator = Downsample(shape, FACTOR)
        noise = SIGMA if task == "denoise" else 0.0
        return operator, acquire(operator, truth, noise=noise, seed=derive_seed(self.seed, name)), noise, truth

    def dense(self) -> UntrainedNetwork:
        return untrained_network(PRIOR, self.scale.shape, self.seed, **self.scale.settings)

    def fits(self, task: str, name: str) -> Fits:
        operator, values, noise, _ = self.measured(task, name)
        return Fits([pose(operator, values, noise=noise)])


# The masks


def lip_mask(bench: Bench, task: str, name: str, level: int) -> Mask:
    """A level of the search on one picture, which is made now if it is not there."""
    scale = bench.scale
    folder, last = bench.folder / f"{task}-{name}", max(scale.levels)
    asked = SearchSettings(scale.density(last), rounds=last, steps=scale.steps, seed=bench.seed)
    about = about_untrained(PRIOR, scale.shape, bench.seed, **scale.settings)
    with claimed(bench.folder, folder.name):
        if not Levels(folder).ticket.is_file():
            search(bench.dense(), asked, bench.fits(task, name), folder, about=about)
    return read_ticket(Levels(folder).level(level)).mask


def snip_mask(bench: Bench, task: str, name: str, level: int) -> Mask:
    """By connection sensitivity at the initial weights, in one shot, as its authors do."""
    network = bench.dense()
    dense, density = Mask.dense(network), bench.scale.density(level)
    evidence = Evidence(bench.fits(task, name).losses(bench.seed)[0], density, bench.seed)
    return select(score("snip", network, dense, evidence), density, parent=dense)


def prior(bench: Bench, task: str, name: str, method: str, level: int) -> UntrainedNetwork:
    """The network of a cell, as it is before the fit.

    Args:
        method: ``dense``, ``lip``, one of `RIVALS`, or ``from-`` and the picture or the task whose mask is taken over.
    """
    network, density = bench.dense(), bench.scale.density(level)
    if method == "dense":
        return network
    if method == "decoder":
        dense = Mask.dense(network).counts.total
        count = network.parameter_count - dense + round(density * dense)
        settings = deep_decoder_settings(bench.scale.shape, count, bench.scale.depth)
        return untrained_network("deep_decoder", bench.scale.shape, bench.seed, **settings)
    origin = method.removeprefix("from-")
    if method == "random":
        mask = random_mask(Mask.dense(network), density, derive_seed(bench.seed, f"random/{task}/{name}"))
    elif method == "snip":
        mask = snip_mask(bench, task, name, level)
    elif origin in TASKS:
        mask = lip_mask(bench, origin, name, level)
    else:
        mask = lip_mask(bench, task, name if method == "lip" else origin, level)
    mask.apply_(network)
    return network


# The measurements


def fitted(bench: Bench, task: str, name: str, method: str, level: int) -> Row:
    """A fit: what it returned, and the best that it passed through."""
    operator, values, noise, truth = bench.measured(task, name)
    network, peak = prior(bench, task, name, method, level), OraclePeak(truth)
    solver = UntrainedFit(iterations=bench.scale.iterations)
    found = recover(operator, values, network, solver=solver, noise=noise, seed=bench.seed, observe=peak)
    pruned = sum(int((~kept).sum()) for kept in network.kept.values())
    shares = [float(kept.float().mean()) for kept in network.kept.values()]
    return {
        "psnr_db": psnr(found.images[0], truth[0]),
        "peak_psnr_db": peak.peaks[0].psnr_db,
        "peak_iteration": peak.peaks[0].iteration,
        "parameters": network.parameter_count - pruned,
        "density": Mask(network.kept).density if network.kept else 1.0,
        "layers_keep": [min(shares), max(shares)] if shares else None,
        "seconds": found.timings["total"],
        **found.notes[0],
    }


def cells(bench: Bench) -> dict[str, Callable[[], Row]]:
    """Every cell by name, ``task/picture/method/level``, what is claimed first, and what needs a search last."""
    (first, *others), (level, *sparser) = bench.scale.pictures, bench.scale.levels
    todo: dict[str, Callable[[], Row]] = {}

    def add(name: str, methods: Sequence[str], level: int, tasks: Sequence[str] = TASKS) -> None:
        for task in tasks:
            for method in methods:
                at = 0 if method == "dense" else level
                todo[f"{task}/{name}/{method}/{at}"] = partial(fitted, bench, task, name, method, at)

    taken, moved = f"from-{first}", f"from-{TASKS[0]}"
    add(first, ("dense", "lip", *RIVALS), level)
    for name in others:
        add(name, ("dense", taken, *RIVALS), level)
    add(first, (moved,), level, TASKS[1:])
    for other in sparser:
        add(first, ("lip", *RIVALS), other)
    for name in others:
        for each in bench.scale.levels:
            add(name, ("lip",), each)
        add(name, (moved,), level, TASKS[1:])
    for name in others:
        for other in sparser:
            add(name, RIVALS, other)
    return todo


# The command


def configuration(scale: Scale, seed: int) -> dict[str, Any]:
    """All that a cell depends on besides its own name, but for the machine, which every row says for itself."""
    return {
        "seed": seed,
        "scale": asdict(scale),
        "densities": {str(level): scale.density(level) for level in scale.levels},
        "tasks": {"sigma": SIGMA, "kept": KEPT, "factor": FACTOR},
        "code": code_hash((*TARGETS, *SEARCH, "operators", "priors", "recovery", "tickets")),
        "versions": versions(),
    }


def draw(out: Path) -> None:
    """The figure, from what a run stored."""
    whole = json.loads((out / f"{NAME}.json").read_text(encoding="utf-8"))
    with atomic_path(IMAGES / f"{NAME}.png") as temporary:
        figure(whole["rows"], whole["configuration"]).savefig(temporary, dpi=110, format="png")


def write(out: Path, total: int, config: dict[str, Any], rows: dict[str, Row], command: str) -> str:
    text = table(rows, total, config, command)
    whole = {"command": command, "configuration": config, "verdicts": verdicts(rows, config), "rows": rows}
    write_results(out, NAME, whole, text)
    return text


@resumable(__doc__, full="The published network, larger pictures, longer fits, and a third density.")
def main(full: bool, quick: bool, figure_only: bool, only: str | None, seed: int, out: Path) -> None:
    if figure_only:
        draw(out)
        return
    scale = QUICK if quick else FULL if full else Scale()
    config = configuration(scale, seed)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    bench = Bench(scale, seed, out / f"{NAME}-masks-{digest}")
    todo = cells(bench)
    measure_cells(out / f"{NAME}.jsonl", config, todo, only, partial(write, out, len(todo), config))
    if not quick:
        draw(out)


if __name__ == "__main__":
    main()
