"""Adding generators to the user's own catalogue, and removing them."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w
import torch
from filelock import FileLock, Timeout

from cs_lip import __version__
from cs_lip.files import atomic_path
from cs_lip.priors.architectures import build
from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.bounded import Bounded, TooLargeError
from cs_lip.priors.catalogue import MAX_ENTRY, NAME, Entry, bundled_generators, generator_from_file, user_folder
from cs_lip.priors.generator import Generator
from cs_lip.priors.layouts.recognise import NO_OPTIONS, Options
from cs_lip.priors.reading.formats import Format, format_of
from cs_lip.priors.reading.weights import naming, read_blueprint, sha256_of, write_blueprint
from cs_lip.priors.starts import own_start_path
from cs_lip.seeding import stream

MAX_ALIVE, MAX_MADE = 2**32, 2**36
"""Bytes of the tensors that a generator may keep at a time while it draws one image, and of all that it makes: several
times what the largest published ones take, 1024x1024 images."""

LOCK_SECONDS = 60
"""How long to wait for another process that is writing to the catalogue."""


def check_new_name(name: str, *, overwrite: bool = False) -> None:
    """Refuse a name under which nothing can be added.

    Raises:
        ValueError: it has other characters than a-z, 0-9 and -, or is taken.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r:.80} has other characters than a-z, 0-9 and -, begins with -, or is longer than 64; "
            "try my-generator"
        )
    if name in bundled_generators():
        raise ValueError(f"the name {name!r} is that of a bundled generator; try another name")
    if not overwrite and _entry_path(name).exists():
        raise ValueError(f"there is a generator {name!r} already; try another name, or --overwrite to replace it")


def add_generator(
    given: Blueprint | Path | str,
    name: str,
    *,
    options: Options = NO_OPTIONS,
    description: str = "",
    licence: str = "not stated",
    source: str = "",
    training_data: str = "",
    training_data_terms: str = "",
    overwrite: bool = False,
) -> Entry:
    """Keep a generator under a name in `user_folder`, for `load_generator` in any later process.

    It must draw one image first. The weights become safetensors (an ONNX file stays as it is) under a name of their
    own; writing the entry, in one step, makes them the generator's, so a crash leaves the old generator or the new.
    Processes that add at the same time wait for each other.

    Args:
        given: a blueprint, or a weight file of any format that is read.
        options: what a foreign file does not say.

    Raises:
        ValueError: the name, the file or the options are unfit, or the generator does not draw. Nothing is kept.
    """
    check_new_name(name, overwrite=overwrite)
    draft = _draft(Path(given) if isinstance(given, str) else given, options)
    texts = {"description": description or _description(draft), "licence": licence, "source": source or draft.source}
    texts |= {"training_data": training_data, "training_data_terms": training_data_terms}
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
        weights = _written(draft, Path(scratch))
        entry = _entry(draft, name, weights, texts)
        content = _toml(entry)
        with _locked():
            check_new_name(name, overwrite=overwrite)
            there = entry.path.exists()  # where the same weights are added again
            weights.replace(entry.path)
            try:
                with atomic_path(_entry_path(name)) as temporary:
                    temporary.write_bytes(content)
            except OSError:
                if not there:
                    entry.path.unlink()
                raise
            _remove_weights(name, keep=entry.path)
            if not there:
                own_start_path(name).unlink(missing_ok=True)  # it belonged to the weights before
    return entry


def remove_generator(name: str) -> None:
    """Remove a generator of the user's own, also one whose entry or weights are damaged.

    Raises:
        ValueError: the user has none of that name.
    """
    path = _entry_path(name)
    if not NAME.fullmatch(name) or not os.path.lexists(path):
        raise ValueError(f"there is no generator {name!r:.80} of your own; try `cs-lip generators` for what there is")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, which is no entry of cs-lip's; try to remove it by hand")
    with _locked():
        path.unlink(missing_ok=True)
        _remove_weights(name)
        own_start_path(name).unlink(missing_ok=True)


