"""Network pickles as NVlabs' stylegan2-ada-pytorch publishes them, read without running anything that is in them.

Such a file is a pickled dictionary with the networks ``G``, ``D`` and ``G_ema``. Each is a call of
``torch_utils.persistence._reconstruct_persistent_obj`` with a dictionary of ``module_src``, the source of the module
that defines its class, which the original executes, ``class_name``, and ``state``, the attributes of the object. Here
the pickle is only `interpret`-ed, and the tensors are taken from where the attributes of a module hold them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.layouts.stylegan2 import from_nvlabs, is_nvlabs
from cs_lip.priors.reading.inert import Made, Name, Outside, interpret

MAX_PARTS = 500
"""Modules of a network, and attributes of a module; published ones have less than a hundred."""
MAX_NAME = 100
"""Characters of a name of one of them."""
EXPECTED = {"activation": "lrelu", "architecture": "skip"}
"""What the layers must say of themselves, linear ones aside."""
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
TABLES = ("collections.OrderedDict", "dnnlib.util.EasyDict")
"""What stands for a dictionary beside a dictionary."""
DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
}
"""The dtype of every kind of storage that a generator's weights are kept in."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True, eq=False)
class PickledNetwork:
    """A network out of such a pickle.

    Attributes:
        state: its state dict.
        attributes: the plain values among the attributes of its modules, by the module's name and theirs, such as
            ``synthesis.b8.conv0.conv_clamp``.
        init_kwargs: the arguments that it was made with, as far as they are plain values.
    """

    state: dict[str, Tensor] = field(repr=False)
    attributes: dict[str, Any] = field(repr=False)
    init_kwargs: dict[str, Any]


def read_nvlabs(content: bytes) -> PickledNetwork:
    """The network ``G_ema`` of a pickle: the generator with averaged weights.

    Raises:
        ValueError: the pickle is damaged, holds no such network, or claims more values than it holds.
    """
    networks = _table(interpret(BytesIO(content)))
    if "G_ema" not in networks:
        shown = ", ".join(repr(str(name)[:30]) for name in list(networks)[:5])
        raise ValueError(
            "this is no network pickle of NVlabs' stylegan2-ada-pytorch, the only pickles that are read: it holds no "
            f"network 'G_ema' but {shown or 'no networks'}; try the generator's state dict, saved by torch.save or as "
            "safetensors, or legacy.py of stylegan2-ada-pytorch on a pickle of TensorFlow"
        )
    network = networks["G_ema"]
    state, attributes = _flattened(network, len(content))
    return PickledNetwork(state, attributes, _plain(_attributes(network).get("_init_kwargs")) or {})


def blueprint_from_nvlabs(content: bytes, **options: Any) -> Blueprint:
    """The generator of a pickle.

    Args:
        content: the file's bytes.
        options: ``label`` and ``space``, as `cs_lip.priors.layouts.stylegan2.from_nvlabs` takes them.

    Raises:
        ValueError: as `read_nvlabs`, or its network is no StyleGAN2 with skip connections and leaky ReLUs.
    """
    network = read_nvlabs(content)
    if not is_nvlabs(network.state):
        raise ValueError(
            f"the network has weights such as {sorted(network.state)[:2]}, which are not a StyleGAN2's; "
            "try a network pickle of stylegan2-ada-pytorch"
        )
    for name, value in network.attributes.items():
        layer, _, attribute = name.rpartition(".")
        if attribute in EXPECTED and not layer.endswith(("affine", "embed")) and value != EXPECTED[attribute]:
            raise ValueError(
                f"the network's {name[:80]} is {str(value)[:40]!r}, expected {EXPECTED[attribute]!r}; "
                "try a network of one of the published configurations"
            )
    clamps = {value for name, value in network.attributes.items() if name.endswith(".conv_clamp")}
    if len(clamps) > 1:
        raise ValueError(f"the layers are clamped at {len(clamps)} different values, expected one; try another network")
    rate = network.attributes.get("mapping.fc0.bias_gain", 0.01)
    if not isinstance(rate, float) or not 0 < rate <= 1:
        raise ValueError(f"the mapping's learning rate is {rate!r:.40}, expected 0.01 or so; try an undamaged file")
    return from_nvlabs(network.state, rate=rate, clamp=clamps.pop() if clamps else None, **options)


