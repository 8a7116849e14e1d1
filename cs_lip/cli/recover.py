"""``cs-lip recover``: from measurements to images, with pictures and numbers to judge them by."""

import contextlib
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from cs_lip.cli.inputs import (
    IMAGE_HELP,
    OPERATOR_HELP,
    asked_ticket,
    bad_input,
    check_name,
    claim_folder,
    device_option,
    find_device,
    seed_option,
    ticket_line,
    ticket_option,
)
from cs_lip.cli.interrupt import end, interruptible
from cs_lip.cli.measuring import asked_outliers, measured, outlier_options
from cs_lip.cli.progress import ProgressBar
from cs_lip.cli.solvers import asked_solver, solver_options
from cs_lip.evaluation.acquisition import OPERATORS, snr_db
from cs_lip.evaluation.digests import generator_digest, start_digest
from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.run import Measurements, Run, summary
from cs_lip.evaluation.store import (
    FIGURE_FILE,
    PAGE_FILE,
    RUN_FILE,
    SUMMARY_FILE,
    load_measurements,
    save_run,
    save_summary,
    summary_json,
)
from cs_lip.evaluation.sweep.run_cell import CLASSICAL, WITHOUT_STARTS
from cs_lip.operators import LinearOperator, check_response, operator_from_recipe
from cs_lip.priors import DEFAULT_GENERATOR, Encoder, Generator, find_entry, load_generator, load_start
from cs_lip.recovery import Fidelity, Recovery, Solver, pose, pose_latents
from cs_lip.recovery import recover as recover_images
from cs_lip.recovery.fidelity import DEFAULT_CONTAMINATION, FIDELITIES
from cs_lip.recovery.uncertainty import uncertainty as estimate_uncertainty
from cs_lip.report.figures import save_recovery_figure
from cs_lip.report.text import run_table
from cs_lip.seeding import stream
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


