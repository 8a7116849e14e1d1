"""Starts of a latent search from the measurements themselves, by an encoder."""

import torch
from torch import Tensor

from cs_lip.priors import Encoder
from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.seeding import stream


def learned_starts(problem: LatentProblem, encoder: Encoder, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` latents for every image by `Encoder.from_measurements`, as rows, and the image of each row.

    The first of an image is the encoder's best guess, the others are guesses from measurements with as much noise
    again. Measurements that a robust fidelity gives little weight, judged from the mean image, count as little here.

    Args:
        seed: image i's starts come from its stream ``learned-latents/i``, however many images there are.

    Raises:
        ValueError: the encoder belongs to another generator.
    """
    encoder.check(problem.generator)
    posed, kept = problem.problem, encoder.to(problem.generator.device)
    latents = []
    with torch.no_grad():
        responses = posed.measure(kept.basis_images.to(posed.measurements.dtype))
        residuals = posed.measurements - posed.measure(kept.mean_image.to(posed.measurements.dtype))
        for image, residual in enumerate(residuals):
            weights = posed.fidelity.weights(residual[None]).sqrt()
            told = (responses * weights, residual[None] * weights, posed.gain, posed.noise)
            latents.append(kept.from_measurements(*told))
            if count > 1:
                rows = told[1].expand(count - 1, -1)
                rng = stream(seed, f"learned-latents/{image}")
                latents.append(kept.from_measurements(told[0], rows, *told[2:], perturbed=rng))
    which = torch.arange(posed.images, device=posed.measurements.device).repeat_interleave(count)
    return torch.cat(latents).to(problem.generator.dtype), which
