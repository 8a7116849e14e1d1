"""The solver that `cs-lip recover` is asked for, with its settings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from cs_lip.cli.inputs import Option
from cs_lip.recovery import DEFAULT_SOLVER, SOLVERS, Auto, ImageAdaptive, IntermediateLayers, Solver

CHOICES = [name for name in SOLVERS if name != "untrained"]
"""Untrained networks have a command of their own, `cs-lip restore`."""


def solver_options() -> Option:
    """``--solver``, ``--held-out`` and ``--radius``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        options = (
            click.option(
                "--solver",
                type=click.Choice(CHOICES),
                default=DEFAULT_SOLVER,
                show_default=True,
                help="How images are recovered.",
            ),
            click.option(
                "--held-out",
                type=float,
                help="Fraction of the measurements by which a tuned generator is stopped.  [default: 0.1]",
            ),
            click.option(
                "--radius",
                type=float,
                help="Of the l1 ball of --solver intermediate-layers, relative to the activations.  [default: its own]",
            ),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return add


def asked_solver(name: str, held_out: float | None, radius: float | None) -> Solver:
    """The solver by name with the settings asked for.

    Raises:
        ValueError: a setting that says nothing to this solver, or one out of its range.
    """
    solver = SOLVERS[name]()
    if radius is not None:
        if not isinstance(solver, IntermediateLayers):
            raise ValueError(f"--radius {radius:g} says nothing to {name}; try --solver intermediate-layers")
        solver = replace(solver, radius=radius)
    return solver if held_out is None else _holding_out(solver, name, held_out)


def _holding_out(solver: Solver, name: str, fraction: float) -> Solver:
    if isinstance(solver, Auto):
        tuning = replace(solver.beyond.tuning, held_out=fraction)
        return replace(solver, beyond=replace(solver.beyond, tuning=tuning))
    if isinstance(solver, ImageAdaptive | IntermediateLayers):
        return replace(solver, tuning=replace(solver.tuning, held_out=fraction))
    raise ValueError(f"--held-out {fraction:g} says nothing to {name}; try --solver auto or image-adaptive")
