"""``cs-lip recover``: from measurements to images, with pictures and numbers to judge them by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from cs_lip.cli.inputs import (
    IMAGE_HELP,
    OPERATOR_HELP,
    bad_input,
    claim_folder,
    device_option,
    seed_option,
    ticket_line,
    ticket_option,
)
from cs_lip.cli.interrupt import end, interruptible
from cs_lip.cli.measuring import outlier_options
from cs_lip.cli.progress import ProgressBar
from cs_lip.cli.recovering import DEFAULT_FIDELITY, Task, asked_task
from cs_lip.cli.solvers import asked_solver, solver_options
from cs_lip.evaluation.acquisition import OPERATORS
from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.run import Run, summary
from cs_lip.evaluation.store import (
    FIGURE_FILE,
    PAGE_FILE,
    RUN_FILE,
    SUMMARY_FILE,
    save_run,
    save_summary,
    summary_json,
)
from cs_lip.evaluation.sweep.run_cell import WITHOUT_STARTS
from cs_lip.priors import DEFAULT_GENERATOR
from cs_lip.recovery import Recovery, Solver, pose, pose_latents
from cs_lip.recovery import recover as recover_images
from cs_lip.recovery.fidelity import DEFAULT_CONTAMINATION, FIDELITIES
from cs_lip.recovery.uncertainty import uncertainty as estimate_uncertainty
from cs_lip.report.figures import save_recovery_figure
from cs_lip.report.text import run_table
from cs_lip.seeding import stream


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
        task = asked_task(solver=solver, **asked)
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
