"""What the commands share: one sentence for bad input, the images asked for, the device, the output folder."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import torch

from cs_lip.evaluation.digits import bundled_samples
from cs_lip.evaluation.images import NamedImage, read_image
from cs_lip.evaluation.pictures import picture
from cs_lip.evaluation.store import FIGURE_FILE, PAGE_FILE, RUN_FILE, SUMMARY_FILE
from cs_lip.priors import Generator
from cs_lip.priors.reading.formats import format_of
from cs_lip.seeding import MAX_SEED, stream
from cs_lip.tickets.levels import Levels
from cs_lip.tickets.store import TicketFile, bundled_tickets, find_ticket, own_tickets
from cs_lip.tickets.ticket import Ticket, read_ticket

IN_RANGE_SAMPLES = 3

IMAGE_HELP = "A picture to measure: a file, or the name of a bundled one, such as camera; repeat."

OPERATOR_HELP = (
    "What measures: a dense matrix with entries of variance 1/m, or m/2 random frequencies of the orthonormal Fourier "
    "transform, densest at the centre.  [default: gaussian]"
)

RUN_FILES = frozenset({RUN_FILE, FIGURE_FILE, SUMMARY_FILE, PAGE_FILE})

NO_MEMORY = ("allocate memory", "out of memory", "Storage size calculation overflowed")
"""What PyTorch's errors say when memory is short."""

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


class BadInput(click.ClickException):
    """Something the user gave cannot work; the message says what, and what to try."""

    exit_code = 2


@contextmanager
def bad_input() -> Iterator[None]:
    """Turns ValueErrors, the OSErrors of reading and writing files, and a want of memory into a `BadInput`."""
    try:
        yield
    except ValueError as error:
        raise BadInput(str(error)) from error
    except BrokenPipeError:  # whoever read the output has gone, as `head` does; click ends quietly
        raise
    except OSError as error:
        raise BadInput(f"{error.filename or 'a file'}: {error.strerror or error}; try another path") from error
    except (MemoryError, RuntimeError) as error:
        # PyTorch has a class of its own for a want of memory on a GPU alone.
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        raise BadInput("this needs more memory than is free; try smaller numbers or smaller images") from error


def seed_option() -> Option:
    """``--seed``."""
    return click.option(
        "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Of everything random."
    )


def device_option() -> Option:
    """``--device``."""
    return click.option(
        "--device", default="cpu", show_default=True, metavar="DEVICE", help="Where to compute: cpu, cuda, cuda:1, mps."
    )


def of_the_list(context: click.Context, as_json: bool) -> bool:
    """Whether a group was called for its list, without a command of its own.

    Raises:
        BadInput: it was asked for JSON in front of a command, which would not hear of it.
    """
    command = context.invoked_subcommand
    if command is not None and as_json:
        path = f"{context.command_path} {command}"
        raise BadInput(f"got --json in front of {command}; try `{path} ... --json` where {command} has it")
    return command is None


def ticket_option() -> Option:
    """``--ticket``."""
    return click.option("--ticket", metavar="NAME", help="A ticket's name or file: a sparse subnetwork of its prior.")


def ticket_file(name: str | Path) -> TicketFile:
    """A ticket's file, where what it is not is told as a ticket's, not as that of any weight file.

    Raises:
        ValueError: there is none.
    """
    folder = Path(name)
    if folder.is_dir() and str(name) not in {*bundled_tickets(), *own_tickets()}:
        ticket = Levels(folder).ticket
        attempt = str(ticket) if ticket.is_file() else "`cs-lip tickets` for the ones that are known by name"
        raise ValueError(f"{folder} is a folder, expected a ticket's name or file; try {attempt}")
    file = find_ticket(name)
    try:
        format_of(file.path)
    except ValueError:
        raise ValueError(
            f"{file.path} is no ticket, expected a safetensors file that `cs-lip prune` or `cs-lip tickets import` "
            "wrote; try `cs-lip tickets` for the ones that are known by name"
        ) from None
    return file


def asked_ticket(name: str) -> tuple[Ticket, dict[str, Any]]:
    """The ticket of that name or in that file, and what a run's configuration tells of it.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    found = ticket_file(name)
    ticket = read_ticket(found.path)
    return ticket, {"ticket": name, "ticket_sha256": found.sha256, "ticket_density": ticket.mask.density}


def ticket_line(config: dict[str, Any]) -> str:
    """What a run's configuration tells of its ticket, in a line."""
    density, digest = config["ticket_density"], config["ticket_sha256"]
    return f"Ticket {config['ticket']}: density {density:.4g} in the layers that it prunes (SHA-256 {digest[:12]}...)."


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"the device {name!r} is not available on this machine; try --device cpu") from None
    return device


