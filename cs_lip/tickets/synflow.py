"""SynFlow: pruning without data or loss, by how much flows through each weight of the linearised network.

H. Tanaka, D. Kunin, D. L. K. Yamins & S. Ganguli, "Pruning neural networks without any data by iteratively conserving
synaptic flow" (NeurIPS 2020, arXiv 2006.05467).
"""

import copy

import torch
from torch import Tensor, nn

from cs_lip.priors.dcgan import DCGAN, FoldedDCGAN
from cs_lip.priors.decoder import Decoder
from cs_lip.priors.generator import Generator
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.untrained.deep_decoder import ConvDecoder, DeepDecoder
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.priors.untrained.skip import Skip
from cs_lip.tickets.curvature import Scores
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.schedules import checked_density
from cs_lip.tickets.selection import kept_fraction, select

LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
POSITIVELY_LINEAR = ("relu", "leaky-relu")
"""Activations that leave what is not negative as it is."""


def synflow(network: Prunable, mask: Mask) -> Scores:
    """``w dR/dw`` for ``R = 1^T |W_d| ... |W_1| 1``, in float64, of the masked network (their equation 2).

    The network is made linear: weights by their absolute value, no biases, an input of ones. What it then computes is
    never negative, so ReLU and leaky ReLU are the identity; the last activation is left off, as are the mean and the
    variance that a norm takes from the image itself. What a norm multiplies by is kept, as a part of the weights: its
    scale, over the deviation where that is a running one. So a DCGAN has the scores of its folded copy.

    In a chain of layers the scores of each layer add up to ``R``.

    Raises:
        ValueError: a network that is not made of such layers.
    """
    linear = _linearised(network, mask)
    weights = {name: linear.get_parameter(name) for name in mask.kept}
    for value in weights.values():
        value.requires_grad_()
    flow = _flow(linear)
    found = torch.autograd.grad(flow, list(weights.values()), materialize_grads=True)
    return {name: (weights[name] * value).detach() for name, value in zip(weights, found, strict=True)}


def synflow_mask(
    network: Prunable,
    density: float,
    *,
    parent: Mask,
    granularity: str = "weight",
    floor: float = 0.0,
    rounds: int = 100,
) -> Mask:
    """The mask of a density by rounds of scoring and pruning, all layers under one threshold (their algorithm 1).

    After round ``t`` of ``n`` the density is ``p (d / p)^(t/n)``, from the parent's ``p`` to ``d``. Pruning all at once
    would empty layers; rounds do not, since what is left of a layer then takes the whole flow.

    Args:
        network: a generator or an untrained network; its weights stay as they are.
        density: of all weights that the parent names, or kernels; see `select`.

    Raises:
        ValueError: as `synflow` and `select`, or no round.
    """
    if rounds < 1:
        raise ValueError(f"the rounds must be 1 or more, got {rounds}; try 100")
    mask, start = parent, max(kept_fraction(parent, granularity), checked_density(density))
    for step in range(1, rounds + 1):
        # The power of the last round might miss the density by its rounding.
        now = density if step == rounds else start * (density / start) ** (step / rounds)
        mask = select(synflow(network, mask), now, parent=mask, granularity=granularity, floor=floor)
    return mask


def check_linearisable(network: Prunable) -> None:
    """Refuse a network that has parts of which it is not known how to make them linear.

    Raises:
        ValueError: it has.
    """
    supported = isinstance(network, DCGAN | FoldedDCGAN | Skip | DeepDecoder | ConvDecoder) or (
        isinstance(network, Decoder) and network.activation in POSITIVELY_LINEAR
    )
    if not supported:
        raise ValueError(
            f"SynFlow does not know how to make a {type(network).__name__} linear; try another criterion, or a DCGAN, "
            "a skip network, a deep decoder or a decoder of ReLUs"
        )


def _linearised(network: Prunable, mask: Mask) -> Prunable:
    """A copy in float64 whose every part is linear and has no negative weight."""
    check_linearisable(network)
    linear = copy.deepcopy(network).double().requires_grad_(False)
    mask.apply_(linear)
    norms = [(name, module) for name, module in linear.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for name, norm in norms:
        linear.set_submodule(name, _Scale(norm))
    for module in linear.modules():
        if isinstance(module, LINEAR):
            module.weight.abs_()
            if module.bias is not None:
                module.bias.zero_()
    return linear


class _Scale(nn.Module):
    """What a batch norm multiplies each channel by, without sign."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale = torch.ones(norm.num_features) if norm.weight is None else norm.weight.detach().abs()
        if norm.running_var is not None:
            scale = scale / torch.sqrt(norm.running_var + norm.eps)
        self.register_buffer("scale", scale[:, None, None])

    def forward(self, features: Tensor) -> Tensor:
        assert isinstance(self.scale, Tensor)
        return features * self.scale


def _flow(linear: Prunable) -> Tensor:
    """``R``: the sum over all that the last layer gives, before its activation."""
    *_, last = (module for module in linear.modules() if isinstance(module, LINEAR))
    given: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, inputs, output: given.append(output))
    try:
        if isinstance(linear, Generator):
            linear(torch.ones(1, *linear.latent_shape, dtype=linear.dtype, device=linear.device))
        elif isinstance(linear, UntrainedNetwork):
            linear(torch.ones(1, *linear.input_shape, dtype=linear.dtype, device=linear.device))
    finally:
        hook.remove()
    return given[0].sum()
