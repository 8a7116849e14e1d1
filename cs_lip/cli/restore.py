"""``cs-lip restore``: a damaged picture made whole by a network that was never trained."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import torch

from cs_lip.cli.damage import TASKS, Asked, Damaged, check_asked, damage, damage_options, free_bytes, restored_shape
from cs_lip.cli.inputs import (
    RUN_FILES,
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
from cs_lip.cli.progress import ProgressBar
from cs_lip.cli.untrained_priors import PRIOR_NAMES, Prior, dense_prior
from cs_lip.evaluation.acquisition import snr_db
from cs_lip.evaluation.oracle import OraclePeak
from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.run import Measurements, Run, summary
from cs_lip.evaluation.store import FIGURE_FILE, PAGE_FILE, RUN_FILE, SUMMARY_FILE, save_run, save_summary, summary_json
from cs_lip.evaluation.sweep.operators import Shape
from cs_lip.operators import probe_response
from cs_lip.priors import UntrainedNetwork
from cs_lip.priors.untrained.memory import fit_bytes
from cs_lip.recovery import pose
from cs_lip.recovery import recover as recover_images
from cs_lip.recovery.untrained_fit import Stop, UntrainedFit
from cs_lip.report.restoration import save_picture, save_restoration_figure
from cs_lip.report.text import run_table

RESTORED_FILE = "restored.png"

GIB = 2**30


@click.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(TASKS), required=True, help="What is wrong with the picture.")
@click.option("--prior", help=f"The network: {PRIOR_NAMES}.  [default: skip]")
@ticket_option()
@damage_options()
@click.option("--iterations", type=int, default=UntrainedFit.iterations, show_default=True, help="At most.")
@click.option(
    "--stop",
    type=click.Choice(get_args(Stop)),
    default="auto",
    show_default=True,
    help="What ends the fit; auto is held-out.",
)
@seed_option()
@device_option()
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: restored, or the next free]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
def restore(
    picture: Path,
    prior: str | None,
    ticket: str | None,
    iterations: int,
    stop: Stop,
    device: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Restore PICTURE, a file or a bundled name such as camera, by fitting the weights of an untrained network.

    PICTURE is noisy (denoise), has holes (inpaint, with --mask) or is small (super-resolve) as it is. With --simulate
    it is whole and gets that damage first, so that the result can be compared with the truth; sense measures a whole
    picture always. Ctrl-C keeps the best so far.

    \b
    Examples:
      cs-lip restore noisy.png --task denoise
      cs-lip restore scratched.jpg --task inpaint --mask scratches.png
      cs-lip restore camera --task denoise --simulate --prior deep-decoder
      cs-lip restore astronaut --task sense --measurements 5000 --size 64
      cs-lip restore noisy.png --task denoise --ticket skip-02
    """
    asked = Asked(**said)
    with bad_input():
        check_asked(asked)
        check_name(picture)
        folder = claim_folder(out, overwrite, "restored", RUN_FILES | {RESTORED_FILE})
        solver = UntrainedFit(iterations=iterations, stop=stop)
        where = find_device(device)
        asked_prior = dense_prior(prior, asked) if ticket is None else _sparse_prior(ticket, prior)
        shape = restored_shape(picture, asked)
        _check_memory(asked_prior, shape, asked, where)
        damaged = damage(picture, shape, asked)
        pose(damaged.operator, damaged.measurements, noise=damaged.noise)
        network = asked_prior.network(shape, asked.seed).to(where)
    config = {"picture": str(picture), "device": device} | asked_prior.told | _told(asked)
    with bad_input():
        run = _run(damaged, network, solver, asked.seed, picture.name, config)
        _write(folder, run, f"{picture.name}: {asked.task} by {asked_prior.name}")
    if as_json:
        click.echo(summary_json(run))
    else:
        _print(run, folder)
    end(run.recovery)


