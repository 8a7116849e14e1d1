"""The best linear estimate: what the measurements say when a generator's images are taken for normally distributed."""

from dataclasses import dataclass

import torch

from cs_lip.recovery.learned_start import told_by
from cs_lip.recovery.solution import Status
from cs_lip.recovery.solver import Found, Task, judged


@dataclass(frozen=True)
class LinearEstimate:
    """``x = mean + V c`` with the principal components ``V`` of the generator's images, which its encoder knows.

    ``c = P B^T (y - A mean) / r`` for ``B = A V``, see `cs_lip.priors.Encoder.linear_estimate`: of all linear estimates
    that of least mean squared error over the generator's draws. It needs no search and has no minima to be trapped in,
    and with fewer measurements than latents, where many latents explain them, it is closer to the truth than any one of
    these.

    Cost: A of as many images as there are components, and a system of that size.

    Source: Kay, Fundamentals of Statistical Signal Processing I (1993), theorem 12.1; principal components as a model
    of images, Turk & Pentland 1991.
    """

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: the task has no encoder, or one of another generator.
        """
        encoder, problem = task.required_encoder, task.problem
        encoder.check(task.generator)
        every = torch.arange(problem.images, device=problem.measurements.device)
        with task.trace.timed("linear-estimate"), torch.no_grad():
            coefficients = torch.cat([encoder.linear_estimate(*told)[0] for told in told_by(problem, encoder)])
            flat = encoder.mean + coefficients @ encoder.basis
            images = flat.reshape(-1, *encoder.image_shape).to(problem.measurements).clamp(0, 1)
            residual = problem.residual(images, every)
            task.trace.log("linear-estimate", residual, every)
        status = judged(problem, residual, every, torch.zeros_like(every, dtype=torch.bool), otherwise=Status.STOPPED)
        return Found(images, residual, status)
