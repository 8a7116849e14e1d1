"""How fast generators draw, side by side with the plain module and with two other implementations, on one machine.

Run it with ``python benchmarks/generators.py``. It prints a table and writes it to ``generators.md``, with every number
behind it in ``generators.json``. The two of a row take turns and draw the same images from the same weights; each ratio
is the median over the turns. The peers and their weights are those of the tests, which need the development install and
``pip install --no-deps pro-gan-pth==3.4 stylegan2-torch==1.3.0 torch-conv-gradfix==0.1.0``.
"""

import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
import torch
from machine import described, machine
from results_files import write_results
from torch import Tensor, nn
from tqdm import tqdm

from cs_lip.evaluation.provenance import versions
from cs_lip.priors import DEFAULT_GENERATOR, Generator, build, load_generator, recognise
from cs_lip.seeding import stream

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from test_pggan import CELEBA_HQ, pro_gan, with_one_bias_a_channel, zoo_state
from test_stylegan2 import filtered, rosinality_state

NAME = "generators"
PACKAGES = ("pro-gan-pth", "stylegan2-torch", "torch-conv-gradfix")
TOLERANCE = 1e-4
BATCH_SECONDS = 0.05
FRESH_ROUNDS = 5
FRESH_GOAL = 3.0
IMPORT = "import cs_lip"
LOAD = f"{IMPORT}; from cs_lip.priors import load_generator; load_generator({DEFAULT_GENERATOR!r})"

Row = dict[str, Any]
Act = Callable[[], Tensor]


@dataclass(frozen=True)
class Contest:
    """One row: what ours and a peer do, the peer's name, and how much of its time ours may take."""

    ours: Act
    theirs: Act
    peer: str
    goal: float | None


# What is compared


def contests(quick: bool) -> Iterator[tuple[str, Callable[[], Contest]]]:
    """Rows, each made only when its turn comes, so that no two large networks are held at once."""
    pggan = (16, 16, 8) if quick else CELEBA_HQ
    stylegan2 = (16, 16, 8) if quick else (512, 512, 512, 512, 512, 256, 128)
    side = 4 * 2 ** (len(pggan) - 1)
    yield f"{DEFAULT_GENERATOR}, forward and backward to z", partial(plain_dcgan, with_gradient, 0.85)
    yield f"{DEFAULT_GENERATOR}, forward", partial(plain_dcgan, without_gradient, None)
    yield f"PGGAN-{side}, forward", partial(other_pggan, pggan)
    yield f"StyleGAN2-{side}, forward", partial(other_stylegan2, stylegan2)


def plain_dcgan(draw: Callable[..., Tensor], goal: float | None) -> Contest:
    """The bundled DCGAN folded, and the same module as it was loaded, frozen and in evaluation mode."""
    generator = load_generator(DEFAULT_GENERATOR).eval().requires_grad_(False)
    z = latent_for(generator)
    return Contest(partial(draw, generator.fold(), z), partial(draw, generator, z), "plain module", goal)


def other_pggan(depths: tuple[int, ...]) -> Contest:
    """pro-gan-pth with the pixel norm that it leaves out put back, which is 512 values of 4x4."""
    state = with_one_bias_a_channel(zoo_state(depths[0], depths))
    generator = build(recognise(state))
    peer = pro_gan(state, depths).float().eval().requires_grad_(False)
    z = latent_for(generator)
    ours, theirs = partial(without_gradient, generator.fold(), z), partial(without_gradient, peer, z)
    return Contest(ours, theirs, "pro-gan-pth", 1.1)


