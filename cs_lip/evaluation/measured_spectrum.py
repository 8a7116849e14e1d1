"""How many latent directions measurements see: the singular values of A J."""

from typing import Any

import torch
from torch import Tensor

from cs_lip.evaluation.digests import generator_digest
from cs_lip.evaluation.run import Run
from cs_lip.operators import LinearOperator, operator_from_recipe
from cs_lip.priors import Generator, load_generator
from cs_lip.tickets.store import find_ticket
from cs_lip.tickets.ticket import read_ticket
from cs_lip.tickets.transfer import ticketed


def measured_spectra(operator: LinearOperator, generator: Generator, latents: Tensor) -> Tensor:
    """The singular values of A J at each latent, J = dG/dz, ``(latents, min(m, k))``, descending.

    They say by how much the measurements change when the latent moves by 1 along each of k orthogonal directions. A
    complex measurement counts as its real and its imaginary part.

    Args:
        operator: ``A``, on images of the generator's shape.
        generator: folded.
        latents: ``(latents, *latent_shape)``.

    Raises:
        ValueError: the derivatives are not finite.
    """
    return torch.stack([_spectrum(operator, generator, latent) for latent in latents])


def directions_seen(spectra: Tensor, m: int, noise: float) -> list[int]:
    """How many directions the measurements see at each latent.

    With noise these are the singular values above its standard deviation sigma: for z ~ N(0, I) and a generator that is
    linear around the latent, the posterior variance along a direction is 1 / (1 + s^2 / sigma^2), so they are the
    directions of which the measurements say more than the prior does (MacKay, Bayesian Interpolation, Neural
    Computation 4(3), 1992, section 4.2). Without noise it is the numerical rank: what exceeds rounding.

    Args:
        spectra: of `measured_spectra`.
        m: real measurements.
        noise: standard deviation on every real measurement.
    """
    rounding = max(m, spectra.shape[1]) * torch.finfo(spectra.dtype).eps * spectra.amax(1, keepdim=True)
    return (spectra > rounding.clamp(min=noise)).sum(1).tolist()


def _spectrum(operator: LinearOperator, generator: Generator, latent: Tensor) -> Tensor:
    basis = torch.eye(latent.numel(), dtype=latent.dtype, device=latent.device).reshape(-1, *latent.shape)
    with torch.no_grad():
        parts = torch.split(basis, generator.rows_at_once)
        measured = torch.cat([operator(generator.push(latent, part)) for part in parts])
    rows = torch.view_as_real(measured).flatten(1) if measured.is_complex() else measured.flatten(1)
    if not rows.isfinite().all():
        raise ValueError("the generator's derivatives are not finite; try weights that are not damaged")
    values: Tensor = torch.linalg.svdvals(rows)
    return values


def run_spectra(run: Run) -> Tensor | None:
    """The spectra of a stored run at its latents.

    Returns:
        As `measured_spectra`; None for a run without latents, or whose generator, ticket or operator is not here or has
        changed since.
    """
    if run.recovery.latents is None:
        return None
    try:
        operator, generator = operator_from_recipe(run.measurements.recipe), _generator(run.config)
        if operator.in_shape != generator.image_shape or run.recovery.latents.shape[1:] != generator.latent_shape:
            return None
        return measured_spectra(operator, generator, run.recovery.latents)
    except ValueError:
        return None


def _generator(config: dict[str, Any]) -> Generator:
    if "ticket" not in config:
        generator = load_generator(config["generator"])
        _check_same("generator", config, generator_digest(config["generator"]))
        return generator.fold()
    found = find_ticket(config["ticket"])
    _check_same("ticket", config, found.sha256)
    network = ticketed(read_ticket(found.path))
    if not isinstance(network, Generator):
        raise ValueError("the ticket is of an untrained network, which has no latents; try a generator's")
    return network.fold()


def _check_same(what: str, config: dict[str, Any], found: str) -> None:
    """Refuse other bytes than the run's; runs of before these were recorded are taken on trust."""
    if config.get(f"{what}_sha256", found) != found:
        raise ValueError(f"the {what} {config[what]} has changed since the run; try to recover again")
