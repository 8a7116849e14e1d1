"""Tickets: a mask with where it came from, and the values of the weights where they were retrained; and their file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from cs_lip.files import atomic_path, check_kind
from cs_lip.priors.architectures import ARCHITECTURES, generator_shapes
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.reading.formats import Format, format_of
from cs_lip.priors.reading.weights import read_metadata, read_weights
from cs_lip.priors.untrained.registry import UNTRAINED, shapes_alone
from cs_lip.tickets.fit import Shapes, compared
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.packing import pack, unpack

METADATA, KIND, FORMAT = "cs_lip_ticket", "cs-lip ticket", 1
"""The name under which a file says what it is, as JSON; what it then says that it is; and the layout of that."""

SUFFIX = ".safetensors"

MAX_ABOUT = 2**16
"""Characters of what a ticket says of itself."""

MAX_SETTING, MAX_VALUES = 2**14, 2**28
"""The largest number among the settings of a network, and the values of the largest network (1 GiB): a file of few
bytes could ask for any."""

Kind = Literal["generator", "untrained"]


@dataclass(frozen=True)
class About:
    """Where a ticket came from; JSON-able.

    Attributes:
        prior: the name of the dense prior, such as ``digiface-dcgan`` in the catalogue, or ``skip``.
        kind: whether that is a generator of the catalogue or an untrained network.
        architecture, settings: what builds the network, see `cs_lip.priors.architectures.ARCHITECTURES` and
            `cs_lip.priors.untrained.registry.UNTRAINED`; the settings of the latter have the ``image_shape`` too.
        base_sha256: of the dense prior's weights: the catalogue's for a generator; for an untrained network
            `cs_lip.tickets.transfer.state_sha256` of the initial ones, whose seed is ``seeds["weights"]``.
        granularity, criterion, allocation, schedule, rewind: how the mask was found.
        seeds: of everything random, by name.
        data: what was used to find it, or ``none``.
        parent: the SHA-256 of the mask that this one was pruned from; empty for the first.
        versions: of what it was found with.
        created: when, in UTC.

    Raises:
        ValueError: a field of another type, text that cannot be shown, no such kind or architecture, settings of absurd
            size, or what is no JSON.
    """

    prior: str
    kind: Kind
    architecture: str
    settings: dict[str, Any]
    base_sha256: str
    granularity: str = "weight"
    criterion: str = ""
    allocation: str = ""
    schedule: dict[str, Any] = field(default_factory=dict)
    rewind: str = ""
    seeds: dict[str, int] = field(default_factory=dict)
    data: str = "none"
    parent: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        """Refuse what no file could hold."""
        for name, value in ((each.name, getattr(self, each.name)) for each in fields(self)):
            expected = dict if name in TABLES else str
            if not isinstance(value, expected):
                raise ValueError(f"a ticket's {name} must be a {expected.__name__}, got {value!r:.60}; try About(...)")
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"a ticket's {name} has letters that cannot be shown, got {value!r:.60}; try others")
        known = {"generator": tuple(ARCHITECTURES), "untrained": tuple(UNTRAINED)}
        if self.architecture not in known.get(self.kind, ()):
            raise ValueError(
                f"there is no {self.architecture!r:.40} of kind {self.kind!r:.40}; try one of "
                f"{', '.join([*ARCHITECTURES, *UNTRAINED])}"
            )
        try:
            text = json.dumps(asdict(self), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"what a ticket says of itself is no JSON ({error!s:.80}); try texts and numbers"
            ) from None
        if len(text) > MAX_ABOUT:
            raise ValueError(f"a ticket says {len(text)} characters of itself, it may say {MAX_ABOUT}; try fewer")
        if max(_numbers(self.settings), default=0) > MAX_SETTING:
            raise ValueError(f"the settings of a ticket have numbers above {MAX_SETTING}; try a smaller network")
        # Tuples are lists in a file, so that what was read equals what was written.
        for name in TABLES:
            object.__setattr__(self, name, json.loads(text)[name])


TABLES = ("settings", "schedule", "seeds", "versions")
"""The fields of `About` that are tables; the others are texts."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A sparse subnetwork of a prior.

    Attributes:
        mask: on the network that ``about`` builds, unfolded and not compacted.
        values: the whole state dict of the network that was retrained, zero where the mask keeps nothing; None for a
            mask alone, which goes with the dense prior's own weights. Counters of batches play no part.
        about: where it came from.

    Raises:
        ValueError: names or shapes are not that network's, or the values are not finite or not zero where pruned.
    """

    mask: Mask
    values: Mapping[str, Tensor] | None
    about: About

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        network = skeleton(self.about)
        parameters = {name: tuple(value.shape) for name, value in network.named_parameters()}
        masked = {name: tuple(kept.shape) for name, kept in self.mask.kept.items()}
        compared(masked, {name: shape for name, shape in parameters.items() if name in masked}).check("the mask")
        if self.values is None:
            return
        object.__setattr__(self, "values", without_counters(self.values))
        there = {name: tuple(value.shape) for name, value in without_counters(network.state_dict()).items()}
        compared({name: tuple(value.shape) for name, value in self.values.items()}, there).check("the state dict")
        for name, value in self.values.items():
            if not value.is_floating_point() or not torch.isfinite(value).all():
                raise ValueError(f"the values of {name!r:.80} are not finite real numbers; try an undamaged network")
            if name in masked and value[~self.mask.kept[name].to(value.device)].any():
                raise ValueError(f"the mask prunes weights of {name!r:.80} that are not zero; try project_() first")

    @property
    def sha256(self) -> str:
        """Of the mask; see `cs_lip.tickets.mask.Mask.sha256`."""
        return self.mask.sha256


def skeleton(about: About) -> Prunable:
    """The dense network of a ticket on the device ``meta``: names and shapes, no numbers, no memory.

    Raises:
        ValueError: the settings make none, or an absurdly large one.
    """
    if about.kind == "generator":
        network: Prunable = generator_shapes(about.architecture, about.settings)
    else:
        settings = dict(about.settings)
        network = shapes_alone(about.architecture, settings.pop("image_shape", ()), settings)
    total = sum(math.prod(value.shape) for value in network.state_dict().values())
    if total > MAX_VALUES:
        raise ValueError(f"the network of a ticket has {total} values, it may have {MAX_VALUES}; try a smaller one")
    return network


def without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without how many batches its norms have seen, which plays no part in drawing images."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def write_ticket(path: Path, ticket: Ticket) -> None:
    """Write a ticket as one safetensors file, atomically, the same bytes every time; `read_ticket` reads it.

    Masked weights are kept in half precision; see `cs_lip.tickets.packing`.

    Raises:
        ValueError: a weight is beyond half precision.
    """
    shapes = {name: list(kept.shape) for name, kept in ticket.mask.kept.items()}
    own = {"kind": KIND, "format": FORMAT, "about": asdict(ticket.about), "shapes": shapes}
    tensors = pack(ticket.mask, ticket.values)
    # One entry, since the library writes several in an order that changes from run to run.
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA: json.dumps(own, sort_keys=True)})


def read_ticket(path: Path) -> Ticket:
    """The ticket in a file that `write_ticket` wrote, on the CPU and in float32; nothing in it is ever executed.

    Raises:
        ValueError: no such file, a pickle or another format, of another kind or a later format, or damaged: truncated,
            wrong counts or shapes, a layer without a weight, values that are not finite, absurd sizes.
    """
    own = _own(path)
    try:
        mask, values = unpack(read_weights(path), _shapes(own.get("shapes")))
        return Ticket(mask, values, _about(own.get("about")))
    except ValueError as error:
        reason = str(error).removeprefix(f"{path} ").partition("; try")[0]
        raise ValueError(f"the ticket {path} is damaged ({reason:.240}); try to fetch it again") from None


def _own(path: Path) -> dict[str, Any]:
    """What a file says of itself, of this kind and format."""
    if not path.is_file():
        raise ValueError(f"there is no ticket {path}; try `cs-lip tickets` for the ones that are known by name")
    found = format_of(path)
    if found is not Format.SAFETENSORS:
        raise ValueError(
            f"{path} is of the format {found}, a ticket is safetensors, so nothing in it was loaded; try "
            "`cs-lip tickets import` where it holds masks"
        )
    metadata = read_metadata(path)
    if METADATA not in metadata:
        raise ValueError(f"{path} holds tensors and no ticket; try `cs-lip tickets import` where it holds masks")
    try:
        own = json.loads(metadata[METADATA])
    except (ValueError, RecursionError):
        own = None
    if not isinstance(own, dict):
        raise ValueError(f"the ticket {path} does not say what it is; try to fetch it again")
    check_kind(path, own.get("kind"), own.get("format"), (KIND,), FORMAT, "a ticket that `cs-lip prune` wrote")
    return own


def _shapes(given: object) -> Shapes:
    table = given if isinstance(given, dict) else {}
    for shape in table.values():
        if not isinstance(shape, list) or not all(type(length) is int and length > 0 for length in shape):
            raise ValueError("its shapes are not positive lengths")
    return {name: tuple(shape) for name, shape in table.items()}


def _about(given: object) -> About:
    if not isinstance(given, dict) or given.keys() != {each.name for each in fields(About)}:
        raise ValueError("it does not say where it came from")
    return About(**given)


def _numbers(value: object) -> list[float]:
    """All numbers in lists and tables of lists."""
    if isinstance(value, int | float):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [number for each in inner for number in _numbers(each)]
