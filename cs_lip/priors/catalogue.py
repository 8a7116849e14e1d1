"""The generators known by name, bundled or the user's own: what they are, under which terms, and loading them with
their checksums verified."""

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from platformdirs import user_data_path

from cs_lip.priors.architectures import build
from cs_lip.priors.generator import Generator
from cs_lip.priors.layouts.recognise import NO_OPTIONS, Options
from cs_lip.priors.onnx import generator_from_onnx
from cs_lip.priors.reading.formats import Format, format_of
from cs_lip.priors.reading.weights import naming, read_blueprint, sha256_of

DEFAULT_GENERATOR = "digiface-dcgan"

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""What a generator of the user's own may be called."""

MAX_ENTRY = 2**16
"""Bytes of a user's entry."""


@dataclass(frozen=True)
class Entry:
    """A generator known by name: where its weights lie, their SHA-256, and where they came from under which terms.

    Attributes:
        path, sha256, bytes: of the weights.
        geometry: of the latents, as in `Generator`.
        source, source_sha256: where the weights came from, and the checksum of the file that they came in.
        layout: the layout of that file, a name of `cs_lip.priors.layouts.recognise.LAYOUTS`.
        created, version: when cs-lip wrote the weights, in UTC, and which version of it.
        value_range: of an ONNX network, see `cs_lip.priors.layouts.recognise.Options`.
        start_sha256: of the bundled learned start beside the weights, see `cs_lip.priors.starts`; empty without one.

    Raises:
        ValueError: a text has letters that cannot be shown, such as those that command a terminal.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    architecture: str
    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    description: str
    licence: str
    source: str
    geometry: str = "gaussian"
    training_data: str = ""
    training_data_terms: str = ""
    source_sha256: str = ""
    layout: str = ""
    created: str = ""
    version: str = ""
    value_range: tuple[float, float] | None = None
    start_sha256: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            text = getattr(self, field.name)
            if isinstance(text, str) and not text.isprintable():
                raise ValueError(
                    f"the {field.name} {text!r:.60} has line breaks or letters that cannot be shown; "
                    "try plain letters in one line"
                )


REQUIRED: dict[str, type] = {
    "file": str,
    "sha256": str,
    "bytes": int,
    "architecture": str,
    "latent_shape": list,
    "image_shape": list,
}
REQUIRED |= dict.fromkeys(("description", "licence", "source"), str)
OPTIONAL: dict[str, type] = dict.fromkeys(
    ("geometry", "training_data", "training_data_terms", "source_sha256", "layout", "start_sha256"), str
)
OPTIONAL |= {"created": str, "version": str, "value_range": list}
"""The fields of an entry in a file, and their types. A file may have more, which are for people."""


@dataclass(frozen=True)
class Listing:
    """The user's own generators.

    Attributes:
        entries: those that can be loaded, by name.
        damaged: a sentence on each entry that cannot.
    """

    entries: dict[str, Entry]
    damaged: tuple[str, ...]


def pretrained_folder() -> Path:
    """The folder of bundled weights: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_pretrained"
    return installed if installed.is_dir() else package.parent / "pretrained"


def user_folder() -> Path:
    """The folder of the user's own generators: ``generators`` in ``CS_LIP_HOME``, or where that is not set in the
    platform's folder for the data of programs, such as ``~/.local/share/cs-lip``."""
    home = os.environ.get("CS_LIP_HOME")
    return (Path(home) if home else user_data_path("cs-lip", appauthor=False)) / "generators"