def _flattened(network: Any, available: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the plain attributes of a network and of all modules in it, by their dotted names.

    Raises:
        ValueError: something is not what a network is made of, or there is more of it than ``available`` bytes.
    """
    state: dict[str, Tensor] = {}
    attributes: dict[str, Any] = {}
    pending, seen = [("", network)], 0
    while pending:
        prefix, module = pending.pop()
        own = _attributes(module)
        tensors = {**_table(own.get("_parameters")), **_table(own.get("_buffers"))}
        children = _table(own.get("_modules"))
        # Modules that hold one another, or the same one over and over, would never end.
        seen += 1
        _check_size(seen, prefix, own, tensors, children)
        for name, value in tensors.items():
            if value is not None:
                data, view = _described(value)
                available -= len(data)
                if available < 0:
                    raise ValueError("the weights claim more bytes than the pickle has; try an undamaged file")
                state[f"{prefix}{name}"] = _tensor(data, *view)
        attributes |= {f"{prefix}{name}": value for name, value in own.items() if _is_plain(value)}
        pending += [(f"{prefix}{name}.", child) for name, child in children.items() if child is not None]
    return state, attributes


def _check_size(seen: int, prefix: str, *tables: Mapping[Any, Any]) -> None:
    """Refuse what no network has: too many modules, or too many or too long names in one of them.

    Raises:
        ValueError: it has.
    """
    if max(seen, *map(len, tables)) > MAX_PARTS or len(prefix) > 10 * MAX_NAME:
        raise ValueError(f"a network has more than {MAX_PARTS} parts; try the file as its author published it")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for table in tables for name in table):
        raise ValueError("a part of the network has a name that is no short text; try an undamaged file")


def _attributes(module: Any) -> Mapping[Any, Any]:
    """What a module keeps under names."""
    if not isinstance(module, Made):
        raise ValueError(f"a {type(module).__name__} is where a network's module was expected; try an undamaged file")
    if module.path == PERSISTENT:
        return _table(_table(*module.arguments[:1]).get("state"))
    return _table(module.state)


def _table(value: Any = None) -> Mapping[Any, Any]:
    """A dictionary, or what stands for one; empty where it is neither."""
    if isinstance(value, Made) and value.path in TABLES:
        return value.items
    return value if isinstance(value, dict) else {}


def _described(value: Any) -> tuple[bytes, tuple[Any, ...]]:
    """Of a call that makes a tensor, or a parameter of one: the bytes of its storage, and offset, shape and strides.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, Made) and value.path == "torch._utils._rebuild_parameter":
        value = value.arguments[0] if value.arguments else None
    if not isinstance(value, Made) or value.path != "torch._utils._rebuild_tensor_v2" or len(value.arguments) < 4:
        raise ValueError("something else is where a weight was expected; try an undamaged file")
    storage, *view = value.arguments[:4]
    if isinstance(storage, Made) and storage.path == "torch.storage._load_from_bytes" and len(storage.arguments) == 1:
        (data,) = storage.arguments
        if isinstance(data, bytes):
            return data, tuple(view)
    raise ValueError("something else is where a weight's values were expected; try an undamaged file")


def _tensor(data: bytes, offset: Any, shape: Any, strides: Any) -> Tensor:
    """The tensor of such a shape on such a storage.

    Raises:
        ValueError: the storage is damaged or smaller than that.
    """
    values = _storage(data)
    lengths = (offset, *shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else (None,)
    if not all(type(length) is int and 0 <= length < 2**40 for length in lengths) or len(shape) != len(strides):
        raise ValueError("a weight has no shape of whole numbers; try an undamaged file")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    # A stride of 0 would make any number of values out of one, so their number is looked at as well.
    if len(shape) > 8 or 0 in shape or last >= len(values) or math.prod(shape) > len(values):
        raise ValueError(
            f"a weight of shape {shape[:8]} does not lie within the {len(values)} values there; try an undamaged file"
        )
    return torch.as_strided(values, shape, strides, offset)


def _storage(data: bytes) -> Tensor:
    """The values of a storage, as `torch.save` wrote it before version 1.6 and still does inside a pickle.

    There are five pickles: a magic number, the version, the machine, a reference ``("storage", kind, key, place,
    count)``, and the keys. The count and the values themselves follow.

    Raises:
        ValueError: it is not that, or has more or fewer values than it says.
    """
    file = BytesIO(data)
    magic, _, _, root, _ = (interpret(file) for _ in range(5))
    reference = root.reference if isinstance(root, Outside) else None
    kind = reference[1] if isinstance(reference, tuple) and len(reference) > 4 else None
    dtype = DTYPES.get(kind.path) if isinstance(kind, Name) else None
    if magic != LEGACY_MAGIC or reference is None or dtype is None:
        raise ValueError("a weight's values are of no known format; try a network pickle of stylegan2-ada-pytorch")
    count, values = int.from_bytes(file.read(8), "little"), bytearray(file.read())
    if count != reference[4] or count * dtype.itemsize != len(values) or not count:
        raise ValueError(f"a storage of {count} values has {len(values)} bytes; try an undamaged file")
    return torch.frombuffer(values, dtype=dtype)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or value is None or (isinstance(value, str) and len(value) <= MAX_NAME)


def _plain(value: Any, depth: int = 3) -> Any:
    """The part of a value that is JSON-able, without tables and lists that are long or deep."""
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value] if depth and len(value) <= 50 else None
    table = _table(value)
    if table and depth and len(table) <= 50:
        return {
            name: _plain(item, depth - 1) for name, item in table.items() if isinstance(name, str) and _is_plain(name)
        }
    return value if _is_plain(value) else None