def other_stylegan2(depths: tuple[int, ...]) -> Contest:
    """stylegan2-torch, one channel. Its filter exists for CUDA alone; here it is a depthwise convolution."""
    random, size = stream(0, "stylegan2"), depths[0]
    channels = {4 * 2**index: depth for index, depth in enumerate(depths)}
    with patch("torch.utils.cpp_extension.load", lambda *_, **__: SimpleNamespace(upfirdn2d=upfirdn2d)):
        import stylegan2_torch
    peer: nn.Module = stylegan2_torch.Generator(max(channels), latent_dim=size, n_mlp=8, channels=channels)
    for name, value in peer.named_parameters():
        value.data = torch.randn(value.shape, generator=random) * (100 if name.startswith("mapping") else 1)
    sides = [4, *(4 * 2 ** ((index + 1) // 2) for index in range(1, 2 * len(depths) - 1))]
    noises = [torch.randn(1, 1, side, side, generator=random) for side in sides]
    stored = {f"noises.noise_{index}": noise for index, noise in enumerate(noises)}
    generator = build(recognise(rosinality_state(peer.state_dict()) | stored))
    z = latent_for(generator)
    peer.eval().requires_grad_(False)
    theirs = partial(without_gradient, partial(peer, noises=noises), [z])
    return Contest(partial(without_gradient, generator.fold(), z), theirs, "stylegan2-torch", 1.1)


def upfirdn2d(image: Tensor, taps: Tensor, up: int, _up: int, _down: int, _down_too: int, *padding: int) -> Tensor:
    return filtered(image, taps, up, padding[0], padding[1])


def latent_for(generator: Generator) -> Tensor:
    return generator.sample_latents(1, generator=stream(1, "benchmark"))


def without_gradient(draw: Callable[[Any], Tensor], latents: Any) -> Tensor:
    with torch.no_grad():
        return draw(latents)


def with_gradient(draw: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    point = latents.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(draw(point).square().sum(), point)
    return gradient


def check_agreement(label: str, contest: Contest) -> None:
    ours, theirs = contest.ours(), contest.theirs()
    if contest.peer != "plain module":
        theirs = ((theirs + 1) / 2).clamp(0, 1)
    if not (ours - theirs).norm() <= TOLERANCE * ours.norm():
        raise AssertionError(f"{label}: {contest.peer} computes something else than cs-lip")


# Time


def raced(contest: Contest, rounds: int) -> Row:
    """Seconds a call of both, one number a round, and the ratio of ours to theirs, round by round."""
    acts = {"ours": contest.ours, "theirs": contest.theirs}
    calls = {name: max(1, round(BATCH_SECONDS / timed(act, 2))) for name, act in acts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(rounds):
        for name in sorted(acts, reverse=turn % 2 == 1):
            seconds[name].append(timed(acts[name], calls[name]))
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    return {
        "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "peer": contest.peer,
        "ratio": ratio,
        "at_most": contest.goal,
        "met": None if contest.goal is None else ratio <= contest.goal,
    }


def timed(act: Act, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        act()
    return (time.perf_counter() - began) / calls


def fresh(rounds: int) -> Row:
    """Seconds of a fresh Python that imports cs_lip and loads the default generator, and of one that imports torch."""
    scripts = {"load": LOAD, "import torch": "import torch"}
    seconds: dict[str, list[float]] = {name: [] for name in scripts}
    for turn in range(rounds + 1):
        for name, script in scripts.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", script], check=True)
            if turn:  # the first finds the files on disk for the others
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "seconds": seconds,
        "median_seconds": medians,
        "at_most": FRESH_GOAL,
        "met": medians["load"] < FRESH_GOAL,
    }


# The report


def table(rows: dict[str, Row], start: Row, facts: dict[str, Any]) -> str:
    lines = ["| milliseconds, batch 1 | cs-lip, folded | peer | its time | cs-lip over peer (goal) |"]
    lines.append("| --- | ---: | --- | ---: | --- |")
    for label, row in rows.items():
        ours, theirs = (1e3 * row["median_seconds"][name] for name in ("ours", "theirs"))
        missed = ", **missed**" if row["met"] is False else ""
        goal = f" (<= {row['at_most']:.3g}{missed})" if row["at_most"] else ""
        lines.append(f"| {label} | {ours:.3g} | {row['peer']} | {theirs:.3g} | {row['ratio']:.3g}{goal} |")
    host, software = facts["machine"], facts["versions"]
    seconds = start["median_seconds"]
    return "\n".join(
        [
            *lines,
            "",
            f"- A fresh process that imports cs_lip and loads `{DEFAULT_GENERATOR}` takes {seconds['load']:.2f} s "
            f"(goal: below {FRESH_GOAL:.0f}{'' if start['met'] else ', **missed**'}); importing torch alone takes "
            f"{seconds['import torch']:.2f} s. Median of {facts['fresh_rounds']}, after one that is not counted.",
            f"- Median of {facts['rounds']} rounds in which both take turns; float32, the same weights, random except "
            f"for the DCGAN's, and the same images to {TOLERANCE:g} of their norm. pro-gan-pth has a pixel norm put "
            "back, stylegan2-torch a filter that runs without CUDA.",
            f"- {described(host, software, PACKAGES)} Made by `{facts['command']}`.",
            "",
        ]
    )


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=21, show_default=True)
@click.option("--quick", is_flag=True, help="Small networks and two rounds, to try the script; nothing is written.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(rounds: int, quick: bool, out: Path) -> None:
    rounds, fresh_rounds = (2, 1) if quick else (rounds, FRESH_ROUNDS)
    rows: dict[str, Row] = {}
    for label, make in tqdm(list(contests(quick)), disable=None):
        contest = make()
        check_agreement(label, contest)
        rows[label] = raced(contest, rounds)
    facts = {
        "command": shlex.join(["python", f"benchmarks/{NAME}.py", *sys.argv[1:]]),
        "rounds": rounds,
        "fresh_rounds": fresh_rounds,
        "machine": machine(),
        "versions": versions() | {name: version(name) for name in PACKAGES},
    }
    start = fresh(fresh_rounds)
    text = table(rows, start, facts)
    if not quick:
        write_results(out, NAME, facts | {"rows": rows, "fresh": start}, text)
    click.echo(text)


if __name__ == "__main__":
    main()
