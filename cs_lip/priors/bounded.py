"""A bound on the memory that a foreign network takes when it draws."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

UNKNOWN_BEFORE = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
"""Operations whose results have no size before they are run, but never many times that of their arguments."""


class TooLargeError(Exception):
    """What a network needs too much of."""


class Bounded(TorchDispatchMode):
    """Looks at the size of every tensor before it is made, and refuses those beyond the limits.

    A few bytes of weights, or of a graph that computes its shapes, can ask for all memory. So each operation first runs
    on shapes alone.

    Args:
        alive: bytes of the tensors at a time, those made before the block aside; a view counts like a copy.
        made: bytes of all tensors that are made on the way.
    """

    def __init__(self, alive: int, made: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = (alive, made)
        self._alive: Any = WeakIdKeyDictionary()
        self._made = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in UNKNOWN_BEFORE:
            on_shapes = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            makes = any(argument.name == "device" for argument in function._schema.arguments)
            self._check(function(*on_shapes[0], **on_shapes[1] | ({"device": "meta"} if makes else {})))
        made = function(*args, **kwargs)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._alive[tensor] = tensor.nbytes
        return made

    def _check(self, made: Any) -> None:
        size = sum(tensor.nbytes for tensor in tree_leaves(made) if isinstance(tensor, Tensor))
        self._made += size
        alive, all_made = self._most
        if size + sum(self._alive.values()) > alive or self._made > all_made:
            raise TooLargeError(f"needs more than {alive} bytes at a time, or {all_made} on the way, to draw")
