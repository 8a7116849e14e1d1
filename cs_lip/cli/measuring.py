"""What `cs-lip measure` and `cs-lip recover` share: pictures measured here, and measurements gone bad on purpose."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from cs_lip.cli.inputs import Option, asked_images
from cs_lip.evaluation.acquisition import OUTLIER_KINDS, Outliers, acquire, build_operator
from cs_lip.evaluation.run import Measurements
from cs_lip.operators import LinearOperator, probe_response
from cs_lip.priors import Generator
from cs_lip.recovery.problem import MOST_NOISE


def outlier_options() -> Option:
    """``--outliers`` and ``--outlier-kind``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        kind = click.option(
            "--outlier-kind",
            type=click.Choice(OUTLIER_KINDS),
            help="gross: random numbers of ten times the size in their place; heavy-tail: all get Student-t noise, "
            "of which the share --outliers exceeds the signal.  [default: gross]",
        )
        return click.option(
            "--outliers", type=float, help="Share of the measurements that go bad, below 0.5.  [default: 0]"
        )(kind(command))

    return add


def asked_outliers(fraction: float | None, kind: str | None) -> Outliers | None:
    """What the two options ask for; None without any.

    Raises:
        ValueError: a share that is not from 0 to below one half, or a kind without a share.
    """
    if fraction is None and kind is not None:
        raise ValueError(f"--outlier-kind {kind} says nothing without --outliers; try --outliers 0.02")
    return Outliers(fraction, kind or OUTLIER_KINDS[0]) if fraction else None


def measured(
    prior: Generator,
    kind: str,
    count: int,
    files: Sequence[Path],
    *,
    noise: float,
    outliers: Outliers | None,
    seed: int,
) -> tuple[LinearOperator, Tensor, Measurements]:
    """The operator, the pictures asked for ``(images, channels, height, width)`` and their measurements.

    Noise that drowns them is told on standard error.

    Raises:
        ValueError: unknown pictures, a number of measurements that the operator cannot take, or a bad noise.
    """
    if noise > MOST_NOISE:
        raise ValueError(f"the noise must be at most {MOST_NOISE:g}, which recoveries take, got {noise:g}; try 0.01")
    operator = build_operator(kind, prior.image_shape, count, seed=seed).to(prior.device)
    named = asked_images(files, prior, seed)
    truth = torch.stack([image.pixels.to(prior.device) for image in named])
    if noise:
        _tell_of_noise(operator, truth, noise)
    values = acquire(operator, truth, noise=noise, seed=seed, outliers=outliers)
    names, sources = tuple(image.name for image in named), tuple(image.source for image in named)
    response = probe_response(operator)
    return operator, truth, Measurements(values, operator.recipe(), noise, names, sources, response, outliers)


def _tell_of_noise(operator: LinearOperator, truth: Tensor, noise: float) -> None:
    """Say on standard error where there is more noise than anything else."""
    signal = float((operator(truth).abs().square().sum() / (len(truth) * operator.m)).sqrt())
    if noise > signal > 0:
        click.echo(
            f"The noise of {noise:g} drowns measurements of {signal:.2g} (root mean square); try --noise "
            f"{signal / 20:.1g}.",
            err=True,
        )
