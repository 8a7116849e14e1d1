"""A cell becomes rows: a pure function of the cell, whatever process runs it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from cs_lip.evaluation.acquisition import Outliers, acquire, snr_db
from cs_lip.evaluation.digests import generator_digest, start_digest
from cs_lip.evaluation.metrics import SSIM_WINDOW, mse, psnr, ssim
from cs_lip.evaluation.oracle import OraclePeak
from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.operators import sweep_operator
from cs_lip.evaluation.sweep.table import Result, Row
from cs_lip.evaluation.sweep.targets import pixels
from cs_lip.operators import LinearOperator
from cs_lip.priors import Encoder, Generator, UntrainedNetwork, load_generator, load_start, untrained_network
from cs_lip.recovery import SOLVERS, Recovery, recover
from cs_lip.recovery.baselines import Lasso, OrthogonalMatchingPursuit, TotalVariation
from cs_lip.recovery.fidelity import DEFAULT_CONTAMINATION, FIDELITIES
from cs_lip.seeding import derive_seed
from cs_lip.tickets.compaction import compact
from cs_lip.tickets.store import find_ticket
from cs_lip.tickets.ticket import read_ticket
from cs_lip.tickets.transfer import ticketed, ticketed_for

CLASSICAL = tuple(
    name for name, make in SOLVERS.items() if isinstance(make(), Lasso | OrthogonalMatchingPursuit | TotalVariation)
)
"""The solvers that need no prior."""

WITHOUT_STARTS = (*CLASSICAL, "linear-estimate", "untrained")
"""The solvers to which a number of starts says nothing."""


@dataclass(frozen=True)
class _Prior:
    network: Generator | UntrainedNetwork | None
    encoder: Encoder | None
    name: str
    ticket: str = ""
    density: float = 1.0
    granularity: str = ""
    criterion: str = ""


def run_cell(cell: Cell) -> Result:
    """Measure the cell's images, recover them as one batch, and judge each.

    All that is random comes from streams of the cell's seed, and every cell is computed by one thread, so on one
    machine a cell has the same numbers, bit for bit, in whichever process and beside however many others; ``seconds``
    alone differ. Another processor or another PyTorch rounds otherwise, and a search of many steps can carry such a
    difference far; the rows' ``versions`` say what they were made with.

    Raises:
        ValueError: something that the plan named is no longer there, or has changed.
    """
    with _one_thread():
        _check(cell.generator, generator_digest(cell.generator), cell.generator_sha256, "generator")
        dense = load_generator(cell.generator)
        truth = pixels(cell.images, dense, dense.image_shape)
        operator = sweep_operator(cell.operator, dense.image_shape, cell.m, seed=cell.seed)
        values = _measured(cell, operator, truth)
        prior = _prior(cell, dense)
        watcher = OraclePeak(truth) if isinstance(prior.network, UntrainedNetwork) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fidelity that this plan compares for its weakness
            recovery = recover(
                operator,
                values,
                prior.network,
                solver=cell.solver,
                fidelity=FIDELITIES[cell.fidelity](DEFAULT_CONTAMINATION),
                restarts=cell.restarts or None,
                noise=cell.sigma,
                encoder=prior.encoder,
                seed=cell.seed,
                observe=watcher,
            )
        peaks = [peak.psnr_db for peak in watcher.peaks] if watcher else [float("nan")] * len(truth)
        rows = tuple(_row(cell, prior, operator, recovery, truth, index, peaks[index]) for index in range(len(truth)))
    return Result(rows, to_bytes(recovery.images))


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Images in [0, 1] rounded to bytes."""
    found: NDArray[np.uint8] = (images.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return found


def _check(name: str, found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise ValueError(f"the {what} {name:.160} has changed since the plan was made; try the same command again")


def _measured(cell: Cell, operator: LinearOperator, truth: Tensor) -> Tensor:
    """Every image has noise and outliers of its own, whatever is measured beside it: intervals resample images."""
    outliers = Outliers(cell.outliers) if cell.outliers else None
    seeds = [derive_seed(cell.seed, f"measurements/{image.name}") for image in cell.images]
    return torch.cat(
        [
            acquire(operator, image[None], noise=cell.sigma, seed=seed, outliers=outliers)
            for image, seed in zip(truth, seeds, strict=True)
        ]
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """How sums are split among threads changes their last bits, and cells that run side by side share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _prior(cell: Cell, dense: Generator) -> _Prior:
    name = Path(cell.generator).stem
    if cell.solver in CLASSICAL:
        return _Prior(None, None, "", density=float("nan"))
    if cell.ticket:
        return _ticket_prior(cell, dense.image_shape)
    if cell.prior:
        return _Prior(untrained_network(cell.prior.replace("-", "_"), dense.image_shape, cell.seed), None, cell.prior)
    _check(f"of {cell.generator}", start_digest(cell.generator), cell.start_sha256, "learned start")
    return _Prior(dense.fold(), load_start(cell.generator), name)


def _ticket_prior(cell: Cell, image_shape: tuple[int, int, int]) -> _Prior:
    found = find_ticket(cell.ticket)
    _check(cell.ticket, found.sha256, cell.ticket_sha256, "ticket")
    ticket = read_ticket(found.path)
    about = ticket.about
    told = (ticket_label(cell.ticket), ticket.mask.density, about.granularity, about.criterion)
    if about.kind == "untrained":
        return _Prior(ticketed_for(ticket, image_shape), None, about.prior.replace("_", "-"), *told)
    network = ticketed(ticket)
    assert isinstance(network, Generator)
    return _Prior((compact(network) if about.granularity == "channel" else network).fold(), None, about.prior, *told)


def ticket_label(name_or_path: str) -> str:
    """What rows call a ticket: its name, or its file's without folder and suffix."""
    path = Path(name_or_path)
    return path.stem if path.is_absolute() else name_or_path


def _row(
    cell: Cell,
    prior: _Prior,
    operator: LinearOperator,
    recovery: Recovery,
    truth: Tensor,
    index: int,
    peak: float,
) -> Row:
    image, whole = recovery.images[index].detach().cpu(), truth[index]
    with torch.no_grad():
        energy = float(operator(whole[None]).abs().square().sum())
    snr = snr_db(energy, operator.m, cell.sigma)
    return Row(
        image=cell.images[index].name,
        kind=cell.images[index].kind,
        operator=cell.operator,
        m=operator.m,
        n=operator.n,
        sigma=cell.sigma,
        snr_db=float("nan") if snr is None else snr,
        outliers=cell.outliers,
        prior=prior.name,
        ticket=prior.ticket,
        density=prior.density,
        granularity=prior.granularity,
        criterion=prior.criterion,
        solver=cell.solver,
        fidelity=cell.fidelity,
        seed=cell.seed,
        status=recovery.status[index].value,
        mse=mse(image, whole),
        psnr=psnr(image, whole),
        ssim=ssim(image, whole) if min(whole.shape[1:]) >= SSIM_WINDOW else float("nan"),
        oracle_psnr=peak,
        relative_residual=recovery.relative_residual[index],
        iterations=sum(
            record.relative_residual[index] == record.relative_residual[index] for record in recovery.history
        ),
        seconds=recovery.timings["total"] / len(truth),
        cell=cell.key,
        versions="",
    )