def asked_images(files: Sequence[Path], generator: Generator, seed: int) -> list[NamedImage]:
    """The pictures asked for, or without any the bundled samples: unseen draws of the generator, then real pictures."""
    if files:
        return real_images(files, generator)
    latents = generator.sample_latents(IN_RANGE_SAMPLES, generator=stream(seed, "data"))
    with torch.no_grad():
        draws = generator(latents)
    drawn = [NamedImage(f"draw-{index + 1}", "in-range", image) for index, image in enumerate(draws)]
    return drawn + real_images((), generator)


def real_images(files: Sequence[Path], generator: Generator) -> list[NamedImage]:
    """The pictures asked for, or without any the bundled ones that suit the generator's shape."""
    if not files:
        return bundled_samples(generator.image_shape)
    names = _distinct_names(files)
    return [_asked_image(name, path, generator.image_shape) for name, path in zip(names, files, strict=True)]


def _asked_image(name: str, path: Path, image_shape: tuple[int, int, int]) -> NamedImage:
    """A picture file, or where there is none of that name, and it is no file's name, the bundled picture.

    Raises:
        ValueError: it cannot be read, or has a name that cannot be stored.
    """
    check_name(path)
    if path.suffix or path.exists():
        return NamedImage(name, "file", read_image(path, image_shape))
    return picture(str(path), image_shape)


def check_name(path: Path) -> None:
    """Refuse a file whose name is no text, since results and reports tell it.

    Raises:
        ValueError: the name is not UTF-8.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ValueError(f"the name {shown:.120} is not UTF-8, so no result could tell it; try to rename it") from None


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """File names without their folders, unless two are alike."""
    names = [path.name for path in files]
    return names if len(set(names)) == len(names) else [str(path) for path in files]


def claim_folder(asked: Path | None, overwrite: bool, default: str, own: frozenset[str] = RUN_FILES) -> Path:
    """The folder for a run's files: the one asked for, or ``default``, ``default-2``, ... whichever is free.

    A folder that already holds something is refused: an earlier run unless ``overwrite``, any other work always. The
    folder is made now, so that no other run takes it, and removed at the end of the command if nothing was written.

    Args:
        own: the names of the files that a run leaves there.

    Raises:
        ValueError: the folder is a file, holds something, or cannot be written.
    """
    if asked is None:
        return _made_folder(default)
    if asked.exists() and not asked.is_dir():
        raise ValueError(f"{asked} is a file, expected a folder; try another --out")
    held = {path.name for path in asked.iterdir()} if asked.is_dir() else set()
    held = {name for name in held if not name.startswith(".")}  # what a crash left half written
    if foreign := sorted(held - own):
        raise ValueError(f"the folder {asked} holds other work ({foreign[0]}), nothing was written; try another --out")
    if held and not overwrite:
        raise ValueError(f"the folder {asked} holds an earlier run; try another --out, or --overwrite to replace it")
    if not writable(asked).is_dir():
        asked.mkdir(parents=True)
        _remove_if_unused(asked)
    return asked


def writable(path: Path) -> Path:
    """The path, where a file or a folder can be made: what takes hours should not find out at its end.

    Raises:
        ValueError: something above it is a file, or may not be written, or it is a link to nothing.
    """
    nearest = next(each for each in (path.absolute(), *path.absolute().parents) if os.path.lexists(each))
    if not nearest.exists():
        raise ValueError(f"{nearest} is a link to nothing; try another path")
    if not nearest.is_dir() and nearest != path.absolute():
        raise ValueError(f"{nearest} is a file, expected a folder for {path.name!r:.120}; try another path")
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"nothing can be written to {nearest}; try another path")
    return path


def writable_file(path: Path, overwrite: bool) -> Path:
    """As `writable`, of a file; one that exists is refused unless ``overwrite``.

    Raises:
        ValueError: there is one, or a folder of that name, or it cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file; try a name in it")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already, nothing was written; try another --out, or --overwrite to replace it")
    return writable(path)


def _made_folder(default: str) -> Path:
    """The first of ``default``, ``default-2``, ... that there is not, made in one step, which one process alone can."""
    folder, number = Path(default), 1
    while True:
        if not os.path.lexists(folder):
            writable(folder)
            with suppress(FileExistsError):
                folder.mkdir()
                _remove_if_unused(folder)
                return folder
        number += 1
        folder = Path(f"{default}-{number}")


def _remove_if_unused(folder: Path) -> None:
    """At the end of the command, where nothing is in it then."""

    def remove() -> None:
        with suppress(OSError):  # of a folder that is not empty
            folder.rmdir()

    click.get_current_context().call_on_close(remove)
