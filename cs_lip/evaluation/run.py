"""A finished recovery with all it needs to be looked at, judged and made again."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from cs_lip.evaluation.acquisition import Outliers
from cs_lip.evaluation.metrics import SSIM_WINDOW, mse, psnr, ssim
from cs_lip.evaluation.oracle import Peak
from cs_lip.recovery import Recovery


@dataclass(frozen=True)
class Measurements:
    """Measurements of a batch of images as a sensor would hand them over: no truth.

    Attributes:
        values: ``(images, *out_shape)``, real or complex.
        recipe: of the operator that took them; see `cs_lip.operators.operator_from_recipe`.
        noise: standard deviation on every real number of ``values``, in its units.
        names: one an image.
        sources: one an image: ``in-range`` (drawn by the generator), ``file``, or a bundled picture's kind; of a
            restoration the task, such as ``denoise``.
        response: of that operator to a probe, see `cs_lip.operators.probe_response`; None in files without it.
        outliers: the measurements that were made bad on purpose; None for none, or where nobody knows.
    """

    values: Tensor
    recipe: dict[str, Any]
    noise: float
    names: tuple[str, ...]
    sources: tuple[str, ...]
    response: dict[str, Any] | None = None
    outliers: Outliers | None = None


@dataclass(frozen=True)
class Run:
    """A `Recovery` beside what it was made from.

    Attributes:
        measurements: what was recovered from.
        truth: ``(images, channels, height, width)`` in [0, 1], or None where nobody knows it.
        least_squares: what the measurements alone give back, shaped like the images.
        recovery: the result.
        config: what the user asked for, JSON-able.
        versions: of everything that the numbers depend on.
        sd: the standard deviation of every pixel, shaped like the images, NaN for images without one; None where nobody
            asked. See `cs_lip.recovery.uncertainty`.
        oracle_peak: of a restoration the best of its iterations by the truth; None where nobody knows it.
    """

    measurements: Measurements
    truth: Tensor | None
    least_squares: Tensor
    recovery: Recovery
    config: dict[str, Any]
    versions: dict[str, str]
    sd: Tensor | None = None
    oracle_peak: Peak | None = None


def summary(run: Run) -> dict[str, Any]:
    """The run as ``summary.json`` holds it: ``config``, ``versions`` and a row for each of the ``images``.

    A row is ``{name, source, psnr_db, ssim, mse, relative_residual, status, solver, seconds, note}``; what needs a
    truth is None without one, and SSIM in images that are smaller than its window. Images are recovered as a batch, so
    ``seconds`` is each one's equal share of the wall time. Where the uncertainty was asked for there is ``mean_sd`` as
    well, the mean of the pixels' standard deviations, None for an image without them. A restoration of a known truth
    has ``oracle_peak`` beside the rows, ``{psnr_db, iteration}``.
    """
    rows = []
    share = run.recovery.timings["total"] / len(run.measurements.names)
    for index, (name, source) in enumerate(zip(run.measurements.names, run.measurements.sources, strict=True)):
        rows.append(
            {
                "name": name,
                "source": source,
                **_quality(run, index),
                "relative_residual": _finite(run.recovery.relative_residual[index]),
                "status": run.recovery.status[index].value,
                "solver": run.recovery.notes[index].get("chosen", run.config.get("solver")),
                "seconds": share,
                "note": strict(run.recovery.notes[index]),
                **({} if run.sd is None else {"mean_sd": _finite(float(run.sd[index].mean()))}),
            }
        )
    peak = {} if run.oracle_peak is None else {"oracle_peak": strict(asdict(run.oracle_peak))}
    return {"config": run.config, "versions": run.versions, "images": rows} | peak


def strict(value: Any) -> Any:
    """The same as strict JSON has it: None for NaN and infinity, at any depth."""
    if isinstance(value, dict):
        return {name: strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _quality(run: Run, index: int) -> dict[str, float | None]:
    if run.truth is None:
        return {"psnr_db": None, "ssim": None, "mse": None}
    image, truth = run.recovery.images[index].cpu(), run.truth[index].cpu()
    return {
        "psnr_db": _finite(psnr(image, truth)),
        "ssim": _finite(ssim(image, truth)) if min(image.shape[1:]) >= SSIM_WINDOW else None,
        "mse": _finite(mse(image, truth)),
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if math.isfinite(value) else None
