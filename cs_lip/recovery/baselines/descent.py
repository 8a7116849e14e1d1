"""``min_c |A (b + W^H c) - y|^2 / 2 + lambda g(c)`` for one image: accelerated proximal gradient, matrix-free."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pylops
import pyproximal
import torch
from pylops.optimization.callback import Callbacks
from pyproximal.optimization.cls_primal import ProximalGradient
from torch import Tensor

from cs_lip.recovery.baselines.frame import Array, as_array, as_tensor
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.trace import Trace

Penalty = Callable[[float], Any]
"""From lambda to ``lambda g``, a proximal operator of pyproximal."""


class Point(NamedTuple):
    """Coefficients ``(k,)``, and whether they stood still when the iterations ended."""

    coefficients: Array
    still: bool


@dataclass(frozen=True, eq=False)
class Descent:
    """FISTA (Beck & Teboulle, SIAM J. Imaging Sciences 2009, section 4) by pyproximal, in float32.

    An iteration applies ``A`` and its adjoint once each.

    Attributes:
        problem: of one image.
        analysis: ``W``, of PyLops, on flattened images; ``W W^H`` is at most the identity.
        penalty: makes ``lambda g``.
        penalised: 1 for each coefficient that counts in g, or else 0, ``(k,)``.
        squared_norm: |A|^2 or a bound above it; the step is its inverse.
        base: ``b``, the image at c = 0, ``A.in_shape`` or a number.
    """

    problem: Problem
    analysis: pylops.LinearOperator
    penalty: Penalty
    penalised: Array
    squared_norm: float
    base: Tensor | float = 0.0

    def image(self, coefficients: Array) -> Tensor:
        """``b + W^H c``, ``A.in_shape``."""
        deviation = as_tensor(self.problem, self.analysis.rmatvec(coefficients), *self.problem.operator.in_shape)
        return self.base + deviation

    def measure(self, coefficients: Array) -> Array:
        """``A (b + W^H c)``, ``(m,)``; affine in c, which a gradient step does not mind."""
        return as_array(self.problem.measure(self.image(coefficients)[None]))

    def adjoint(self, vector: Array) -> Array:
        """``W A^H v``, ``(k,)``."""
        image = self.problem.adjoint(as_tensor(self.problem, vector, 1, self.problem.m))
        return np.asarray(self.analysis.matvec(as_array(image)), np.float32)

    @cached_property
    def correlation(self) -> Array:
        """``W A^H (y - A b)``, ``(k,)``: minus the gradient at zero."""
        at_zero = self.measure(np.zeros(self.analysis.shape[0], np.float32))
        return self.adjoint(as_array(self.problem.measurements) - at_zero)

    def minimise(self, level: float, start: Array, iterations: int, tolerance: float, watch: "Watch") -> Point:
        """Minimise at ``lambda = level`` until a step moves less than ``tolerance`` of the coefficients' norm."""
        watch.begin(self.problem, start, tolerance)

        def forward(coefficients: Array) -> Array:
            return watch.see(self.measure(coefficients))

        size = (self.problem.m, len(start))
        operator = pylops.FunctionOperator(forward, self.adjoint, *size, dtype=np.float32)
        solver = ProximalGradient(callbacks=[watch])
        coefficients, *_ = solver.solve(
            pyproximal.L2(operator, as_array(self.problem.measurements)),
            self.penalty(level),
            start,
            tau=1 / self.squared_norm,
            niter=iterations,
            acceleration="fista",
        )
        return Point(np.asarray(coefficients, np.float32), watch.still)


class Watch(Callbacks):  # type: ignore[misc]
    """Logs every iteration, and stops where nothing moves any more or whoever waits has had enough.

    The residual that is logged is that of the point at which the gradient was taken, which costs nothing more.
    """

    def __init__(self, trace: Trace, phase: str, index: int) -> None:
        super().__init__()
        self.trace, self.phase, self.which = trace, phase, torch.tensor([index])

    def begin(self, problem: Problem, start: Array, tolerance: float) -> None:
        """Watch the iterations of another problem."""
        self.problem, self.before, self.tolerance = problem, start, tolerance
        self.stop, self.still = self.trace.cancelled, False

    def see(self, measured: Array) -> Array:
        """Remember what the image at hand would have measured."""
        self.residual = as_tensor(self.problem, measured, 1, self.problem.m) - self.problem.measurements
        return measured

    def on_step_end(self, solver: object, x: Array) -> None:
        self.trace.note(self.phase, self.problem.relative_residual(self.residual, self.which * 0), self.which)
        self.still = bool(np.linalg.norm(x - self.before) <= self.tolerance * np.linalg.norm(x))
        self.before = x
        self.stop = self.still or self.trace.cancelled
