"""Learned starts on disk: an encoder beside the weights of the generator that it belongs to."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cs_lip.files import atomic_path
from cs_lip.priors.catalogue import Entry, find_entry, is_known, user_folder
from cs_lip.priors.encoder import Encoder
from cs_lip.priors.reading.weights import read_metadata, sha256_of

SUFFIX = ".start.safetensors"

METADATA, FORMAT = "cs_lip_start", 1
"""The name under which the file says what it is, as JSON, and the layout of that."""

MAX_SIZE = 2**30
"""Values of the largest tensor that the metadata may ask for."""

MAX_DEPTH = 100
"""Layers that they may ask for."""

ADVICE = "try `cs-lip train-start` again, with --overwrite"


@dataclass(frozen=True)
class StartFile:
    """Where a learned start lies, and which checksum it must have; none for one of the user's own."""

    path: Path
    sha256: str = ""


def own_start_path(name: str) -> Path:
    """Where a start that the user trains is kept, for a bundled generator too."""
    return user_folder() / f"{name}{SUFFIX}"


def find_start(entry: Entry) -> StartFile | None:
    """The learned start of a generator: the user's own before the bundled one, None where there is neither."""
    own = own_start_path(entry.name)
    if os.path.lexists(own):
        return StartFile(own)
    if entry.start_sha256:
        return StartFile(entry.path.with_name(f"{entry.name}{SUFFIX}"), entry.start_sha256)
    return None


def load_start(name_or_file: str | Path) -> Encoder | None:
    """The learned start of a generator, frozen and on the CPU; None where it has none, as a file without a name.

    Args:
        name_or_file: as for `load_generator`.

    Raises:
        ValueError: the learned start is damaged, has another checksum than the catalogue's, or belongs to other
            weights.
    """
    name = str(name_or_file)
    if isinstance(name_or_file, Path) or not is_known(name):
        return None
    entry = find_entry(name)
    start = find_start(entry)
    if start is None:
        return None
    if not start.path.is_file():
        raise ValueError(f"the learned start of {name!r} is missing at {start.path}; {ADVICE}")
    if start.sha256 and (found := sha256_of(start.path)) != start.sha256:
        raise ValueError(
            f"the learned start of {name!r} at {start.path} has SHA-256 {found[:12]}..., expected "
            f"{start.sha256[:12]}..., so the file is damaged or was swapped; try to install cs-lip again"
        )
    encoder, about = read_start(start.path)
    if about["generator_sha256"] != entry.sha256:
        raise ValueError(
            f"the learned start at {start.path} belongs to weights with SHA-256 {about['generator_sha256']:.12}..., "
            f"expected those of {name!r}, {entry.sha256[:12]}...; {ADVICE}"
        )
    return encoder


def write_start(path: Path, encoder: Encoder, entry: Entry, provenance: dict[str, Any]) -> None:
    """Write an encoder as one safetensors file, atomically and in half precision.

    Args:
        entry: of the generator that it belongs to.
        provenance: how it was trained, JSON-able.
    """
    about = {
        "format": FORMAT,
        "generator": entry.name,
        "generator_sha256": entry.sha256,
        "latent_shape": encoder.latent_shape,
        "image_shape": encoder.image_shape,
        "geometry": encoder.geometry,
        "components": encoder.components,
        "width": encoder.network.first.weight.shape[0],
        "depth": len(encoder.network.inner),
        "provenance": provenance,
    }
    tensors = {
        name: value.detach().to(torch.float16 if value.dim() > 1 or name == "mean" else torch.float32).contiguous()
        for name, value in encoder.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA: json.dumps(about)})


def read_start(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in a file that `write_start` wrote, in single precision, and what the file says of itself.

    Raises:
        ValueError: the file is damaged, or of another kind.
    """
    try:
        about = _about(path)
        with torch.device("meta"):  # no memory until the file has shown that it holds as much as it claims
            encoder = Encoder(
                about["latent_shape"],
                about["image_shape"],
                about["geometry"],
                components=about["components"],
                width=about["width"],
                depth=about["depth"],
            )
        tensors = {name: value.float() for name, value in load_file(path).items()}
        if not all(torch.isfinite(value).all() for value in tensors.values()):
            raise ValueError("it holds values that are not finite")
        encoder.load_state_dict(tensors, assign=True)
        if min(float(value.min()) for value in (encoder.variances, encoder.rest, encoder.spread)) <= 0:
            raise ValueError("it holds variances that are not positive")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"the learned start {path} is damaged ({reason}); {ADVICE}") from None
    return encoder.eval().requires_grad_(False), about


def _about(path: Path) -> dict[str, Any]:
    about = json.loads(read_metadata(path).get(METADATA, "null"))
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("it is no learned start of this version")
    counts = [*about["latent_shape"], *about["image_shape"], about["components"], about["width"], about["depth"] + 1]
    if not all(type(count) is int and 0 < count < MAX_SIZE for count in counts) or len(about["image_shape"]) != 3:
        raise ValueError("its sizes are not positive numbers")
    if about["depth"] > MAX_DEPTH:
        raise ValueError(f"it claims {about['depth']} layers")
    if about["geometry"] not in ("gaussian", "sphere") or not isinstance(about["generator_sha256"], str):
        raise ValueError("it does not say which generator it belongs to")
    return about