def _sparse_prior(name: str, asked: str | None) -> Prior:
    """The network of a ticket, unless another one was asked for."""
    ticket, told = asked_ticket(name)
    about = ticket.about
    if about.kind != "untrained":
        raise ValueError(
            f"the ticket {name} is of the generator {about.prior}, expected an untrained network's; try cs-lip recover"
        )
    prior = Prior(about.architecture, {key: value for key, value in about.settings.items() if key != "image_shape"})
    if asked not in (None, prior.name):
        raise ValueError(f"the ticket {name} is of {prior.name}, got --prior {asked:.40}; try without --prior")
    return replace(prior, ticket=ticket, ticket_told=told)


def _check_memory(prior: Prior, shape: Shape, asked: Asked, where: torch.device) -> None:
    needed, free = fit_bytes(prior.architecture, shape, **prior.settings), free_bytes(where)
    if asked.task == "sense" and asked.operator != "fourier":
        n = math.prod(shape)
        needed += 4 * min(asked.measurements or 0, n) * n  # more than n are refused by the operator
    if free is None or needed <= free:
        return
    longest = int(0.95 * max(shape[1:]) * (free / needed) ** 0.5) // asked.enlarged
    took = f"restoring {shape[1]}x{shape[2]} pixels takes about {needed / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB"
    if longest < 1:
        raise ValueError(f"{took} are free, not enough for one pixel enlarged; try a smaller --factor")
    raise ValueError(
        f"{took} are free, which is enough for a picture of about {longest} pixels a side; try --size {longest}"
    )


def _told(asked: Asked) -> dict[str, Any]:
    told = vars(asked) | {"mask": None if asked.mask is None else str(asked.mask)}
    return {name: value for name, value in told.items() if name not in ("noise", "operator", "measurements")}


def _run(
    damaged: Damaged, network: UntrainedNetwork, solver: UntrainedFit, seed: int, name: str, config: dict[str, Any]
) -> Run:
    operator, truth = damaged.operator.to(network.device), damaged.truth
    values = damaged.measurements.to(network.device)
    watcher = None if truth is None else OraclePeak(truth.to(network.device))
    baseline = operator.pinv(values)
    with ProgressBar() as bar, interruptible() as cancel:
        recovery = recover_images(
            operator,
            values,
            network,
            solver=solver,
            noise=damaged.noise,
            seed=seed,
            progress=bar.update,
            cancel=cancel,
            observe=watcher,
        )
    recipe = operator.recipe()
    energy = 0.0 if truth is None else float(operator(truth.to(network.device)).abs().square().sum())
    config = config | {
        "generator": f"none (untrained {config['prior']})",
        "measurements": operator.m,
        "operator": recipe["kind"],
        "operator_recipe": recipe,
        "noise": damaged.noise,
        "snr_db": snr_db(energy, operator.m, damaged.noise),
    }
    measured = Measurements(values, recipe, damaged.noise, (name,), (config["task"],), probe_response(operator))
    # The solver's name is the one under which it is registered, and its settings stand beside it.
    told = config | recovery.configuration | {"solver": "untrained"}
    peak = watcher.peaks[0] if watcher is not None and watcher.peaks[0].iteration > 0 else None
    return Run(measured, truth, baseline, recovery, told, versions(), oracle_peak=peak)


def _write(folder: Path, run: Run, title: str) -> None:
    for name in (PAGE_FILE, FIGURE_FILE, RESTORED_FILE, SUMMARY_FILE):  # of an earlier run, should anything fail now
        (folder / name).unlink(missing_ok=True)
    save_run(folder / RUN_FILE, run)
    save_picture(folder / RESTORED_FILE, run.recovery.images[0])
    save_restoration_figure(folder / FIGURE_FILE, run, title)
    save_summary(folder / SUMMARY_FILE, run)


def _print(run: Run, folder: Path) -> None:
    status, stop, peak = run.recovery.status[0], run.recovery.notes[0], run.oracle_peak
    if "ticket" in run.config:
        click.echo(ticket_line(run.config))
    click.echo(run_table(summary(run)))
    click.echo(f"{status.value}: {status.message}")
    best = "" if peak is None else f" (the best by the truth: {peak.psnr_db:.2f} dB, iteration {peak.iteration})"
    click.echo(f"Iteration {stop['iteration']} of {stop['iterations']} was chosen by {stop['stop']}{best}.")
    click.echo(f"The picture is {folder / RESTORED_FILE}; {folder / FIGURE_FILE} shows it beside the one before.")
