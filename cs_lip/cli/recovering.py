"""What `cs-lip recover` recovers from: the prior, and measurements taken here or read from a file."""

import contextlib
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from cs_lip.cli.inputs import asked_ticket, check_name, find_device
from cs_lip.cli.measuring import asked_outliers, measured
from cs_lip.evaluation.acquisition import snr_db
from cs_lip.evaluation.digests import generator_digest, start_digest
from cs_lip.evaluation.run import Measurements
from cs_lip.evaluation.store import load_measurements
from cs_lip.evaluation.sweep.run_cell import CLASSICAL
from cs_lip.operators import LinearOperator, check_response, operator_from_recipe
from cs_lip.priors import DEFAULT_GENERATOR, Encoder, Generator, find_entry, load_generator, load_start
from cs_lip.recovery import Fidelity
from cs_lip.recovery.fidelity import DEFAULT_CONTAMINATION, FIDELITIES
from cs_lip.tickets.compaction import compact
from cs_lip.tickets.transfer import ticketed

DEFAULT_FIDELITY = next(iter(FIDELITIES))


@dataclass(frozen=True)
class Task:
    """Everything a recovery needs, checked; no generator where a classical solver gets measurements from a file."""

    generator: Generator | None
    encoder: Encoder | None
    operator: LinearOperator
    measurements: Measurements
    truth: Tensor | None
    fidelity: Fidelity
    config: dict[str, Any]


def asked_task(
    solver: str,
    count: int | None,
    operator: str | None,
    images: tuple[Path, ...],
    source: Path | None,
    generator: str | None,
    ticket: str | None,
    noise: float | None,
    outliers: float | None,
    outlier_kind: str | None,
    fidelity: str,
    contamination: float | None,
    seed: int,
    device: str,
) -> Task:
    """The task that the options ask for; see the help of the command.

    Raises:
        ValueError: options that do not go together, or name what is not there.
    """
    rho, bad = _fidelity(fidelity, contamination), asked_outliers(outliers, outlier_kind)
    where = find_device(device)
    if source is not None:
        own = {"--measurements": count, "--operator": operator, "--image": images or None, "--outliers": outliers}
        clash = [name for name, value in own.items() if value is not None]
        if clash:
            raise ValueError(f"{clash[0]} cannot go with --from, whose file says it already; try one of the two")
    elif count is None:
        raise ValueError("--measurements is missing; try --measurements 500, or --from FILE for stored measurements")
    network: Generator | None = None
    encoder, told = None, dict[str, Any]()
    # Pictures that are measured here are brought to a generator's shape, whatever recovers them.
    if source is None or solver not in CLASSICAL or generator is not None or ticket is not None:
        network, encoder, told = dense_generator(generator) if ticket is None else _sparse_generator(ticket, generator)
    prior = None if network is None else network.fold().to(where)
    config = told | {"seed": seed, "device": device}
    if source is not None:
        return _stored_task(source, solver, prior, encoder, where, noise, rho, config)
    assert prior is not None and count is not None
    level = noise or 0.0
    shown = prior if images or ticket is None else _drawing(prior, config)
    chosen, truth, values = measured(shown, operator or "gaussian", count, images, noise=level, outliers=bad, seed=seed)
    energy = float(chosen(truth).abs().square().sum())
    config |= {"images": [str(path) for path in images] or "bundled samples", "outliers": bad and asdict(bad)}
    config |= _operator_config(chosen, level) | {"snr_db": snr_db(energy, len(truth) * chosen.m, level)}
    return Task(prior, encoder, chosen, values, truth, rho, config)


def dense_generator(generator: str | None) -> tuple[Generator, Encoder | None, dict[str, Any]]:
    """The generator, its learned start, and what the configuration tells of it."""
    name = generator or DEFAULT_GENERATOR
    network, encoder = load_generator(name), load_start(name)
    told = {"generator": name, "generator_sha256": generator_digest(name)}
    return network, encoder, told if encoder is None else told | {"start_sha256": start_digest(name)}


