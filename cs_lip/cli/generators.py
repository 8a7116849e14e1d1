"""``cs-lip generators``: what is bundled."""

import click

from cs_lip.cli.inputs import bad_input
from cs_lip.priors import DEFAULT_GENERATOR, bundled_generators


@click.command()
def generators() -> None:
    """List the bundled generators, where they come from and under which terms.

    \b
    Example:
      cs-lip generators
    """
    with bad_input():
        entries = bundled_generators()
    for entry in entries.values():
        mark = " (default)" if entry.name == DEFAULT_GENERATOR else ""
        click.echo(f"{entry.name}{mark}: {entry.description}")
        facts = {
            "images": " x ".join(map(str, entry.image_shape)),
            "latents": " x ".join(map(str, entry.latent_shape)),
            "architecture": entry.architecture,
            "licence": entry.licence,
            "source": entry.source,
            "trained on": f"{entry.training_data}. {entry.training_data_terms}",
            "file": f"{entry.path} (SHA-256 {entry.sha256})",
        }
        for name, value in facts.items():
            click.echo(f"  {name + ':':<14}{value}")
