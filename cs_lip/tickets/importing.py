"""Masks that other programs wrote, as tickets: state dicts of `torch.nn.utils.prune`, and masks of the LIP code."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cs_lip.priors.pggan import PGGAN
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.reading.weights import naming, read_weights
from cs_lip.priors.untrained.skip import Skip, Step
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.ticket import About, Ticket, skeleton, without_counters

MASK, ORIGINAL = "_mask", "_orig"
"""What `torch.nn.utils.prune` puts behind a parameter's name: of its mask, and of its value before masking."""

PREFIX = "module."
"""In front of all names where the network was wrapped by DataParallel."""

STATISTICS = ("running_mean", "running_var")


def imported(path: Path, about: About) -> Ticket:
    """The ticket in a weight file that holds masks.

    A parameter ``X`` that `torch.nn.utils.prune` masks is there as ``X_orig`` and ``X_mask``, and the network computes
    with their product. The LIP code (VITA-Group/Chasing-Better-DIPs, `extract_mask`) keeps the ``X_mask`` alone. Names
    may begin with ``module.``, and are ours, those of the published skip network (`skip_modules`), or those of
    pytorch_GAN_zoo's PGGAN (`zoo_modules`). A file with weights must hold all of the network's; they become the
    ticket's values.

    Of a file of masks alone in the published skip network's names, those of the convolutions that read the input are
    left out: the LIP code counts these weights as pruned, but its `prune_model_custom` never applies the masks.

    Args:
        path: of any format that `cs_lip.priors.reading.weights.read_weights` reads; no code in it is ever executed.
        about: what the ticket says of the prior that the masks belong to, such as
            `cs_lip.tickets.transfer.about_untrained` gives.

    Raises:
        ValueError: not readable, no masks, masks of other values than 0 and 1, names or shapes that are not the
            network's, weights that are not whole, or a mask that empties a layer. The message names the file.
    """
    with naming(path):
        network = skeleton(about)
        theirs = skip_modules(network) if isinstance(network, Skip) else {}
        theirs |= zoo_modules(network) if isinstance(network, PGGAN) else {}
        found = {name.removeprefix(PREFIX): value for name, value in read_weights(path).items()}
        if isinstance(network, PGGAN):
            found = {name: value for name, value in found.items() if not _is_smaller_rgb(name, theirs)}
        masks = {_renamed(name, theirs).removesuffix(MASK): found[name] for name in found if name.endswith(MASK)}
        others = {_renamed(name, theirs): found[name] for name in found if not name.endswith(MASK)}
        if isinstance(network, Skip) and not others and found.keys() & {f"{name}.weight{MASK}" for name in theirs}:
            masks = {name: mask for name, mask in masks.items() if name not in network.weight_groups()["input"]}
        if not masks:
            raise ValueError("it holds no mask, a name that ends in _mask; try the state dict of a pruned network")
        kept = Mask({name: _bools(name, mask) for name, mask in masks.items()})
        return Ticket(kept, _masked(others, kept, network) if others else None, about)


def skip_modules(network: Skip) -> dict[str, str]:
    """The modules of the published skip network (`models/skip.py` of DmitryUlyanov/deep-image-prior, which the LIP code
    copies), by their names there: ours.

    There every scale is a list that counts from 1: skip and deeper path side by side, norm, convolution, norm,
    activation, 1x1 convolution, norm, activation. The deeper path holds the next scale as its seventh. A convolution
    comes second after its padding, so the first skip is ``1.0.1.1`` and the first halving ``1.1.1.1``.
    """
    names: dict[str, str] = {}
    outer = ""
    for index, scale in enumerate(network.scales):
        inner = f"{outer}1." if scale.skip is None else f"{outer}1.1."
        steps = {"halve": (f"{inner}1.1", f"{inner}2"), "deepen": (f"{inner}4.1", f"{inner}5")}
        steps |= {"join": (f"{outer}3.1", f"{outer}4"), "mix": (f"{outer}6.1", f"{outer}7")}
        steps |= {"skip": (f"{outer}1.0.1.1", f"{outer}1.0.2")}
        for step, (conv, norm) in steps.items():
            if isinstance(getattr(scale, step), Step):
                names |= {conv: f"scales.{index}.{step}.conv", norm: f"scales.{index}.{step}.norm"}
        names[f"{outer}2"] = f"scales.{index}.norm"
        outer = f"{inner}7."
    last = "9.1" if isinstance(network.scales[0].mix, Step) else "6.1"
    return names | {last: "output"}


def zoo_modules(network: PGGAN) -> dict[str, str]:
    """The modules of pytorch_GAN_zoo's PGGAN that draw at the largest side, by their names there: ours."""
    scales = range(len(network.doublings))
    names = {f"scaleLayers.{scale}.{half}": f"doublings.{scale}.{half}" for scale in scales for half in (0, 1)}
    names |= {"formatLayer": "format", "groupScale0.0": "start", f"toRGBLayers.{len(scales)}": "rgb"}
    return {f"{theirs}.module": ours for theirs, ours in names.items()}


def _is_smaller_rgb(name: str, theirs: Mapping[str, str]) -> bool:
    """Whether it is of a layer that gives colours only while the network grows."""
    return name.startswith("toRGBLayers.") and name.rpartition(".")[0] not in theirs


def _renamed(name: str, theirs: Mapping[str, str]) -> str:
    """Our name of a tensor; what is unknown keeps its own."""
    module, _, leaf = name.rpartition(".")
    return f"{theirs.get(module, module)}.{leaf}"


def _bools(name: str, mask: Tensor) -> Tensor:
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"the mask of {name!r:.80} has other values than 0 and 1; try the mask that was applied")
    return mask != 0


def _masked(others: Mapping[str, Tensor], mask: Mask, network: Prunable) -> dict[str, Tensor]:
    """The state dict of the network: what was masked as it computes with it, and no statistics where its norms take
    those of the image."""
    known = network.state_dict().keys()
    state = {name.removesuffix(ORIGINAL): value for name, value in without_counters(others).items()}
    state = {name: value for name, value in state.items() if name in known or not name.endswith(STATISTICS)}
    for name, kept in mask.kept.items():
        if name in state and state[name].shape == kept.shape:
            state[name] = torch.where(kept, state[name], 0)
    return state
