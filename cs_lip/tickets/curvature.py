"""Criteria from derivatives: of a loss, of its gradient, and of the image itself."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from cs_lip.priors.generator import Generator
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.seeding import stream
from cs_lip.tickets.mask import Mask

Scores = dict[str, Tensor]
"""Parameter name -> tensor of its shape, higher = keep."""

Loss = Callable[[Prunable], Tensor]
"""How badly a network does, a scalar that can be differentiated; it is given copies, and may draw a batch each time."""


class MaskedCopy:
    """A copy of a network with a mask applied, whose loss has derivatives in the weights that the mask names.

    So the network itself keeps its weights, gradients, running statistics and mode.

    Attributes:
        network: the copy, in the mode of the network.
        weights: those that the mask names, by parameter name; the only ones that ask for gradients.
    """

    def __init__(self, network: Prunable, mask: Mask) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        mask.apply_(self.network)
        self.weights = {name: self.network.get_parameter(name).requires_grad_() for name in mask.kept}

    def gradient(self, loss: Loss, *, differentiable: bool = False) -> Scores:
        """The gradient of the loss in the weights, of which it is a differentiable function where that is asked.

        Raises:
            ValueError: the loss is no finite number, or does not depend on them.
        """
        found = loss(self.network)
        if found.dim() or not found.isfinite():
            given = f"a tensor of shape {tuple(found.shape)}" if found.dim() else found.item()
            raise ValueError(f"the loss gave {given!s:.60}, expected one finite number; try its mean over the batch")
        if not found.requires_grad:
            raise ValueError(
                "the loss does not depend on the weights of the network it was given; try to draw with that network, "
                "not folded, outside torch.no_grad"
            )
        weights = list(self.weights.values())
        gradient = torch.autograd.grad(found, weights, create_graph=differentiable, materialize_grads=True)
        return dict(zip(self.weights, gradient, strict=True))


def snip(network: Prunable, mask: Mask, loss: Loss) -> Scores:
    """``|w dL/dw|`` at the masked network: how much the loss changes with the presence of a weight.

    Connection sensitivity (Lee, Ajanthan & Torr, ICLR 2019, arXiv 1810.02340, equations 4 to 6), without their division
    by the sum of all, which changes no order; a search that averages over several networks makes up for it.
    """
    masked = MaskedCopy(network, mask)
    gradient = masked.gradient(loss)
    return {name: (weight.detach() * gradient[name]).abs() for name, weight in masked.weights.items()}


def grasp(network: Prunable, mask: Mask, loss: Loss) -> Scores:
    """``w (H g)`` with the gradient ``g`` and the Hessian ``H`` of the loss in the weights that the mask keeps.

    Removing ``w`` changes ``|g|^2`` by ``-2 w (H g)`` to first order. Wang, Zhang & Grosse (ICLR 2020, arXiv
    2002.07376, equation 8) prune the weights with the largest ``-w (H g)``, whose removal lowers the gradient least or
    raises it; so higher ``w (H g)`` = keep.
    """
    masked = MaskedCopy(network, mask)
    gradient = masked.gradient(loss, differentiable=True)
    # What is pruned does not move, so it has no part in how fast the loss falls.
    flow = {name: value.detach() * mask.kept[name] for name, value in gradient.items()}
    along = torch.stack([(value * flow[name]).sum() for name, value in gradient.items()]).sum()
    if not along.requires_grad:  # the loss is linear in the weights, so that H = 0
        return {name: torch.zeros_like(value) for name, value in gradient.items()}
    curved = torch.autograd.grad(along, list(masked.weights.values()), materialize_grads=True)
    return {name: weight.detach() * value for (name, weight), value in zip(masked.weights.items(), curved, strict=True)}


def taylor(network: Prunable, mask: Mask, loss: Loss, batches: int = 1) -> Scores:
    """``sum_b (w dL_b/dw)^2`` over as many calls of the loss, each of which may draw another batch.

    The squared change of the loss on removal, to first order (Molchanov, Mallya, Tyree, Frosio & Kautz, CVPR 2019,
    arXiv 1906.10771, equations 3 and 8).

    Raises:
        ValueError: no batch.
    """
    if batches < 1:
        raise ValueError(f"the batches must be 1 or more, got {batches}; try 10")
    masked = MaskedCopy(network, mask)
    scores = {name: torch.zeros_like(weight) for name, weight in masked.weights.items()}
    for _ in range(batches):
        for name, value in masked.gradient(loss).items():
            scores[name] += (masked.weights[name].detach() * value).square()
    return scores


def sensitivity(network: Prunable, mask: Mask, seed: int = 0, draws: int = 100) -> Scores:
    """``w^2 E_u |dG(u)/dw|^2``: how much the image changes when the weight is removed, without any data.

    To first order ``|G(u) - G(u without w)|^2 = w^2 |dG/dw|^2``, the mean being over latents (of an untrained network:
    over its inputs) ``u``. The squared norm is that of a column of the Jacobian with as many rows as values in an
    image, so it is estimated: ``E_v (v . dG/dw)^2`` for probes ``v`` of random signs is exactly that norm. Each draw
    takes one latent and one probe, and one backward pass. Images are drawn in evaluation mode.

    Args:
        seed: of latents and probes.
        draws: latents.

    Raises:
        ValueError: no draw, or neither a generator nor an untrained network.
    """
    inputs, signs = stream(seed, "sensitivity/inputs"), stream(seed, "sensitivity/probes")

    def probed(copied: Prunable) -> Tensor:
        image = draw(copied.eval(), inputs)
        probe = torch.randint(0, 2, image.shape, generator=signs).to(image) * 2 - 1
        return (image * probe).sum()

    return {name: total / draws for name, total in taylor(network, mask, probed, draws).items()}


def draw(network: Prunable, rng: torch.Generator) -> Tensor:
    """One image ``(1, channels, height, width)`` of a random latent or input.

    Raises:
        ValueError: the network takes neither.
    """
    if isinstance(network, Generator):
        image: Tensor = network(network.sample_latents(1, generator=rng))
    elif isinstance(network, UntrainedNetwork):
        image = network(network.sample_input(generator=rng))
    else:
        raise ValueError(f"a {type(network).__name__} has no latents and no inputs to draw; try a generator")
    return image