@click.command()
@click.option("--measurements", "-m", "count", type=int, help="Real measurements of each image.")
@click.option("--operator", type=click.Choice(list(OPERATORS)), help=OPERATOR_HELP)
@click.option("--image", "images", type=click.Path(path_type=Path), multiple=True, help=IMAGE_HELP)
@click.option("--from", "source", type=click.Path(path_type=Path), help="Measurements that `cs-lip measure` wrote.")
@click.option("--generator", help=f"A name (cs-lip generators), or a weight file.  [default: {DEFAULT_GENERATOR}]")
@ticket_option()
@click.option(
    "--noise",
    type=float,
    help="Standard deviation on every real measurement: is added to pictures that are measured here; with --from it is "
    "what the recovery expects.  [default: 0, or what the file says]",
)
@outlier_options()
@solver_options()
@click.option("--restarts", type=int, help="Random starts for each image.  [default: the solver's own]")
@click.option(
    "--fidelity",
    type=click.Choice(list(FIDELITIES)),
    default=DEFAULT_FIDELITY,
    show_default=True,
    help="What residuals cost; all but least-squares stand outliers.",
)
@click.option(
    "--contamination",
    type=float,
    help=f"Largest share of bad measurements that a robust fidelity expects.  [default: {DEFAULT_CONTAMINATION:g}]",
)
@seed_option()
@device_option()
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results.  [default: recovery, or the next free]"
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in --out.")
@click.option("--uncertainty", is_flag=True, help="Standard deviations of the pixels too; needs --noise.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
def recover(
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    solver: str,
    held_out: float | None,
    radius: float | None,
    restarts: int | None,
    uncertainty: bool,
    **asked: Any,
) -> None:
    """Recover images from few measurements with a pretrained generator, or with a classical solver.

    The default solver searches the generator's latents, and for images that no latent draws it goes on to tune the
    generator, or to a classical solver, whichever predicts held-out measurements best; the table says which.

    Without --image or --from, bundled samples are measured: unseen draws of the generator, which it can draw exactly,
    and real photographs, which it cannot. With --ticket they are the same, so the draws are the dense generator's; a
    ticket has no learned start, so its searches begin with random ones alone.

    \b
    Examples:
      cs-lip recover --measurements 500
      cs-lip recover --measurements 500 --operator fourier --noise 0.01 --out fourier-run
      cs-lip recover --measurements 1000 --outliers 0.02 --fidelity trimmed
      cs-lip recover --measurements 500 --noise 0.05 --uncertainty
      cs-lip recover --measurements 500 --ticket digiface-dcgan-channels-03
    """
    with bad_input():
        folder = claim_folder(out, overwrite, "recovery")
        task = _task(solver=solver, **asked)
        problem = pose(task.operator, task.measurements.values, noise=task.measurements.noise)
        if task.generator is not None:
            pose_latents(problem, task.generator)
        if restarts is not None and restarts < 1:
            raise ValueError(f"--restarts must be at least 1, got {restarts}; try 10")
        if restarts is not None and solver in WITHOUT_STARTS:
            raise ValueError(f"--restarts {restarts} says nothing to {solver}, which starts nowhere; try without it")
        if uncertainty and solver in WITHOUT_STARTS:
            raise ValueError(f"--uncertainty is that of latents, which {solver} does not look for; try without it")
        if uncertainty and problem.noise == 0:
            raise ValueError("--uncertainty needs the noise on the measurements, got none; try --noise 0.01")
        chosen = asked_solver(solver, held_out, radius)
        if held_out is not None:
            problem.split(held_out, stream(asked["seed"], "held-out"))
    with bad_input():
        run = _run(task, chosen, solver, restarts, asked["seed"])
        for name in (PAGE_FILE, FIGURE_FILE, SUMMARY_FILE):  # of an earlier run, should anything fail now
            (folder / name).unlink(missing_ok=True)
        save_run(folder / RUN_FILE, run)  # before anything else that may be stopped, or run out of memory
        if uncertainty:
            run = replace(run, sd=_deviations(task, run.recovery), config=run.config | {"uncertainty": True})
            save_run(folder / RUN_FILE, run)
        save_recovery_figure(folder / FIGURE_FILE, run)
        save_summary(folder / SUMMARY_FILE, run)
    if as_json:
        click.echo(summary_json(run))
    else:
        _print(run, folder)
    end(run.recovery)


def _print(run: Run, folder: Path) -> None:
    if "ticket" in run.config:
        click.echo(ticket_line(run.config))
    click.echo(run_table(summary(run)))
    for status in dict.fromkeys(run.recovery.status):
        click.echo(f"{status.value}: {status.message}")
    bare = 0 if run.sd is None else int(run.sd.flatten(1).isnan().any(1).sum())
    if bare:
        click.echo(f"No uncertainty of {bare} of {len(run.recovery.images)} images: no latent draws what was measured.")
    click.echo(
        f"The picture is {folder / FIGURE_FILE}, the numbers are in {folder / RUN_FILE} and {folder / SUMMARY_FILE}."
    )


def _task(
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
        network, encoder, told = _dense_prior(generator) if ticket is None else _sparse_prior(ticket, generator)
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


def _dense_prior(generator: str | None) -> tuple[Generator, Encoder | None, dict[str, Any]]:
    """The generator, its learned start, and what the configuration tells of it."""
    name = generator or DEFAULT_GENERATOR
    network, encoder = load_generator(name), load_start(name)
    told = {"generator": name, "generator_sha256": generator_digest(name)}
    return network, encoder, told if encoder is None else told | {"start_sha256": start_digest(name)}


def _sparse_prior(name: str, generator: str | None) -> tuple[Generator, Encoder | None, dict[str, Any]]:
    """As `_dense_prior`, of a ticket; without a learned start, which belongs to the dense generator's weights."""
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


def _run(task: Task, solver: Solver, name: str, restarts: int | None, seed: int) -> Run:
    measured = task.measurements
    baseline = task.operator.pinv(measured.values)
    with ProgressBar() as bar, interruptible() as cancel:
        recovery = recover_images(
            task.operator,
            measured.values,
            task.generator,
            solver=solver,
            fidelity=task.fidelity,
            restarts=restarts,
            noise=measured.noise,
            encoder=task.encoder,
            seed=seed,
            progress=bar.update,
            cancel=cancel,
        )
    config = task.config | recovery.configuration | {"solver": name}
    return Run(measured, task.truth, baseline, recovery, config, versions())


def _deviations(task: Task, recovery: Recovery) -> Tensor:
    """The standard deviation of every pixel, NaN for images without one."""
    if recovery.latents is None or task.generator is None:
        return torch.full_like(recovery.images, torch.nan)
    given = (task.operator, task.measurements.values, task.generator, recovery)
    return estimate_uncertainty(*given, noise=task.measurements.noise, fidelity=task.fidelity).sd