def bundled_generators(folder: Path | None = None) -> dict[str, Entry]:
    """The bundled generators by name, read from ``catalogue.toml`` in ``folder`` (default: `pretrained_folder`).

    Raises:
        ValueError: an entry lacks a field.
    """
    folder = folder or pretrained_folder()
    table = tomllib.loads((folder / "catalogue.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, row, folder) for name, row in table.items()}


def user_generators(folder: Path | None = None) -> Listing:
    """The user's own generators, one ``NAME.toml`` each in ``folder`` (default: `user_folder`)."""
    folder = folder or user_folder()
    bundled, entries, damaged = bundled_generators(), {}, []
    for path in sorted(folder.glob("*.toml")):
        if path.name.startswith("."):  # still being written
            continue
        try:
            entries[path.stem] = read_entry(path)
            if path.stem in bundled:
                del entries[path.stem]
                raise ValueError(f"{path} has the name of a bundled generator; try to rename or remove it")
        except ValueError as error:
            damaged.append(str(error))
    return Listing(entries, tuple(damaged))


def read_entry(path: Path) -> Entry:
    """The entry in a file ``NAME.toml``, beside its weights.

    Raises:
        ValueError: it is damaged, lacks a field, or the weights are missing.
    """
    advice = "try to add the generator again, with --overwrite"
    try:
        if not NAME.fullmatch(path.stem):
            raise ValueError("its name has other characters than a-z, 0-9 and -")
        if not path.is_file():  # but a folder, or a pipe, which would never end
            raise ValueError("it is no file")
        with path.open("rb") as file:
            row = tomllib.loads(file.read(MAX_ENTRY).decode("utf-8"))
        entry = _entry(path.stem, row, path.parent)
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"the entry {path} is damaged ({reason}); {advice}") from None
    if not entry.path.is_file() or entry.path.stat().st_size != entry.bytes:
        raise ValueError(f"the weights of {entry.name!r} are not whole at {entry.path}; {advice}")
    return entry


def is_known(name: str) -> bool:
    """Whether there is a generator of that name, bundled or the user's own."""
    return name in bundled_generators() or (bool(NAME.fullmatch(name)) and (user_folder() / f"{name}.toml").is_file())


def find_entry(name: str) -> Entry:
    """The entry of a generator, bundled or the user's own.

    Raises:
        ValueError: there is none of that name, or it is damaged.
    """
    bundled = bundled_generators()
    if name in bundled:
        return bundled[name]
    own = user_folder() / f"{name}.toml"
    if NAME.fullmatch(name) and own.is_file():
        return read_entry(own)
    raise ValueError(f"there is no generator {name!r:.80}; try one of {_names(bundled)}, or `cs-lip generators add`")


def load_generator(name_or_file: str | Path, *, options: Options = NO_OPTIONS, folder: Path | None = None) -> Generator:
    """A pretrained generator on the CPU, in evaluation mode: bundled or the user's own by name, or a file by path.

    The file of a name is read only if its SHA-256 is the catalogue's. Any other file has no checksum to meet, but its
    keys, shapes and values are checked all the same (`recognise`), and nothing in it is ever executed.

    Args:
        name_or_file: a text, which is a name before it is a file, or a path, which is a file.
        options: what a foreign file does not say; a generator known by name takes none.
        folder: of the bundled generators, instead of `pretrained_folder`.

    Raises:
        ValueError: unknown name, no such file, wrong checksum, wrong keys or shapes, pickled code, or options that do
            not fit.
    """
    if isinstance(name_or_file, Path):
        return generator_from_file(name_or_file, options)
    bundled = bundled_generators(folder)
    if name_or_file in bundled:
        return _load_entry(bundled[name_or_file], options, "try to install cs-lip again")
    own = user_folder() / f"{name_or_file}.toml"
    if NAME.fullmatch(name_or_file) and own.is_file():
        return _load_entry(read_entry(own), options, "try to add it again, with --overwrite")
    path = Path(name_or_file)
    if path.suffix == "" and not path.exists():
        raise ValueError(
            f"there is no generator {name_or_file!r:.80} and no such file; try one of {_names(bundled)}, or "
            "`cs-lip generators add`"
        )
    return generator_from_file(path, options)


def generator_from_file(path: Path, options: Options = NO_OPTIONS) -> Generator:
    """A generator from a weight file of any format that is read, on the CPU and in evaluation mode.

    Raises:
        ValueError: as `load_generator`; the message names the file.
    """
    with naming(path):
        if format_of(path) is Format.ONNX:
            return _from_onnx(path, options)
        return build(read_blueprint(path, options))


def _names(bundled: Mapping[str, Entry]) -> str:
    return ", ".join([*bundled, *user_generators().entries])[:300]


def _from_onnx(path: Path, options: Options) -> Generator:
    """An ONNX file is a whole network, so it takes no options but the range of its values, which it does not say."""
    if options.value_range is None:
        raise ValueError(
            "an ONNX file does not say what black and white are; try `cs-lip generators add FILE "
            "--name NAME --value-range -1,1` after a tanh, or Options(value_range=(-1, 1)) in Python"
        )
    if options != Options(value_range=options.value_range):
        raise ValueError("an ONNX file takes no option but the value range; try --value-range alone")
    generator = generator_from_onnx(path, value_range=options.value_range)
    if not all(torch.isfinite(weight).all() for weight in generator.parameters()):
        raise ValueError("the network holds weights that are not finite numbers; try an undamaged file")
    return generator


def _load_entry(entry: Entry, options: Options, advice: str) -> Generator:
    if options != NO_OPTIONS:
        raise ValueError(f"{entry.name!r} is in the catalogue as what it is; try without options, or the file itself")
    if not entry.path.is_file():
        raise ValueError(f"the weights of {entry.name!r} are missing at {entry.path}; {advice}")
    found = sha256_of(entry.path)
    if found != entry.sha256:
        raise ValueError(
            f"the weights of {entry.name!r} at {entry.path} have SHA-256 {found[:12]}..., expected "
            f"{entry.sha256[:12]}..., so the file is damaged or was swapped; {advice}"
        )
    return generator_from_file(entry.path, Options(value_range=entry.value_range))


def _entry(name: str, row: object, folder: Path) -> Entry:
    """One row of a catalogue.

    Raises:
        ValueError: a field is missing or of another type.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"{name!r} is no table of fields; try `cs-lip generators add`")
    for key, kind in (REQUIRED | OPTIONAL).items():
        if (key in row or key in REQUIRED) and type(row.get(key)) is not kind:
            raise ValueError(f"the field {key!r} of {name!r} is {row.get(key)!r:.60}, expected {kind.__name__}")
    file, latent_shape, image_shape = row["file"], row["latent_shape"], row["image_shape"]
    if Path(file).name != file:
        raise ValueError(f"the file {file!r:.60} of {name!r} lies in another folder")
    lengths = latent_shape + image_shape
    if len(image_shape) != 3 or not all(type(length) is int and 0 < length < 2**31 for length in lengths):
        raise ValueError(f"the shapes of {name!r} are no positive lengths, three of them for an image")
    values = row.get("value_range", [0, 1])
    if len(values) != 2 or not all(type(v) in (int, float) and abs(v) <= sys.float_info.max for v in values):
        raise ValueError(f"the value range of {name!r} is not two numbers")
    given = {key: row[key] for key in REQUIRED | OPTIONAL if key in row and key != "file"}
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Entry(name=name, path=folder / file, **given)
