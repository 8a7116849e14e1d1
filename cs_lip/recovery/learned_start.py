"""Starts of a latent search from the measurements themselves, by an encoder."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cs_lip.priors import Encoder
from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.problem import Problem
from cs_lip.seeding import stream


def learned_starts(problem: LatentProblem, encoder: Encoder, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` latents for every image by `Encoder.from_measurements`, as rows, and the image of each row.

    The first of an image is the encoder's best guess, the others are guesses from measurements with as much noise
    again.

    Args:
        seed: image i's starts come from its stream ``learned-latents/i``, however many images there are.

    Raises:
        ValueError: the encoder belongs to another generator.
    """
    encoder.check(problem.generator)
    latents = []
    with torch.no_grad():
        for image, (responses, residual, gain, noise) in enumerate(told_by(problem.problem, encoder)):
            latents.append(encoder.from_measurements(responses, residual, gain, noise))
            if count > 1:
                rows, rng = residual.expand(count - 1, -1), stream(seed, f"learned-latents/{image}")
                latents.append(encoder.from_measurements(responses, rows, gain, noise, perturbed=rng))
    which = torch.arange(problem.images, device=problem.problem.measurements.device).repeat_interleave(count)
    return torch.cat(latents).to(which.device, problem.generator.dtype), which


def told_by(problem: Problem, encoder: Encoder) -> Iterator[tuple[Tensor, Tensor, float, float]]:
    """For every image the first four arguments of `Encoder.from_measurements`.

    Measurements that a robust fidelity gives little weight, judged from the mean image, count as little here.
    """
    responses = problem.measure(encoder.basis_images.to(problem.measurements))
    for measured in problem.measurements:
        residual = measured[None] - problem.measure(encoder.mean_image.to(problem.measurements))
        weights = problem.fidelity.weights(residual).sqrt()
        yield (responses * weights).to(encoder.mean), (residual * weights).to(encoder.mean), problem.gain, problem.noise
