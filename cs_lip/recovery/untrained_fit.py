"""The fit of an untrained network's weights to measurements."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.recovery.early_stopping import LATE, Discrepancy, HeldOut, LastIterate, StopRule, WindowedVariance
from cs_lip.recovery.problem import Problem, held_out_fraction
from cs_lip.recovery.solution import Status
from cs_lip.recovery.solver import Found, Note, Task, judged
from cs_lip.recovery.total_variation import total_variation
from cs_lip.recovery.trace import Trace
from cs_lip.seeding import stream

Stop = Literal["auto", "held-out", "discrepancy", "windowed-variance", "last"]
"""How the iterate that is returned is chosen."""

PHASE = "fit"


@dataclass(frozen=True)
class UntrainedFit:
    """Adam on the weights ``w`` of an untrained network, one image after the other.

    Minimised is, for every image, with ``f`` the task's network, ``u`` a fixed random input and ``e`` normal noise that
    is drawn afresh in each iteration::

        rho(A f(w; u + jitter e) - y) / (gain n) + total_variation TV(f(w; u + jitter e))

    where ``n`` counts the pixels times channels and ``gain = ||A||_F^2 / n``. The first term estimates the mean squared
    error of the image on the scale [0, 1] for every operator (it is exactly the mean squared residual for denoising),
    so that learning rate and weight mean the same for each: denoising, inpainting, super-resolution and compressive
    sensing differ in A alone. ``TV`` is `cs_lip.recovery.total_variation.total_variation`.

    The weights start from those that the network has, which stay as they are: every image is fitted by a copy. What
    comes back is the exponential average of the latest images, at the iterate that ``stop`` chooses:

    - ``held-out``: a part of the measurements is held out, and the least misfit there decides.
    - ``discrepancy``: the first that explains the measurements down to the stated noise.
    - ``windowed-variance``: the least variance of 100 images in a row.
    - ``last``: the last, as for networks too small to fit noise.
    - ``auto``: held-out, which needs no noise level and serves every operator.

    Every image's note says which rule it was, which iteration of how many it chose, and the rule's value there.

    Cost: an iteration is one forward and backward pass of the network and one application of A and its adjoint, and
    another A for the rules that look at residuals. Memory: `cs_lip.priors.untrained.memory.fit_bytes`. On processors
    that multiply bfloat16 numbers the passes are in mixed precision: weights, sums, the last layer, the loss and Adam
    stay in float32.

    Source: Ulyanov, Vedaldi & Lempitsky, Deep Image Prior, CVPR 2018 (Adam, learning rate 0.01, jitter and averages:
    supplement and published code); Heckel & Hand 2019; total variation beside it: Liu, Sun, Xu & Kamilov, ICASSP 2019.

    Attributes:
        iterations: at most that many.
        learning_rate: of Adam.
        averaging: the weight of the past in the average of images, in [0, 1); 0 returns single images.
        total_variation: the weight of TV, from 0 on.
        stop: see above.
        held_out: the fraction of the measurements that ``held-out`` holds out, of few measurements no fewer than ten.
        patience: iterations without a lower value after which the fit ends, for the rules that seek a least one.
        coarse: whether the network's passes are in bfloat16 where `cs_lip.priors.convolves_in_bfloat16`.
    """

    iterations: int = 1500
    learning_rate: float = 0.01
    averaging: float = 0.99
    total_variation: float = 0.0
    stop: Stop = "auto"
    held_out: float = 0.05
    patience: int = 500
    coarse: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no fit."""
        for name, least in (("iterations", 1), ("patience", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"the {name} must be a whole number from {least} on, got {value!r}; try 1500")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"the learning rate must be a number above 0, got {self.learning_rate}; try 0.01")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"the averaging must be at least 0 and below 1, got {self.averaging}; try 0.99")
        if not 0 <= self.total_variation < float("inf"):
            raise ValueError(f"the weight of TV must be a number from 0 on, got {self.total_variation}; try 0")
        if self.stop not in get_args(Stop):
            raise ValueError(f"there is no stop {str(self.stop)[:40]!r}; try one of {', '.join(get_args(Stop))}")

    def check(self, problem: Problem, network: UntrainedNetwork) -> None:
        """Refuse at once what could not be fitted.

        Raises:
            ValueError: as `recover`.
        """
        _check_fit(problem, network)
        self._rule(self._rule_name(problem), problem, stream(0, "held-out/0"))

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: the prior is no untrained network or draws images of another shape than A takes, the stop needs
                a noise and there is none, or the held-out fraction leaves fewer than ten measurements on either side.
        """
        problem, network = task.problem, task.network
        _check_fit(problem, network)
        rule = self._rule_name(problem)
        fits = [self._fit(task, copy.deepcopy(network), image, rule) for image in range(problem.images)]
        images = torch.cat([image for image, _, _ in fits])
        every = torch.arange(problem.images, device=images.device)
        with torch.no_grad():
            residual = problem.residual(images, every)
        exhausted = torch.tensor([ran_out for _, _, ran_out in fits], device=images.device)
        status = judged(problem, residual, every, exhausted, otherwise=Status.STOPPED)
        return Found(images, residual, status, notes=tuple(note for _, note, _ in fits), settings={"stop": rule})

    def fitted(self, task: Task) -> UntrainedNetwork:
        """The network after the fit to the task's only image, with the weights of the iterate that ``stop`` chooses.

        They are those after the step of that iterate, the image being an average over those before.

        Raises:
            ValueError: as `recover`, or there are several images.
        """
        problem, network = task.problem, copy.deepcopy(task.network)
        _check_fit(problem, network)
        if problem.images != 1:
            raise ValueError(f"one network fits one image, got {problem.images}; try a fit for each")
        chosen: dict[str, Tensor] = {}

        def keep() -> None:
            chosen.update({name: value.detach().clone() for name, value in network.state_dict().items()})

        self._fit(task, network, 0, self._rule_name(problem), keep)
        if chosen:
            network.load_state_dict(chosen)
        return network.to(memory_format=torch.contiguous_format)

    def _rule_name(self, problem: Problem) -> str:
        if self.stop == "discrepancy" and problem.noise == 0:
            raise ValueError("the stop by discrepancy needs the noise, got 0; try to state it, or the stop 'held-out'")
        return "held-out" if self.stop == "auto" else self.stop

    def _rule(self, name: str, problem: Problem, generator: torch.Generator) -> tuple[StopRule, Problem]:
        """The rule for one image, and the problem without what it holds out."""
        if name == "held-out":
            kept, held = problem.split(held_out_fraction(problem.m, self.held_out), generator)
            return HeldOut(self.patience, held), kept
        if name == "discrepancy":
            return Discrepancy(self.patience, problem), problem
        return (WindowedVariance if name == "windowed-variance" else LastIterate)(self.patience), problem

    def _fit(
        self, task: Task, network: UntrainedNetwork, image: int, name: str, keep: Callable[[], None] | None = None
    ) -> tuple[Tensor, Note, bool]:
        """The chosen image ``(1, *image_shape)``, its note, and whether the iterations ran out while it improved.

        Args:
            network: whose weights move, and become channels_last.
            keep: called after each iteration that is the best so far.
        """
        which = torch.tensor([image], device=task.problem.measurements.device)
        rule, kept = self._rule(name, task.problem.only(which), stream(task.seed, f"held-out/{image}"))
        inputs = network.sample_input(generator=stream(task.seed, f"input/{image}"))
        jitter = stream(task.seed, f"jitter/{image}")
        network.to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate, fused=True)
        average: Tensor | None = None
        finished = False
        with task.trace.timed(PHASE):
            while rule.seen < self.iterations and not finished and not task.trace.cancelled:
                drawn = network(_jittered(inputs, network.jitter, jitter), coarse=self.coarse)
                loss = self._loss(kept, drawn, which, task.trace)
                if not torch.isfinite(loss):
                    break
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                network.project_()
                latest = drawn.detach()
                # The first iterates are averaged evenly, or the average would start out as the first of them.
                weight = max(1 - self.averaging, 1 / (rule.seen + 1))
                average = latest if average is None else average.lerp(latest, weight)
                finished = rule.watch(latest, average)
                if keep is not None and rule.iteration == rule.seen:
                    keep()
                task.trace.observe(average, which)
        value = rule.value if math.isfinite(rule.value) else None
        note = {"stop": name, "iteration": rule.iteration, "iterations": rule.seen, "value": value}
        ran_out = not finished and rule.iteration > LATE * self.iterations
        return _best(rule, network, inputs), note, ran_out

    def _loss(self, kept: Problem, drawn: Tensor, which: Tensor, trace: Trace) -> Tensor:
        first = torch.zeros_like(which)
        residual = kept.residual(drawn, first)
        trace.note(PHASE, kept.relative_residual(residual.detach(), first), which)
        loss = kept.misfit(residual).sum() / (kept.gain * kept.operator.n)
        return loss + self.total_variation * total_variation(drawn).sum() if self.total_variation else loss


def _best(rule: StopRule, network: UntrainedNetwork, inputs: Tensor) -> Tensor:
    """The rule's choice, or where the fit was stopped before its first iteration what the network starts from."""
    if rule.best is not None:
        return rule.best
    with torch.no_grad():
        image: Tensor = network(inputs)
    return image


def _jittered(inputs: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    if not jitter:
        return inputs
    noise = torch.randn(inputs.shape, generator=generator)
    return inputs + jitter * noise.to(inputs.device, inputs.dtype)


def _check_fit(problem: Problem, network: UntrainedNetwork) -> None:
    operator = problem.operator
    if operator.in_is_complex:
        raise ValueError(
            "an untrained network draws real images, but the operator takes complex ones; try "
            "A @ RealImaginary((2, ...)), which makes them of two channels"
        )
    if tuple(operator.in_shape) != network.image_shape:
        raise ValueError(
            f"the network draws images of shape {network.image_shape}, but the operator takes "
            f"{tuple(operator.in_shape)}; try untrained_network(name, {tuple(operator.in_shape)})"
        )
