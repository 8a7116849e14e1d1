"""Weight files, read without ever running code from them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cs_lip.files import atomic_path
from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.layouts.recognise import NO_OPTIONS, NVLABS, Options, recognise, taken_options
from cs_lip.priors.reading.archives import read_npz
from cs_lip.priors.reading.formats import Format, format_of
from cs_lip.priors.reading.nvlabs import blueprint_from_nvlabs
from cs_lip.priors.reading.pickles import load_pytorch_legacy, load_pytorch_zip
from cs_lip.priors.reading.states import choose_state, own_copies

MAX_HEADER = 2**22
"""Bytes of a safetensors header, enough for ten thousands of tensors."""

BLUEPRINT, MAX_SETTINGS = "cs_lip_blueprint", 4096
"""The name under which a file's metadata say how to build the generator, as JSON, and how many characters at most."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a generator in a weight file by name: safetensors, npz, or either of PyTorch's formats.

    A PyTorch file may hold the state dict itself, or several under names, as training scripts save them: see
    `choose_state`.

    Raises:
        ValueError: the file is missing, damaged, too large, of a format that holds no state dict, holds pickled code,
            a name twice, or claims more values than it has.
    """
    match format_of(path):
        case Format.SAFETENSORS:
            read_metadata(path)
            try:
                state = load_file(path)
            except (SafetensorError, OSError, KeyError) as error:
                raise _damaged(path, error) from None
        case Format.NPZ:
            state = read_npz(path)
        case Format.PYTORCH_ZIP:
            state = choose_state(load_pytorch_zip(path), path)
        case Format.PYTORCH_LEGACY:
            state = choose_state(load_pytorch_legacy(path), path)
        case network:
            raise ValueError(f"{path} is {network}, which holds a network and no state dict; try load_generator")
    return own_copies(state, path)


def read_blueprint(path: Path, options: Options = NO_OPTIONS) -> Blueprint:
    """What a weight file makes: as its metadata say, where cs-lip wrote it, else as its keys tell (`recognise`).

    Args:
        options: what a foreign file does not say; a file that cs-lip wrote takes none.

    Raises:
        ValueError: as `read_weights` and `recognise`; the message names the file.
    """
    with naming(path):
        found = format_of(path)
        if found is Format.NVLABS:
            blueprint = blueprint_from_nvlabs(path.read_bytes(), **taken_options(options, NVLABS))
            return replace(blueprint, layout=NVLABS.name)
        metadata = read_metadata(path) if found is Format.SAFETENSORS else {}
        if BLUEPRINT not in metadata:
            return recognise(read_weights(path), options)
        if options != NO_OPTIONS:
            raise ValueError(f"{path} was written by cs-lip and says itself how to build it; try without options")
        return _own_blueprint(path, metadata)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name in front of the sentences that lack it."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty where it has none.

    Raises:
        ValueError: its header is damaged, absurdly large, or has a name twice.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, size - 8):
            raise ValueError(
                f"{path} is not a whole safetensors file (it claims a header of {length} bytes); try to fetch it again"
            )
        try:
            header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, error) from None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "no table of names")
    return metadata


def write_blueprint(path: Path, blueprint: Blueprint) -> None:
    """Write a blueprint as one safetensors file, atomically, the same bytes every time; `read_blueprint` reads it.

    Raises:
        ValueError: its settings are no JSON, or longer than what is read again.
    """
    # One entry, since the library writes several in an order that changes from run to run.
    own = {"architecture": blueprint.architecture, "settings": blueprint.settings, "layout": blueprint.layout}
    try:
        text = json.dumps(own, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the settings of a blueprint must be JSON ({error!s:.80}); try plain numbers") from None
    if len(text) > MAX_SETTINGS:
        raise ValueError(
            f"the settings of this {blueprint.architecture} take {len(text)} characters, more than the {MAX_SETTINGS} "
            "that are read again; try a network of fewer layers"
        )
    # Tied weights would share memory, which a file cannot.
    state = {name: value.detach().clone().contiguous() for name, value in blueprint.state.items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={BLUEPRINT: text})


def _own_blueprint(path: Path, metadata: Mapping[str, str]) -> Blueprint:
    try:
        own = json.loads(metadata[BLUEPRINT]) if len(metadata[BLUEPRINT]) <= MAX_SETTINGS else None
    except (ValueError, RecursionError):
        own = None
    kinds = {"architecture": str, "settings": dict, "layout": str}
    if not isinstance(own, dict) or {name: type(value) for name, value in own.items()} != kinds:
        raise ValueError(f"the metadata of {path} do not say how to build it; try the file as it was written")
    return Blueprint(own["architecture"], own["settings"], read_weights(path), own["layout"])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {name!r:.60} is there twice")
    return table


def _damaged(path: Path, reason: object) -> ValueError:
    text = " ".join(str(reason).split())[:120]
    return ValueError(f"{path} is not a whole safetensors file ({text}); try to fetch it again")
