"""The images of a sweep: which there are, and their pixels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cs_lip.evaluation.datasets import SUFFIXES
from cs_lip.evaluation.images import read_image
from cs_lip.evaluation.pictures import PICTURES, picture
from cs_lip.evaluation.sweep.cells import Target
from cs_lip.priors import Generator
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.seeding import stream

MOST_DRAWS = 100_000


def targets(asked: Sequence[str]) -> tuple[Target, ...]:
    """The images that are asked for, in that order.

    Args:
        asked: each ``in-range:N`` (N unseen draws of the generator), a bundled picture's name, a picture file, or a
            folder, of which the pictures directly in it are taken in the order of their names.

    Raises:
        ValueError: nothing is asked for, there is no such picture or folder, or two images have one name.
    """
    found = [target for text in asked for target in _targets(text)]
    if not found:
        raise ValueError("a sweep needs images, got none; try in-range:4, astronaut, or a folder of pictures")
    names = [target.name for target in found]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"two images are called {twice[0]!r:.80}; try each image once, or another file name")
    return tuple(found)


def absolute(text: str) -> str:
    """The same images asked for, from whatever folder: files and folders by absolute paths."""
    return text if text.partition(":")[0] == "in-range" or text in PICTURES else str(Path(text).resolve())


def pixels(images: Sequence[Target], generator: Generator | None, image_shape: tuple[int, int, int]) -> Tensor:
    """The images ``(images, *image_shape)``, float32 in [0, 1].

    A draw has a stream of its own, so it is the same image whatever is drawn beside it.

    Args:
        generator: dense; who draws images in range. None where there are none.

    Raises:
        ValueError: a file is missing, no picture, or another one than the plan was made with.
    """
    return torch.stack([_pixels(image, generator, image_shape) for image in images])


def _targets(text: str) -> list[Target]:
    head, colon, count = text.partition(":")
    if head == "in-range":
        return _draws(text, count if colon else "1")
    if text in PICTURES:
        return [Target(text, "picture", text)]
    path = Path(text)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
        if not files:
            raise ValueError(f"no pictures are in the folder {text!r:.160}; try one with PNG or JPEG files in it")
        return [_file(each) for each in files]
    if path.is_file():
        return [_file(path)]
    raise ValueError(
        f"there is no picture, file or folder {text!r:.120}; try in-range:4, a folder, or one of {', '.join(PICTURES)}"
    )


def _draws(text: str, count: str) -> list[Target]:
    if not (count.isascii() and count.isdigit() and 0 < int(count[:7]) <= MOST_DRAWS and len(count) < 7):
        raise ValueError(f"draws of the generator are asked for as in-range:4, got {text!r:.40}; try in-range:4")
    return [Target(f"draw-{number}", "in-range", str(number)) for number in range(1, int(count) + 1)]


def _file(path: Path) -> Target:
    return Target(path.name, "file", str(path.resolve()), sha256_of(path))


def _pixels(image: Target, generator: Generator | None, image_shape: tuple[int, int, int]) -> Tensor:
    if image.kind == "picture":
        return picture(image.place, image_shape).pixels
    if image.kind == "file":
        path = Path(image.place)
        if path.is_file() and sha256_of(path) != image.sha256:
            raise ValueError(f"the picture {path} has changed since the plan was made; try the same command again")
        return read_image(path, image_shape)
    assert generator is not None
    latents = generator.sample_latents(1, generator=stream(0, f"data/draw-{image.place}"))
    with torch.no_grad():
        drawn: Tensor = generator(latents)
    return drawn[0].float()
