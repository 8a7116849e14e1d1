"""From tickets to networks that are ready to use, and from one network to another.

Mask transfer takes the mask alone and leaves the other network its own weights; ticket transfer takes the values too.
How far either carries across images and tasks is asked by Wu, Chen, Jiang & Wang (TMLR 2023, arXiv 2410.24187).
"""

import copy
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from cs_lip.priors.blueprint import fill
from cs_lip.priors.catalogue import find_entry, load_generator
from cs_lip.priors.generator import Generator
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.reading.weights import read_blueprint
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.priors.untrained.registry import untrained_network
from cs_lip.tickets.fit import Report, Shapes, compared
from cs_lip.tickets.mask import Density
from cs_lip.tickets.ticket import About, Ticket, skeleton, without_counters

Network = TypeVar("Network", bound=Prunable)


def about_generator(name: str) -> About:
    """What a ticket of a generator of the catalogue, bundled or the user's own, says of its dense prior.

    Raises:
        ValueError: there is none of that name, or it is of no architecture that a ticket can be of.
    """
    entry = find_entry(name)
    blueprint = read_blueprint(entry.path)
    return About(name, "generator", blueprint.architecture, blueprint.settings, entry.sha256)


def about_untrained(name: str, image_shape: Sequence[int], seed: int = 0, **settings: Any) -> About:
    """What a ticket of an untrained network says of it; the arguments are those of `untrained_network`.

    Raises:
        ValueError: as `untrained_network`.
    """
    digest = state_sha256(untrained_network(name, image_shape, seed, **settings))
    whole = {"image_shape": list(image_shape)} | settings
    return About(name, "untrained", name, whole, digest, seeds={"weights": seed})


def state_sha256(network: Prunable) -> str:
    """The SHA-256 of a state dict, names, shapes and numbers, in lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(without_counters(network.state_dict()).items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def ticketed(ticket: Ticket) -> Generator | UntrainedNetwork:
    """The network of a ticket on the CPU, its mask held: with the ticket's values, or where it has none with the dense
    prior's own weights, found by name and verified.

    Raises:
        ValueError: the dense prior is not there, or has other weights than those that the mask was found in.
    """
    if ticket.about.kind == "untrained":
        return ticketed_for(ticket, ticket.about.settings["image_shape"])
    network: Prunable
    if ticket.values is None:
        network = _base_generator(ticket.about)
    else:
        network = fill(skeleton(ticket.about), ticket.values, "the ticket's")
    assert isinstance(network, Generator)
    ticket.mask.apply_(network)
    return network


def ticketed_for(ticket: Ticket, image_shape: Sequence[int]) -> UntrainedNetwork:
    """As `ticketed`, for images of another shape: the weights of an untrained network hardly depend on it.

    Without values the weights are the initial ones of the ticket's own seed. They are verified where the network draws
    as many channels as the one in which the mask was found, so that all of them have the same shapes.

    Args:
        image_shape: ``(channels, height, width)``.

    Raises:
        ValueError: the ticket is of a generator, the images are too small, what is transferred does not fit, or the
            initial weights are others.
    """
    about = ticket.about
    if about.kind != "untrained":
        raise ValueError(f"the ticket is of the generator {about.prior!r:.80}, expected an untrained network; try skip")
    settings = dict(about.settings)
    found_for = settings.pop("image_shape")
    network = untrained_network(about.architecture, tuple(image_shape), about.seeds.get("weights", 0), **settings)
    if ticket.values is not None:
        return values_onto(ticket, network)
    if image_shape[0] == found_for[0]:
        _check_base(about, state_sha256(network))
    return mask_onto(ticket, network)


def measured_layers(network: Prunable, also: Iterable[str] = ()) -> dict[str, Density]:
    """How many weights of every layer that may be pruned are not zero, of how many, whatever a file says of it.

    Args:
        also: other parameters to count, by name, such as the biases that masks of channels prune with their channels.
    """
    names = _prunable(network) | set(also)
    layers = {name: values for name, values in network.named_parameters() if name in names}
    return {name: Density(int(values.count_nonzero()), values.numel()) for name, values in layers.items()}


def mask_report(ticket: Ticket, network: Prunable) -> Report:
    """How the mask fits a network: the layers that it prunes, and those that the network may prune beyond the ones that
    the mask leaves dense. The other tensors may have any shapes."""
    left_dense = _prunable(skeleton(ticket.about)) - ticket.mask.kept.keys()
    looked_at = (_prunable(network) - left_dense) | ticket.mask.kept.keys()
    there = {name: tuple(value.shape) for name, value in network.named_parameters() if name in looked_at}
    return compared({name: tuple(kept.shape) for name, kept in ticket.mask.kept.items()}, there)


def values_report(ticket: Ticket, network: Prunable) -> Report:
    """How the state dict fits a network, every tensor of either.

    Raises:
        ValueError: the ticket has no values.
    """
    return compared(_shapes(_values(ticket)), _shapes(without_counters(network.state_dict())))


def mask_onto(ticket: Ticket, network: Network) -> Network:
    """Mask transfer: a copy of a network, with its own weights where the mask keeps them and zeros held elsewhere.

    Raises:
        ValueError: the mask does not fit; see `mask_report`.
    """
    mask_report(ticket, network).check("the mask")
    masked = copy.deepcopy(network)
    ticket.mask.apply_(masked)
    return masked


def values_onto(ticket: Ticket, network: Network) -> Network:
    """Ticket transfer: a copy of a network with the ticket's weights, the mask held.

    Raises:
        ValueError: the ticket has no values, or they do not fit; see `values_report`.
    """
    values_report(ticket, network).check("the state dict")
    moved = copy.deepcopy(network)
    moved.load_state_dict(moved.state_dict() | _values(ticket))
    ticket.mask.apply_(moved)
    return moved


def _values(ticket: Ticket) -> dict[str, Tensor]:
    if ticket.values is None:
        raise ValueError("the ticket is a mask alone, without values to transfer; try mask_onto")
    return dict(ticket.values)


def _base_generator(about: About) -> Generator:
    entry = find_entry(about.prior)
    _check_base(about, entry.sha256)
    return load_generator(about.prior)


def _check_base(about: About, found: str) -> None:
    if found != about.base_sha256:
        raise ValueError(
            f"the ticket's mask was found in weights of {about.prior!r:.80} with SHA-256 {about.base_sha256:.12}..., "
            f"those here have {found:.12}...; try the weights that it was found in, or mask_onto in Python"
        )


def _prunable(network: Prunable) -> set[str]:
    return {name for names in network.weight_groups().values() for name in names}


def _shapes(state: dict[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in state.items()}
