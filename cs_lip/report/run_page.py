"""The page of a run."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from cs_lip.evaluation.measured_spectrum import directions_seen, run_spectra
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.run import Run, summary
from cs_lip.recovery import Status
from cs_lip.report.commands import run_command
from cs_lip.report.convergence import convergence_figure
from cs_lip.report.exhibits import channels_last
from cs_lip.report.figures import recovery_figure
from cs_lip.report.page import (
    Entry,
    Gallery,
    Page,
    Panel,
    Picture,
    Table,
    number_entry,
    panel,
    picture_uri,
    text_entry,
)
from cs_lip.report.spectrum import spectrum_figure
from cs_lip.report.text import COLUMNS, decibels

MOST_IMAGES = 24


def run_page(run: Run) -> Page:
    """What there is to say and to see of a run of `cs-lip recover` or `cs-lip restore`."""
    rows = summary(run)["images"]
    config = run.config
    return Page(
        title=f"{len(rows)} {'image' if len(rows) == 1 else 'images'} from {config['measurements']} measurements",
        summary=tuple(_summary(run, rows)),
        command=run_command(config),
        panels=tuple(_panels(run)),
        gallery=_gallery(run),
        tables=(_table(rows),),
        configuration=json.dumps(config, indent=2),
        versions=run.versions,
    )


def _summary(run: Run, rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    config = run.config
    pixels = math.prod(run.recovery.images.shape[1:])
    count = config["measurements"]
    yield "Measurements", f"{count} of {pixels} numbers an image ({count / pixels:.1%}), operator {config['operator']}"
    ratio = "" if config.get("snr_db") is None else f", signal to noise {config['snr_db']:.1f} dB"
    yield "Noise", f"standard deviation {config['noise']:g}{ratio}"
    if config.get("outliers"):
        yield "Outliers", f"{config['outliers']['fraction']:.1%} of the measurements, {config['outliers']['kind']}"
    if named := config.get("prior") or config.get("generator"):
        yield "Prior", str(named)
    if "ticket" in config:
        yield "Ticket", f"{config['ticket']}, density {config['ticket_density']:.4g} in the layers that it prunes"
    yield "Solver", str(config["solver"])
    if levels := [row["psnr_db"] for row in rows if row["psnr_db"] is not None]:
        yield "PSNR", f"{min(levels):.1f} to {max(levels):.1f} dB, median {median(levels):.1f} dB"
    for status, times in Counter(row["status"] for row in rows).items():
        yield f"{times} {status}", Status(status).message
    yield "Seconds", f"{run.recovery.timings['total']:.1f} for all images"


def _panels(run: Run) -> Iterator[Panel]:
    yield panel(
        "recovery",
        "Truth, least squares and recovery",
        "Least squares is the image of least norm that explains the measurements. The error is the mean absolute "
        "difference over the channels, on one scale for all images.",
        recovery_figure(run),
    )
    if run.recovery.history:
        yield panel(
            "convergence",
            "Convergence",
            "The part of the measurements that is unexplained, over the iterations that worked on each image. A line "
            "is broken where another phase of the solver begins, which may look at other measurements or begin anew.",
            convergence_figure(run),
        )
    spectra = run_spectra(run)
    if spectra is not None:
        count, noise = run.config["measurements"], run.measurements.noise
        seen = directions_seen(spectra, count, noise)
        limit = "above the noise" if noise else "above rounding"
        yield panel(
            "spectrum",
            "How many latent directions the measurements see",
            "The singular values of A J at the recovered latents, J the derivative of the generator: by how much the "
            f"measurements change when the latent moves by 1. A direction counts as seen where its value is {limit}.",
            spectrum_figure(spectra, run.measurements.names, seen, noise),
        )


def _gallery(run: Run) -> Gallery:
    pictures = []
    names = run.measurements.names[:MOST_IMAGES]
    for image in range(len(names)):
        shown = {"least squares": run.least_squares[image], "recovery": run.recovery.images[image]}
        if run.truth is not None:
            shown = {"truth": run.truth[image], **shown}
        for title, values in shown.items():
            clipped = values.detach().cpu().clamp(0, 1)
            level = "" if run.truth is None or title == "truth" else decibels(psnr(clipped, run.truth[image].cpu()))
            source = picture_uri(channels_last((255 * clipped).round().byte().numpy()))
            pictures.append(Picture(image, None, title, level, source))
    total = len(run.measurements.names)
    note = "" if total == len(names) else f"The first {len(names)} of {total} images."
    return Gallery(note, names, (), tuple(pictures))


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = [column for column in COLUMNS if column[1] in rows[0]]
    entries = tuple(tuple(_entry(row[key], form) for _, key, form in columns) for row in rows)
    return Table("Images", "", tuple(title for title, _, _ in columns), entries)


def _entry(value: object, form: str) -> Entry:
    if form != "{}":
        return number_entry(value if isinstance(value, int | float) else None, form)
    return text_entry("-" if value is None else str(value))
