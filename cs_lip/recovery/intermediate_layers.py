"""Intermediate-layer optimisation: the search goes on over the activations inside a generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors import Generator, Layer
from cs_lip.priors.generator import State
from cs_lip.recovery.blind_search import BlindSearch
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.solver import Found, Note, Solver, Task
from cs_lip.recovery.tuning import Drawing, Tuning, beyond_the_range, found_latents, tune

RATE = 200.0
"""The learning rate of activations, in units of their root mean square, relative to that of `Tuning`."""

PATIENCE = 150
"""Iterations without a lower held-out misfit: enough for another two layers where one makes the image no better."""


@dataclass(frozen=True)
class IntermediateLayers:
    """Latent search, and then Adam on the activations between the layers of the generator, layer after layer deeper.

    Images that the search explains down to the noise are in the generator's range and stay as they are. For the others
    let G = G_L o ... o G_1, and let h_i be the activations that layer i hands on. In turn for i = 1, 2, ...

        min_h  rho(A x - y) / (gain n) + total_variation TV(x) ,   x = G_L o ... o G_{i+1} (h) ,
        over   |h - h_i|_1 <= radius |h_i|_1 ,

    from h = h_i, and with the h found h_{i+1} = G_{i+1}(h). The deeper the layer, the more images can be drawn, and the
    l1 ball keeps them close to what the layers above could draw. After each step h is projected onto the ball.
    The iterations of all layers count as one descent, so that held-out measurements say both in which layer to stop and
    when; it is repeated with all measurements and followed by a back-projection: see `Tuning`.

    It departs from ILO as published in the stop, the total variation and the back-projection; and the radius is
    relative, so that it means the same for layers of any size.

    Cost beside the search: an iteration is one forward and backward pass of the layers that are left, one application
    of A and its adjoint, and a sort of the activations; some hundred iterations, two to six times.

    Source: Daras, Dean, Jalal & Dimakis, Intermediate Layer Optimization for Inverse Problems using Deep Generative
    Models, ICML 2021, section 3 and algorithm 1.

    Attributes:
        search: finds the latents to start from.
        blind: finds those for the fits that hold measurements out, from what these keep.
        layers: after which layers, by their names in ``generator.layers()``, the activations move; None for after all
            but the last.
        radius: of the l1 ball, relative to the l1 norm of the activations at its centre, for each tensor that a layer
            hands on.
        steps: iterations of each layer but the last of them, which gets what is left.
        tuning: of the activations.

    Raises:
        ValueError: a radius that is not above 0 or not finite, fewer than one step, or no layers.
    """

    search: Solver = field(default_factory=LatentSearch)
    layers: tuple[str, ...] | None = None
    radius: float = 0.5
    steps: int = 50
    tuning: Tuning = field(default_factory=lambda: Tuning(patience=PATIENCE))
    blind: Solver = field(default_factory=BlindSearch)

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise ValueError(f"the ball radius must be a number above 0, got {self.radius}; try 0.5")
        if self.steps < 1:
            raise ValueError(f"the steps of each layer must be at least 1, got {self.steps}; try 50")
        if self.layers is not None and len(self.layers) == 0:
            raise ValueError("the activations of at least one layer must move, got no layers; try layers=None")

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: the generator has no such layers, or hands nothing on because it is in one piece; as
                `Tuning.splits`.
        """
        generator = task.generator.fold()
        pieces = _pieces(generator, self.layers)
        self.tuning.splits(task)  # now, since the search takes its time

        def improve(start: Found, which: Tensor) -> tuple[Tensor, Tensor, tuple[Note, ...]]:
            tuned = tune(
                task,
                which,
                found_latents(start)[which],
                lambda latents: [Activations(pieces, latent[None], self.radius, self.steps) for latent in latents],
                self.tuning,
                blind=self.blind,
                phase="intermediate-layers",
            )
            names = [{"layer": drawing.name} for drawing in tuned.drawings if isinstance(drawing, Activations)]
            notes = tuple(note | name for note, name in zip(tuned.notes, names, strict=True))
            return tuned.images, tuned.exhausted, notes

        return beyond_the_range(task, self.search.recover(task), improve)


