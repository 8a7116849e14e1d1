"""The tensors of a ticket file: masks as bits, and of masked weights the kept values alone."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cs_lip.tickets.fit import Shapes
from cs_lip.tickets.mask import Mask

MASK, KEPT, STATE = "mask/", "kept/", "state/"
"""What the names in a file begin with: a mask's bits (uint8), a masked weight's kept values in order (float16), and
any other tensor of the state dict (float32)."""


def pack(mask: Mask, values: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The tensors of a file; `unpack` is its inverse, but for the rounding of weights to half precision.

    Eight bools make a byte, the first the highest bit, and the last byte is filled up with zeros.

    Args:
        values: a state dict, or None for a mask alone.

    Raises:
        ValueError: a kept weight is beyond half precision.
    """
    tensors = {MASK + name: torch.from_numpy(np.packbits(_bools(kept))) for name, kept in mask.kept.items()}
    for name, value in (values or {}).items():
        value = value.detach().cpu()
        if name not in mask.kept:
            tensors[STATE + name] = value.float().contiguous()
            continue
        tensors[KEPT + name] = value[mask.kept[name].cpu()].half()
        if not tensors[KEPT + name].isfinite().all():
            raise ValueError(
                f"the weights of {name!r:.80} reach {float(value.abs().max()):.3g}, beyond half precision, in which a "
                "ticket keeps them; try fewer steps of training, or another seed"
            )
    return tensors


def unpack(tensors: Mapping[str, Tensor], shapes: Shapes) -> tuple[Mask, dict[str, Tensor] | None]:
    """The mask and the state dict, in float32, in the tensors of a file; None for the second where it has a mask alone.

    No more memory is taken than eight times the file's masks and four times that for values.

    Args:
        shapes: of the masked weights.

    Raises:
        ValueError: a tensor is missing, unknown, of another kind, or has too few or too many values.
    """
    known = {MASK + name for name in shapes} | {KEPT + name for name in shapes}
    for name in tensors:
        if name not in known and not name.startswith(STATE):
            raise ValueError(f"it holds {name!r:.80}, which no ticket has")
    mask = Mask({name: _unpacked(name, tensors.get(MASK + name), shape) for name, shape in shapes.items()})
    if not any(name.startswith((KEPT, STATE)) for name in tensors):
        return mask, None
    values = {name.removeprefix(STATE): value.float() for name, value in tensors.items() if name.startswith(STATE)}
    for name, kept in mask.kept.items():
        found = tensors.get(KEPT + name)
        if found is None or found.dtype != torch.float16 or tuple(found.shape) != (int(kept.sum()),):
            raise ValueError(f"it has not one half-precision value for each kept weight of {name!r:.80}")
        if name in values:
            raise ValueError(f"it holds the weight {name!r:.80} twice")
        values[name] = torch.zeros(kept.shape).masked_scatter_(kept, found.float())
    return mask, values


def _bools(kept: Tensor) -> np.ndarray:
    flat: np.ndarray = kept.cpu().flatten().numpy()
    return flat


def _unpacked(name: str, packed: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    if packed is None or packed.dtype != torch.uint8 or tuple(packed.shape) != (-(-count // 8),):
        raise ValueError(f"it has not one bit for each of the {count} weights of {name!r:.80}")
    bits = np.unpackbits(packed.numpy())
    if bits[count:].any():
        raise ValueError(f"the mask of {name!r:.80} has more bits than the layer has weights")
    return torch.from_numpy(bits[:count].astype(bool)).reshape(shape)
