"""Weight files, read without ever running code from them."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from cs_lip.files import atomic_path
from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.layouts import recognise


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


def read_blueprint(path: Path) -> Blueprint:
    """What a weight file makes: as its metadata say, where cs-lip wrote it, else as its keys tell (`recognise`).

    Raises:
        ValueError: as `read_weights` and `recognise`.
    """
    state = read_weights(path)
    metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
    if "settings" not in metadata:
        return recognise(state)
    try:
        settings = json.loads(metadata["settings"])
        return Blueprint(metadata["architecture"], dict(settings), state)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"the metadata of {path} do not say how to build it; try the file as it was written") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a whole safetensors file; empty where it has none."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def write_blueprint(path: Path, blueprint: Blueprint, metadata: Mapping[str, str]) -> None:
    """Write a blueprint as one safetensors file with ``metadata``, atomically; `read_blueprint` reads it."""
    own = {"architecture": blueprint.architecture, "settings": json.dumps(blueprint.settings)}
    state = {name: value.detach().contiguous() for name, value in blueprint.state.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save_safetensors(state, metadata={**metadata, **own}))


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