class Activations(Drawing):
    """An image whose generator's activations move, after one layer first and then after the next.

    Args:
        pieces: the generator in pieces by name; the activations after all but the last of them move.
        latent: ``(1, *latent_shape)``.
        radius: see `IntermediateLayers`.
        steps: see `IntermediateLayers`.
    """

    def __init__(self, pieces: dict[str, Layer], latent: Tensor, radius: float, steps: int) -> None:
        self.pieces, self.radius, self.steps = pieces, radius, steps
        self.states = [tuple(t.requires_grad_() for t in state) for state in _handed_on(pieces, latent)]
        self.place, self.done = 0, 0
        self.centre = _copied(self.states[0])

    @property
    def name(self) -> str:
        """The layer whose activations move now."""
        return list(self.pieces)[self.place]

    def groups(self) -> list[dict[str, Any]]:
        """See `Drawing`; those of the layers that are not drawn from have no gradients, so Adam leaves them alone."""
        return [
            {"params": [tensor], "lr": RATE * float(tensor.detach().square().mean().sqrt())}
            for state in self.states
            for tensor in state
        ]

    def image(self) -> Tensor:
        """See `Drawing`."""
        state: State = self.states[self.place]
        for piece in list(self.pieces.values())[self.place + 1 :]:
            state = piece(state)
        return state[0]

    @torch.no_grad()
    def project_(self) -> None:
        """Onto the balls, and to the next layer after so many steps."""
        for tensor, centre in zip(self.states[self.place], self.centre, strict=True):
            radius = self.radius * float(centre.abs().sum())
            tensor.copy_(centre + project_onto_l1_ball(tensor - centre, radius))
        self.done += 1
        if self.done % self.steps == 0 and self.place + 1 < len(self.states):
            handed_on = list(self.pieces.values())[self.place + 1](self.states[self.place])
            self.place += 1
            for tensor, value in zip(self.states[self.place], handed_on, strict=True):
                tensor.copy_(value)
            self.centre = _copied(self.states[self.place])


def project_onto_l1_ball(values: Tensor, radius: float) -> Tensor:
    """The closest point, in the Euclidean norm, whose l1 norm is at most the radius: ``sign(v) max(|v| - t, 0)`` with
    the t that gives just the radius, or v itself where it is inside.

    Source: Duchi, Shalev-Shwartz, Singer & Chandra, Efficient Projections onto the l1-Ball for Learning in High
    Dimensions, ICML 2008, figures 1 and 2.

    Args:
        values: v, of any shape, taken as one vector.
        radius: at least 0.
    """
    sizes = values.abs().flatten().double()
    if float(sizes.sum()) <= radius:
        return values
    falling = sizes.sort(descending=True).values
    excess = falling.cumsum(0) - radius
    count = torch.arange(1, len(falling) + 1, device=values.device)
    last = int((falling * count > excess).sum().clamp(min=1)) - 1
    threshold = float(excess[last]) / (last + 1)
    return values.sign() * (values.abs() - threshold).clamp(min=0)


@torch.no_grad()
def _handed_on(pieces: dict[str, Layer], latent: Tensor) -> list[State]:
    """The activations after all pieces but the last."""
    state: State = (latent,)
    states = []
    for piece in list(pieces.values())[:-1]:
        state = piece(state)
        states.append(_copied(state))
    return states


def _copied(state: State) -> State:
    return tuple(tensor.detach().clone() for tensor in state)


def _pieces(generator: Generator, names: Sequence[str] | None) -> dict[str, Layer]:
    """The generator cut after the layers of these names, and into its last piece; None for every layer."""
    layers = generator.layers()
    *inner, last = layers
    wanted = inner if names is None else names
    unknown = [name for name in wanted if name not in inner]
    if unknown or not inner:
        raise ValueError(
            f"intermediate layers must be some of the generator's own that come before the last one, got "
            f"{unknown or 'a generator in one piece'!s:.80}; try "
            + (f"some of {', '.join(inner):.200}" if inner else "ImageAdaptive(), which tunes its weights")
        )
    pieces: dict[str, Layer] = {}
    run: list[Layer] = []
    for name, layer in layers.items():
        run.append(layer)
        if name in wanted or name == last:
            pieces[name], run = _chained(tuple(run)), []
    return pieces


def _chained(run: tuple[Layer, ...]) -> Layer:
    def piece(state: State) -> State:
        for layer in run:
            state = layer(state)
        return state

    return piece