def _sparse_generator(name: str, generator: str | None) -> tuple[Generator, Encoder | None, dict[str, Any]]:
    """As `dense_generator`, of a ticket; without a learned start, which belongs to the dense generator's weights."""
    ticket, told = asked_ticket(name)
    about = ticket.about
    if about.kind != "generator":
        raise ValueError(
            f"the ticket {name} is of the untrained network {about.prior}, expected a generator's; try cs-lip restore"
        )
    if generator not in (None, about.prior):
        raise ValueError(
            f"the ticket {name} is of the generator {about.prior}, got --generator {generator}; try without --generator"
        )
    network = ticketed(ticket)
    assert isinstance(network, Generator)
    small = compact(network) if about.granularity == "channel" else network
    return small, None, {"generator": about.prior, "generator_sha256": about.base_sha256} | told


def _drawing(prior: Generator, config: dict[str, Any]) -> Generator:
    """What draws the bundled samples of a ticket: the dense generator, as in a sweep, so that both recover the same
    images. The ticket itself where the weights that it was found in are not here."""
    with contextlib.suppress(ValueError):  # a ticket with values needs no dense generator, so it may be gone
        if find_entry(config["generator"]).sha256 == config["generator_sha256"]:
            return load_generator(config["generator"]).fold().to(prior.device)
    return prior


def _fidelity(name: str, contamination: float | None) -> Fidelity:
    """The fidelity asked for; what it warns of is told as one line."""
    if contamination is not None and name == DEFAULT_FIDELITY:
        raise ValueError(
            f"--contamination {contamination:g} says nothing to {name}, which trusts every measurement; try --fidelity "
            "trimmed"
        )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fidelity = FIDELITIES[name](DEFAULT_CONTAMINATION if contamination is None else contamination)
    for warning in told:
        click.echo(f"Warning: {warning.message}", err=True)
    return fidelity


def _stored_task(
    source: Path,
    solver: str,
    prior: Generator | None,
    encoder: Encoder | None,
    where: torch.device,
    noise: float | None,
    fidelity: Fidelity,
    config: dict[str, Any],
) -> Task:
    check_name(source)
    stored = load_measurements(source)
    operator = operator_from_recipe(stored.recipe)
    if stored.response is not None:
        check_response(operator, stored.response, str(source))
    operator = operator.to(where)
    _check_shape(source, operator, prior, solver)
    level = stored.noise if noise is None else noise
    if level != stored.noise:
        click.echo(f"The noise is taken to be {level:g}, as asked; {source} says {stored.noise:g}.", err=True)
    values = stored.values.to(where)
    measurements = replace(stored, values=values, noise=level)
    config |= {"from": str(source)} | _operator_config(operator, level)
    return Task(prior, encoder, operator, measurements, None, fidelity, config)


def _check_shape(source: Path, operator: LinearOperator, prior: Generator | None, solver: str) -> None:
    """Refuse images that the generator does not draw, or without one that are no pictures.

    Raises:
        ValueError: they are such.
    """
    shape = tuple(operator.in_shape)
    if prior is None and (len(shape) != 3 or shape[0] not in (1, 3) or operator.in_is_complex):
        kind = "complex images" if operator.in_is_complex else "images"
        raise ValueError(
            f"{source} measures {kind} of shape {list(shape)}, expected real ones of 1 or 3 channels; try Python, "
            f'recover(A, y, solver="{solver}")'
        )
    if prior is not None and shape != prior.image_shape:
        raise ValueError(
            f"{source} measures images of shape {list(shape)}, but the generator draws {list(prior.image_shape)}; try "
            "a --generator that draws them, or a --solver without one, such as tv"
        )


def _operator_config(operator: LinearOperator, noise: float) -> dict[str, Any]:
    recipe = operator.recipe()
    return {"measurements": operator.m, "operator": recipe["kind"], "operator_recipe": recipe, "noise": noise}
