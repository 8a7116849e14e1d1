"""How fast and how small the operators are, side by side with bare PyTorch, deepinv and PyLops in one run.

Run it with ``python benchmarks/operators.py``. It prints a table and writes it to ``operators.md``, with every number
behind it in ``operators.json``. The contestants of a row take turns; each ratio is the median over the turns of a pair.
"""

import json
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from machine import described, growth_bytes, machine, peak_bytes
from results_files import write_results
from torch import Tensor
from tqdm import tqdm

from cs_lip.evaluation.provenance import versions
from cs_lip.operators import (
    Gaussian,
    LinearOperator,
    PartialCirculant,
    Rademacher,
    SparseRandom,
    SubsampledDCT,
    SubsampledFourier,
    SubsampledHadamard,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they deprecate in each other
    import deepinv
    import pylops

NAME = "operators"
SMALL, LARGE = (3, 64, 64), (3, 256, 256)
OURS, BARE, DENSE, DEEPINV, PYLOPS = CONTESTANTS = ("cs-lip", "bare torch", "dense product", "deepinv", "PyLops")
PEERS = (DEEPINV, PYLOPS)
PEER_FACTOR = 1.1
BATCH_SECONDS = 5e-3
SLOW_ROUNDS = 3
REGENERATED_M = 10_000
TOLERANCE = 1e-4

Row = dict[str, Any]
Act = Callable[[], Any]


@dataclass(frozen=True)
class Contest:
    """One row: who does the same work, whose answers must be the same numbers, and the goals as ratios of ours."""

    acts: dict[str, Act]
    goals: dict[str, float]
    agree: tuple[str, ...] = ()
    slow: bool = False


# What is compared


def contests() -> Iterator[tuple[str, Callable[[], dict[str, Contest]]]]:
    """Groups of rows, each made only when its turn comes, so that no two large matrices are held at once."""
    yield "construction", construction
    yield "dense, small", partial(dense, SMALL, 2000, with_deepinv=True)
    yield "dense, large", partial(dense, LARGE, 500, with_deepinv=False)
    yield "Fourier, small", partial(fourier, SMALL, 2000)
    yield "Fourier, large", partial(fourier, LARGE, 20_000)
    yield "fast, large", partial(fast, LARGE, 2000)
    yield "regenerated", regenerated


def construction() -> dict[str, Contest]:
    """A Gaussian operator; deepinv's takes a pseudo-inverse as well. The bare one draws from PyTorch's generator."""
    m, n = 2000, int(np.prod(SMALL))
    acts: dict[str, Act] = {
        OURS: lambda: Gaussian(SMALL, m, seed=0, storage="dense"),
        BARE: lambda: torch.randn(m, n, generator=torch.Generator().manual_seed(0)) / m**0.5,
        DEEPINV: lambda: deepinv.physics.CompressedSensing(m, SMALL, rng=torch.Generator().manual_seed(0)),
    }
    return {f"construct dense Gaussian, m = {m:,}, n = {n:,}": Contest(acts, {DEEPINV: 1 / 50}, slow=True)}


def dense(shape: tuple[int, ...], m: int, *, with_deepinv: bool) -> dict[str, Contest]:
    A = Gaussian(shape, m, seed=0, storage="dense")
    # Everybody multiplies by the same memory: how a matrix happens to lie in it moves a product by a third.
    M = A.matrix
    physics = None
    if with_deepinv:
        physics = deepinv.physics.CompressedSensing(1, shape, rng=torch.Generator().manual_seed(0))
        physics._A, physics._A_adjoint = M, M.T  # the same matrix, and no waiting for its pseudo-inverse
    rows = {}
    for batch in (1, 16):
        L = pylops.MatrixMult(M.numpy(), otherdims=(batch,), dtype=np.float32)
        x, y = draw(batch, A.n), draw(batch, m)
        forward: dict[str, Act] = {
            OURS: partial(A, x.reshape(batch, *shape)),
            BARE: partial(torch.mm, x, M.T),
            PYLOPS: partial(columns, L.matvec, x),
        }
        adjoint: dict[str, Act] = {
            OURS: partial(A.adjoint, y),
            BARE: partial(torch.mm, y, M),
            PYLOPS: partial(columns, L.rmatvec, y),
        }
        if physics is not None:
            forward[DEEPINV] = partial(physics.A, x.reshape(batch, *shape))
            adjoint[DEEPINV] = partial(physics.A_adjoint, y)
        for name, acts in (("forward", forward), ("adjoint", adjoint)):
            label = f"dense Gaussian {name}, m = {m:,}, n = {A.n:,}, batch {batch}"
            rows[label] = Contest(acts, {BARE: 1.15}, agree=tuple(acts))
    return rows


def fourier(shape: tuple[int, ...], m: int) -> dict[str, Contest]:
    """deepinv's MRI transforms the planes as complex images and multiplies by the mask instead of gathering."""
    A = SubsampledFourier(shape, m, seed=0)
    mask, indices = A.mask, A.mask.flatten().nonzero()[:, 0]
    physics = deepinv.physics.MRI(mask=torch.fft.fftshift(mask, dim=(-2, -1))[:, None].expand(-1, 2, -1, -1).float())
    F = pylops.signalprocessing.FFT2D(shape, axes=(-2, -1), norm="ortho", dtype=np.float32, engine="scipy")
    L = pylops.Restriction(A.n, indices.numpy(), dtype=np.complex64) @ F
    x = draw(*shape)
    y = A(x)
    planes = torch.stack([x, torch.zeros_like(x)], dim=1)

    def bare_adjoint() -> Tensor:
        spectrum = torch.zeros(A.n, dtype=y.dtype)
        spectrum[indices] = y
        image: Tensor = torch.fft.ifft2(spectrum.reshape(shape), norm="ortho").real
        return image

    forward: dict[str, Act] = {
        OURS: partial(A, x),
        BARE: lambda: torch.fft.fft2(x, norm="ortho").flatten()[indices],
        DEEPINV: partial(physics.A, planes),
        PYLOPS: partial(L.matvec, x.flatten().numpy()),
    }
    k_space = physics.A(planes)
    adjoint: dict[str, Act] = {
        OURS: partial(A.adjoint, y),
        BARE: bare_adjoint,
        DEEPINV: partial(physics.A_adjoint, k_space),
        PYLOPS: partial(L.rmatvec, y.numpy()),
    }
    return {
        f"SubsampledFourier {name}, m = {m:,}, n = {A.n:,}": Contest(acts, {BARE: 1.25}, agree=(OURS, BARE, PYLOPS))
        for name, acts in (("forward", forward), ("adjoint", adjoint))
    }


def fast(shape: tuple[int, ...], m: int) -> dict[str, Contest]:
    """Transforms of the flattened image beside a product with a matrix of the same size.

    deepinv's and PyLops' rows are the same work but other numbers: random signs, a sine or cosine transform, a choice.
    """
    n = int(np.prod(shape))
    M = torch.empty(m, n).normal_(generator=torch.Generator().manual_seed(0))
    structured = deepinv.physics.StructuredRandom((1, 1, n), (1, 1, m), rng=torch.Generator().manual_seed(0))
    signs = np.sign(draw(n).numpy())
    chosen = np.sort(np.random.default_rng(0).choice(n, m, replace=False))
    L = pylops.Restriction(n, chosen, dtype=np.float32) @ pylops.signalprocessing.DCT(n, dtype=np.float32)
    L = L @ pylops.Diagonal(signs)
    kinds: dict[str, LinearOperator] = {
        "SubsampledHadamard": SubsampledHadamard(shape, m, seed=0),
        "SubsampledDCT": SubsampledDCT(shape, m, seed=0),
        "PartialCirculant": PartialCirculant(shape, m, seed=0),
        "SubsampledFourier": SubsampledFourier(shape, m, seed=0),
        "SparseRandom": SparseRandom(shape, m, seed=0, nonzeros_per_column=8),
    }
    x, v = draw(*shape), draw(m)
    rows = {}
    for name, A in kinds.items():
        forward: dict[str, Act] = {OURS: partial(A, x), DENSE: partial(torch.mm, x.reshape(1, n), M.T)}
        adjoint: dict[str, Act] = {OURS: partial(A.adjoint, A(x)), DENSE: partial(torch.mm, v[None], M)}
        if name == "SubsampledDCT":
            forward |= {
                DEEPINV: partial(structured.A, x.reshape(1, 1, 1, n)),
                PYLOPS: partial(L.matvec, x.flatten().numpy()),
            }
            adjoint |= {
                DEEPINV: partial(structured.A_adjoint, v.reshape(1, 1, 1, m)),
                PYLOPS: partial(L.rmatvec, v.numpy()),
            }
        for direction, acts in (("forward", forward), ("adjoint", adjoint)):
            rows[f"{name} {direction}, m = {m:,}, n = {n:,}"] = Contest(acts, {DENSE: 1 / 20})
    return rows


def regenerated() -> dict[str, Contest]:
    """No peer has it, and a matrix of 7.3 GiB is not made for comparison."""
    rows = {}
    for kind in (Gaussian, Rademacher):
        A = kind(LARGE, REGENERATED_M, seed=0, storage="regenerated")
        x, y = draw(*LARGE), draw(REGENERATED_M)
        for direction, act in (("forward", partial(A, x)), ("adjoint", partial(A.adjoint, y))):
            label = f"regenerated {kind.__name__} {direction}, m = {A.m:,}, n = {A.n:,}"
            rows[label] = Contest({OURS: act}, {}, slow=True)
    return rows


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def columns(act: Callable[[Any], Any], rows: Tensor) -> Any:
    """PyLops takes a batch as the columns of a flattened matrix."""
    return act(rows.numpy().T.ravel()).reshape(-1, len(rows)).T


# Time


def raced(contest: Contest, rounds: int) -> dict[str, Row]:
    """Seconds a call of every contestant, one number a round, and the ratios of ours to theirs, round by round."""
    if not contest.slow:  # a construction is slow enough to show, and differs by intent
        check_agreement(contest)
    names = list(contest.acts)
    calls = {name: 1 if contest.slow else repetitions(contest.acts[name]) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(min(rounds, SLOW_ROUNDS) if contest.slow else rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(timed(contest.acts[name], calls[name]))
    return {
        name: {
            "seconds": times,
            "median_seconds": statistics.median(times),
            "ours_over_this": statistics.median(a / b for a, b in zip(seconds[OURS], times, strict=True)),
        }
        for name, times in seconds.items()
    }


def repetitions(act: Act) -> int:
    """How many calls take as long as the clock and the machine's jitter need."""
    act()
    return max(1, round(BATCH_SECONDS / timed(act, 3)))


def timed(act: Act, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        act()
    return (time.perf_counter() - began) / calls


def check_agreement(contest: Contest) -> None:
    for name in contest.agree:
        ours, theirs = (torch.as_tensor(contest.acts[who]()).flatten() for who in (OURS, name))
        if not (ours - theirs).norm() <= TOLERANCE * ours.norm():
            raise AssertionError(f"{name} computes something else than {OURS}")


# Memory

OWN_IMPORTS, DEEPINV_IMPORTS = "import torch; from cs_lip.operators import Gaussian", "import deepinv, torch"
DENSE_GAUSSIAN = "A = Gaussian((3, 64, 64), 2000, seed=0, storage='dense')"
DEEPINV_GAUSSIAN = "A = deepinv.physics.CompressedSensing(2000, (3, 64, 64), rng=torch.Generator())"
REGENERATED_GAUSSIAN = (
    f"A = Gaussian((3, 256, 256), {REGENERATED_M}, seed=0, storage='regenerated'); "
    "y = A(torch.zeros(3, 256, 256)); A.adjoint(y)"
)


def memory() -> dict[str, int]:
    """Bytes by which two constructions grow a process at their peak, and the peak of one that regenerates."""
    return {
        "construct": growth_bytes(OWN_IMPORTS, DENSE_GAUSSIAN),
        "construct, deepinv": growth_bytes(DEEPINV_IMPORTS, DEEPINV_GAUSSIAN),
        "imports": peak_bytes(["-c", OWN_IMPORTS]),
        "regenerated": peak_bytes(["-c", f"{OWN_IMPORTS}; {REGENERATED_GAUSSIAN}"]),
        "regenerated, growth": growth_bytes(OWN_IMPORTS, REGENERATED_GAUSSIAN),
    }


# The report


def verdicts(contest: Contest, row: dict[str, Row]) -> list[dict[str, Any]]:
    """The row's goals: what was asked for, and never slower than the fastest peer by more than 10 %."""
    goals = dict(contest.goals)
    if peers := [name for name in PEERS if name in row]:
        fastest = min(peers, key=lambda name: row[name]["median_seconds"])
        goals.setdefault(fastest, PEER_FACTOR)
    return [
        {
            "than": name,
            "at_most": most,
            "ratio": row[name]["ours_over_this"],
            "met": row[name]["ours_over_this"] <= most,
        }
        for name, most in goals.items()
    ]


def table(rows: dict[str, Row], peaks: dict[str, int], facts: dict[str, Any]) -> str:
    lines = [f"| milliseconds | {' | '.join(CONTESTANTS)} | cs-lip over ... (goal) |"]
    lines.append("| --- |" + " ---: |" * len(CONTESTANTS) + " --- |")
    for label, row in rows.items():
        times = [row["times"].get(name) for name in CONTESTANTS]
        cells = [f"{1e3 * entry['median_seconds']:.3g}" if entry else "" for entry in times]
        goals = [
            f"{goal['than']}: {goal['ratio']:.3g} (<= {goal['at_most']:.3g}{'' if goal['met'] else ', **missed**'})"
            for goal in row["goals"]
        ]
        lines.append(f"| {label} | {' | '.join(cells)} | {'; '.join(goals)} |")
    matrix = 4 * 2000 * np.prod(SMALL)
    share, theirs = peaks["construct"] / matrix, peaks["construct, deepinv"] / matrix
    host, software = facts["machine"], facts["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"- Memory to construct the dense Gaussian, m = 2,000, n = 12,288: {share:.2f} times its matrix "
            f"(goal: 1.2 at most); deepinv's: {theirs:.2f} times.",
            f"- Peak memory of a process that applies the regenerated Gaussian and its adjoint, m = {REGENERATED_M:,}, "
            f"n = 196,608 (7.3 GiB if stored): {peaks['regenerated'] / 2**30:.2f} GiB (goal: below 1). The imports "
            f"alone peak at {peaks['imports'] / 2**30:.2f} GiB, and the operator adds "
            f"{peaks['regenerated, growth'] / 2**20:.0f} MiB to them.",
            f"- Median of {facts['rounds']} rounds in which the contestants take turns ({SLOW_ROUNDS} at most of "
            "constructions and regenerated operators); float32, batch 1 where none is said.",
            f"- {described(host, software, ('deepinv', 'pylops'))} Made by `{facts['command']}`.",
            "",
        ]
    )


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=41, show_default=True)
@click.option("--only", help="Only the groups whose name holds this text; nothing is written.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(rounds: int, only: str | None, out: Path) -> None:
    found: dict[str, Row] = {}
    wanted = [(name, make) for name, make in contests() if only is None or only in name]
    for _, make in wanted:
        group = make()
        for label, contest in tqdm(group.items(), disable=None):
            times = raced(contest, rounds)
            found[label] = {"times": times, "goals": verdicts(contest, times)}
        del group, contest
    software = versions() | {name: version(name) for name in ("deepinv", "pylops")}
    command = shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]])
    facts = {"command": command, "rounds": rounds, "machine": machine(), "versions": software}
    if only is not None:
        click.echo(json.dumps({label: row["goals"] for label, row in found.items()}, indent=1))
        return
    peaks = memory()
    text = table(found, peaks, facts)
    whole = facts | {"rows": found, "peak_bytes": peaks}
    write_results(out, NAME, whole, text)
    click.echo(text)


if __name__ == "__main__":
    main()