@contextmanager
def _locked() -> Iterator[None]:
    """While nobody else writes to the catalogue.

    Raises:
        ValueError: somebody does, for as long as `LOCK_SECONDS`.
    """
    try:
        with FileLock(user_folder() / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise ValueError(
            f"another process is writing to the catalogue in {user_folder()} since {LOCK_SECONDS} s; try again later"
        ) from None


@dataclass(frozen=True, eq=False)
class _Draft:
    """A generator that draws, and what its entry will say.

    Attributes:
        weights: what its own file is made from: a blueprint, or the path of an ONNX file.
    """

    generator: Generator
    weights: Blueprint | Path
    architecture: str
    layout: str
    source: str = "not stated"
    source_sha256: str = ""
    value_range: tuple[float, float] | None = None


def _draft(given: Blueprint | Path, options: Options) -> _Draft:
    if isinstance(given, Blueprint):
        draft = _Draft(build(given), given, given.architecture, given.layout)
    elif format_of(given) is Format.ONNX:
        generator = generator_from_file(given, options)
        draft = _Draft(generator, given, "onnx", "ONNX", given.name, sha256_of(given), options.value_range)
    else:
        blueprint = read_blueprint(given, options)
        with naming(given):
            generator = build(blueprint)
        layout = blueprint.layout
        draft = _Draft(generator, blueprint, blueprint.architecture, layout, given.name, sha256_of(given))
    with naming(given) if isinstance(given, Path) else naming(Path("the blueprint")):
        _check_drawing(draft.generator)
    return draft


def _check_drawing(generator: Generator) -> None:
    """Draw one image.

    Raises:
        ValueError: that fails, takes too much memory, or gives no image in [0, 1].
    """
    try:
        latent = generator.sample_latents(1, generator=stream(0, "latents"))
        with torch.no_grad(), Bounded(MAX_ALIVE, MAX_MADE):
            image = generator(latent)
    except TooLargeError as error:
        raise ValueError(f"the generator {error}; try the file as its author published it") from None
    except (RuntimeError, MemoryError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"the generator does not draw ({reason}); try the file as its author published it") from None
    if not (image.min() >= 0 and image.max() <= 1):  # false for NaN too
        raise ValueError("the generator draws values that are not in [0, 1]; try the file as its author published it")


def _description(draft: _Draft) -> str:
    generator = draft.generator
    shape = " x ".join(map(str, generator.image_shape))
    return f"{draft.architecture} that draws {shape} images from {generator.latent_size} latents"


def _written(draft: _Draft, folder: Path) -> Path:
    if isinstance(draft.weights, Blueprint):
        path = folder / "weights.safetensors"
        write_blueprint(path, draft.weights)
    else:
        path = folder / "weights.onnx"
        with atomic_path(path) as temporary:
            shutil.copyfile(draft.weights, temporary)
    return path


def _entry(draft: _Draft, name: str, weights: Path, texts: Mapping[str, str]) -> Entry:
    digest = sha256_of(weights)
    return Entry(
        name=name,
        path=user_folder() / f"{name}-{digest[:12]}{weights.suffix}",
        sha256=digest,
        bytes=weights.stat().st_size,
        architecture=draft.architecture,
        latent_shape=draft.generator.latent_shape,
        image_shape=draft.generator.image_shape,
        geometry=draft.generator.geometry,
        source_sha256=draft.source_sha256,
        layout=draft.layout,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        value_range=draft.value_range,
        **texts,
    )


def _toml(entry: Entry) -> bytes:
    table: dict[str, Any] = asdict(replace(entry, path=Path(entry.path.name)))
    del table["name"]
    table["file"] = str(table.pop("path"))
    content = tomli_w.dumps({key: value for key, value in table.items() if value is not None}).encode("utf-8")
    if len(content) > MAX_ENTRY:
        raise ValueError(f"the texts about the generator have more than {MAX_ENTRY} bytes; try a short --description")
    return content


def _entry_path(name: str) -> Path:
    return user_folder() / f"{name}.toml"


def _remove_weights(name: str, keep: Path | None = None) -> None:
    """Remove the weights of that name, but for one file."""
    for path in user_folder().glob(f"{name}-*"):
        if path != keep and re.fullmatch(r"[0-9a-f]{12}\.(safetensors|onnx)", path.name.removeprefix(f"{name}-")):
            path.unlink(missing_ok=True)
