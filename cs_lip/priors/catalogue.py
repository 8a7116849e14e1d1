"""The bundled generators: what they are, under which terms, and loading them with their checksums verified."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from cs_lip.priors.architectures import build
from cs_lip.priors.generator import Generator
from cs_lip.priors.weights import read_blueprint, sha256_of

DEFAULT_GENERATOR = "digiface-dcgan"


@dataclass(frozen=True)
class Entry:
    """A bundled generator: where its weights lie, their SHA-256, and where they came from under which terms."""

    name: str
    path: Path
    sha256: str
    architecture: str
    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    description: str
    licence: str
    source: str
    training_data: str
    training_data_terms: str


def pretrained_folder() -> Path:
    """The folder of bundled weights: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_pretrained"
    return installed if installed.is_dir() else package.parent / "pretrained"


def bundled_generators(folder: Path | None = None) -> dict[str, Entry]:
    """The bundled generators by name, read from ``catalogue.toml`` in ``folder`` (default: `pretrained_folder`)."""
    folder = folder or pretrained_folder()
    table = tomllib.loads((folder / "catalogue.toml").read_text(encoding="utf-8"))
    entries = {}
    for name, row in table.items():
        channels, height, width = row["image_shape"]
        entries[name] = Entry(
            name=name,
            path=folder / row["file"],
            latent_shape=tuple(row["latent_shape"]),
            image_shape=(channels, height, width),
            **{key: row[key] for key in _TEXTS},
        )
    return entries


_TEXTS = ("sha256", "architecture", "description", "licence", "source", "training_data", "training_data_terms")


def load_generator(name_or_file: str, *, folder: Path | None = None) -> Generator:
    """A pretrained generator on the CPU, in evaluation mode: a bundled one by name, or a weight file by path.

    A bundled file is read only if its SHA-256 is the catalogue's. A file of one's own has no checksum to meet, but its
    keys, shapes and values are checked all the same (`recognise`), and nothing in it is ever executed.

    Raises:
        ValueError: unknown name, no such file, wrong checksum, wrong keys or shapes, or pickled code.
    """
    entries = bundled_generators(folder)
    entry = entries.get(name_or_file)
    if entry is None:
        path = Path(name_or_file)
        if path.suffix == "" and not path.exists():
            raise ValueError(
                f"there is no bundled generator {name_or_file!r} and no such file; try one of {', '.join(entries)}"
            )
        return _build(path)
    if not entry.path.is_file():
        raise ValueError(f"the weights of {entry.name!r} are missing at {entry.path}; try to install cs-lip again")
    found = sha256_of(entry.path)
    if found != entry.sha256:
        raise ValueError(
            f"the weights of {entry.name!r} at {entry.path} have SHA-256 {found[:12]}..., expected "
            f"{entry.sha256[:12]}..., so the file is damaged or was swapped; try to install cs-lip again"
        )
    return _build(entry.path)


def _build(path: Path) -> Generator:
    try:
        return build(read_blueprint(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None
