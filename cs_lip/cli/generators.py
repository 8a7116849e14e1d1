"""``cs-lip generators``: what is bundled, and what the user has added."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import click

from cs_lip.cli.inputs import bad_input, of_the_list
from cs_lip.priors import (
    DEFAULT_GENERATOR,
    Entry,
    Options,
    add_generator,
    bundled_generators,
    find_start,
    remove_generator,
    user_generators,
)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON and nothing else.")
@click.pass_context
def generators(context: click.Context, as_json: bool) -> None:
    """List the generators, where they come from and under which terms; add generators of your own.

    \b
    Examples:
      cs-lip generators
      cs-lip generators add netG.pth --name my-faces
    """
    if not of_the_list(context, as_json):
        return
    with bad_input():
        own = user_generators()
        entries = [*bundled_generators().values(), *own.entries.values()]
    if as_json:
        table = {"generators": [_as_json(entry) for entry in entries], "damaged": own.damaged}
        click.echo(json.dumps(table, indent=2))
        return
    for entry in entries:
        click.echo(_text(entry))
    for sentence in own.damaged:
        click.echo(f"Not listed: {sentence}", err=True)


@generators.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What to call it: a-z, 0-9 and -.")
@click.option("--licence", default="not stated", show_default=True, help="Of the weights.")
@click.option("--source", default="", help="Where the file came from.  [default: its name]")
@click.option("--description", default="", help="What it draws.")
@click.option("--overwrite", is_flag=True, help="Replace a generator of your own of that name.")
@click.option("--labels", type=click.IntRange(min=1), help="Classes of a conditional generator.")
@click.option("--label", type=click.IntRange(min=0), help="The class to draw.")
@click.option("--space", type=click.Choice(["z", "w", "w+"]), help="The latents to search, of a StyleGAN2.")
@click.option("--image-shape", metavar="C,H,W", help="Of a network that ends in a vector.")
@click.option("--activation", help="Between the layers of a plain decoder, such as relu.")
@click.option("--value-range", metavar="LOW,HIGH", help="What ONNX gives black and white.")
def add(
    file: Path,
    name: str,
    licence: str,
    source: str,
    description: str,
    overwrite: bool,
    image_shape: str | None,
    value_range: str | None,
    **asked: Any,
) -> None:
    """Add the generator in FILE to your own, under a name that every command knows.

    FILE is safetensors, a PyTorch checkpoint, NumPy npz, an NVlabs pickle or ONNX. Nothing in it is ever executed.
    It is kept in CS_LIP_HOME, or where that is not set in the usual folder for the data of programs.

    \b
    Examples:
      cs-lip generators add netG.pth --name my-faces --licence MIT
      cs-lip generators add ffhq.pkl --name ffhq --space w
    """
    with bad_input():
        shape, values = _numbers(image_shape, int, "3,64,64"), _numbers(value_range, float, "-1,1")
        entry = add_generator(
            file,
            name,
            options=Options(**asked, image_shape=shape, value_range=values),
            description=description,
            licence=licence,
            source=source,
            overwrite=overwrite,
        )
    click.echo(_text(entry))
    click.echo(f"Try it: cs-lip recover --generator {name} --measurements {max(1, math.prod(entry.image_shape) // 8)}")


@generators.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a generator of your own.

    \b
    Example:
      cs-lip generators remove my-faces
    """
    with bad_input():
        remove_generator(name)
    click.echo(f"{name} is removed.")


def _text(entry: Entry) -> str:
    mark = " (default)" if entry.name == DEFAULT_GENERATOR else ""
    trained_on = ". ".join(text for text in (entry.training_data, entry.training_data_terms) if text)
    facts = {
        "images": " x ".join(map(str, entry.image_shape)),
        "latents": f"{' x '.join(map(str, entry.latent_shape))}, {entry.geometry}",
        "architecture": entry.architecture,
        "layout": entry.layout,
        "licence": entry.licence,
        "source": entry.source,
        "trained on": trained_on,
        "file": f"{entry.path} (SHA-256 {entry.sha256})",
        "learned start": _start_path(entry),
    }
    lines = [f"  {name + ':':<15}{value}" for name, value in facts.items() if value]
    return "\n".join([f"{entry.name}{mark}: {entry.description}", *lines])


def _as_json(entry: Entry) -> dict[str, Any]:
    more = {"default": entry.name == DEFAULT_GENERATOR, "start": _start_path(entry) or None}
    return dataclasses.asdict(entry) | {"path": str(entry.path)} | more


def _start_path(entry: Entry) -> str:
    """Where its learned start lies; empty where it has none."""
    start = find_start(entry)
    return str(start.path) if start else ""


def _numbers(value: str | None, kind: type[int] | type[float], example: str) -> tuple[Any, ...] | None:
    """The numbers in a text such as ``3,64,64``, as many as in the example.

    Raises:
        ValueError: there are others.
    """
    if value is None:
        return None
    try:
        numbers = tuple(kind(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    count = len(example.split(","))
    if len(numbers) != count or not all(abs(number) < math.inf for number in numbers):
        raise ValueError(f"{value!r:.60} is not {count} numbers with commas between them; try {example}")
    return numbers
