"""Initial weights from a random generator of one's own, where PyTorch would read the global one."""

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of a network anew, in place, from the distribution that PyTorch's own modules start from.

    Weights and biases of convolutions are uniform in +-1/sqrt(fan_in) (He et al., ICCV 2015, with a gain of 1/sqrt(3)),
    where the fan in is the number of weights behind the first channel, as PyTorch counts it also for transposed
    convolutions. Norms start at scale 1 and shift 0.

    The numbers are drawn on the CPU in float32 and then converted, in the order of the network's modules: a seed means
    the same weights on every device and in every dtype.

    Args:
        network: of convolutions and batch norms, which may hold anything or nothing yet.
        generator: on the CPU.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for values in (module.weight, module.bias):
                if values is not None:
                    values.copy_(_uniform(values, bound, generator))
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.fill_(1)
            module.bias.zero_()


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(like.shape).uniform_(-bound, bound, generator=generator)
