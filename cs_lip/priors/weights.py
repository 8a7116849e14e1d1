"""Weight files, read without ever running code from them."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name: safetensors, or a PyTorch file read with ``weights_only=True``.

    A PyTorch file may hold the state dict itself or exactly one state dict under some key, as training scripts save
    it beside the optimiser's.

    Raises:
        ValueError: the file is missing, damaged, holds no tensors, or holds pickled code.
    """
    if not path.is_file():
        raise ValueError(f"there is no weight file {path}; try `cs-lip generators` for the ones that are bundled")
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(path.read_bytes())
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}); try to fetch it again") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds pickled objects other than plain tensors, which could run code, so it was not loaded; "
            "try its state dict alone, saved as safetensors"
        ) from None
    except Exception as error:  # on damaged bytes PyTorch's reader raises nearly anything
        # Its own message may advise to switch the safe reading off, so only the kind of failure is passed on.
        kind = type(error).__name__
        raise ValueError(f"{path} is not a readable PyTorch weight file ({kind}); try to fetch it again") from None
    return _state_dict(content, path)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """The one mapping of names to tensors in ``content``, at the top or one level down."""
    candidates = [content, *content.values()] if isinstance(content, Mapping) else []
    states = [
        dict(value)
        for value in candidates
        if isinstance(value, Mapping)
        and value
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    ]
    if len(states) != 1:
        raise ValueError(
            f"{path} holds {len(states)} state dicts where exactly one was expected; "
            "try to save the generator's state dict alone, as safetensors"
        )
    return states[0]
