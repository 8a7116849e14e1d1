"""Batch norms with running statistics: absorbed into the convolutions before them, or measured anew."""

import copy
import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from cs_lip.priors.dcgan import DCGAN
from cs_lip.priors.generator import Generator

DRAWN_FOR_NORMS = 2048
"""Images over which norms are measured."""

ROWS = 256

Network = TypeVar("Network", bound=Generator)


def absorb_(generator: Generator) -> None:
    """Move the scales of a DCGAN's batch norms into the convolutions before them; the images stay as they are.

    With running mean ``mu``, variance ``v``, scale ``g`` and shift ``b``, a norm in evaluation mode is ``s x + (b - mu
    s)`` with ``s = g / sqrt(v + eps)``. Afterwards the convolution's weights are ``s`` times as large and the norm is
    the pure shift ``x + (b - mu s)``, in the same places of the same network. Magnitudes of weights then say what they
    say in the folded network (`cs_lip.priors.FoldedDCGAN`), and training in evaluation mode starts without a scale that
    statistics could undo. Absorbing twice is harmless. The other architectures have no running statistics, so nothing
    is done to them.
    """
    if not isinstance(generator, DCGAN):
        return
    with torch.no_grad():
        for conv, norm in pairwise(generator.main):
            if isinstance(conv, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                _absorb(conv, norm)


def absorbed(generator: Network) -> Network:
    """A copy of a generator after `absorb_`."""
    twin = copy.deepcopy(generator)
    absorb_(twin)
    return twin


def _absorb(conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    conv.weight.mul_(scale[None, :, None, None])
    norm.bias.sub_(norm.running_mean * scale)
    norm.weight.fill_(1)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def recalibrate_(generator: Generator, rng: torch.Generator) -> None:
    """Set the running statistics of batch norms to those over `DRAWN_FOR_NORMS` draws.

    After training in training mode the running ones belong to the weights of single steps, and to no average of them.
    """
    for norm in generator.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average over the batches
    generator.train()
    with torch.no_grad():
        for _ in range(math.ceil(DRAWN_FOR_NORMS / ROWS)):
            generator(generator.sample_latents(ROWS, generator=rng))
    generator.eval()
