"""``cs-lip tickets``: what is there, what is in one, and masks of other programs."""

import contextlib
import json
import math
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cs_lip.cli.inputs import bad_input, of_the_list, ticket_file, writable_file
from cs_lip.cli.layer_table import layer_table, summed
from cs_lip.evaluation.provenance import versions
from cs_lip.operators import Gaussian
from cs_lip.priors.catalogue import load_generator
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.priors.untrained.registry import UNTRAINED
from cs_lip.tickets.compaction import compact
from cs_lip.tickets.importing import imported
from cs_lip.tickets.mask import Density
from cs_lip.tickets.store import TicketFile, bundled_tickets, own_tickets
from cs_lip.tickets.ticket import About, Ticket, read_ticket, write_ticket
from cs_lip.tickets.timing import Timing, time_prior
from cs_lip.tickets.transfer import about_generator, about_untrained, measured_layers, ticketed

IMPORTED_SHAPE = (3, 128, 128)
"""Of the images of an untrained network whose mask is imported; the mask serves other heights and widths as well."""

UNKNOWN = "unknown"

TIMED_MEASUREMENTS = 500
"""Of the Gaussian operator whose share is measured; fewer where images have fewer values."""


@dataclass(frozen=True)
class Looked:
    """A ticket, and the layers that may be pruned as they are in the network that was loaded from it."""

    file: TicketFile
    ticket: Ticket
    layers: dict[str, Density]

    @property
    def of_all_weights(self) -> float:
        """The fraction of the weights of all layers that is not zero."""
        return summed(self.layers.values()).fraction

    @property
    def row(self) -> dict[str, Any]:
        """What a list says of it; both densities are over the layers that the mask names."""
        mask, about = self.ticket.mask, self.ticket.about
        return {
            "name": self.file.name,
            "prior": about.prior,
            "granularity": about.granularity,
            "density": mask.density,
            "measured_density": summed(self.layers[name] for name in mask.kept).fraction,
            "criterion": about.criterion,
            "bytes": self.file.bytes,
            "sha256": self.file.sha256,
        }


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON and nothing else.")
@click.pass_context
def tickets(context: click.Context, as_json: bool) -> None:
    """List tickets, the sparse subnetworks of priors; look into one; import masks of other programs.

    \b
    Examples:
      cs-lip tickets
      cs-lip tickets inspect digiface-dcgan-02
    """
    if of_the_list(context, as_json):
        context.invoke(list_tickets, as_json=as_json)


@tickets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON and nothing else.")
def list_tickets(as_json: bool) -> None:
    """List the tickets, bundled and your own, with the density that is measured on each loaded network.

    \b
    Example:
      cs-lip tickets list --json
    """
    found, damaged = [], []
    with bad_input():
        bundled, own = bundled_tickets(), own_tickets()
    for name in bundled.keys() & own.keys():
        damaged.append(f"{own.pop(name)} has the name of a bundled ticket, which it would hide; try to rename it")
    for name in [*bundled, *own]:
        try:
            found.append(_looked(name))
        except (OSError, ValueError) as error:
            damaged.append(str(error) if name in str(error) else f"the ticket {name!r}: {error}")
    if as_json:
        click.echo(json.dumps({"tickets": [looked.row for looked in found], "damaged": damaged}, indent=2))
        return
    for looked in found:
        click.echo(_text(looked))
    if not found:
        click.echo("There are no tickets yet; try `cs-lip tickets import`.")
    for sentence in damaged:
        click.echo(f"Not listed: {sentence}", err=True)


@tickets.command("inspect")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON and nothing else.")
@click.option("--time", "timed", is_flag=True, help="Measure how long it takes, beside its dense generator.")
def inspect_ticket(name: str, as_json: bool, timed: bool) -> None:
    """Load the ticket NAME, a name or a file, count the weights of its network, and say where it came from.

    \b
    Example:
      cs-lip tickets inspect digiface-dcgan-02
    """
    with bad_input():
        looked = _looked(name)
        timings = _timings(looked.ticket) if timed else {}
    if as_json:
        measured = {"timings": {name: _milliseconds(timing) for name, timing in timings.items()}} if timed else {}
        click.echo(json.dumps(looked.row | _details(looked) | measured, indent=2))
        return
    click.echo(_text(looked))
    click.echo(layer_table(looked.ticket, looked.layers))
    click.echo(_provenance(looked))
    for network, timing in timings.items():
        click.echo(
            f"  {network + ':':<14}{timing.forward_ms:.1f} ms forward, {timing.backward_ms:.1f} ms backward for "
            f"{timing.batch} image{'s' * (timing.batch > 1)}; {timing.operator_ms:.1f} ms more, "
            f"{timing.operator_share:.0%} of it all, through a Gaussian operator and back"
        )


@tickets.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--prior", required=True, help="What the masks belong to: skip or another network, or a generator.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The ticket to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def import_masks(file: Path, prior: str, out: Path, overwrite: bool) -> None:
    """Make a ticket of the masks in FILE: a state dict of torch.nn.utils.prune, or a mask file of the LIP code.

    Nothing in FILE is ever executed. An untrained network is the one with default settings, for RGB images.

    \b
    Example:
      cs-lip tickets import mask_prune_state_6.pt --prior skip --out lip.safetensors
    """
    with bad_input():
        writable_file(out, overwrite)
        ticket = imported(file, _about_import(prior, file))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_ticket(out, ticket)
        looked = _looked(out)
    click.echo(_text(looked))


def _about_import(prior: str, file: Path) -> About:
    network = prior.replace("-", "_")
    about = about_untrained(network, IMPORTED_SHAPE) if network in UNTRAINED else about_generator(prior)
    source = f"{UNKNOWN}; imported from {file.name}"
    if file.is_file():
        source += f" with SHA-256 {sha256_of(file)}"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    about = replace(about, criterion=UNKNOWN, allocation=UNKNOWN, rewind=UNKNOWN, data=source)
    return replace(about, versions=versions(), created=created)


def _looked(name: str | Path) -> Looked:
    """Raises ValueError where there is no such ticket, it is damaged, or its dense prior is not there."""
    file = ticket_file(name)
    ticket = read_ticket(file.path)
    return Looked(file, ticket, measured_layers(ticketed(ticket), ticket.mask.kept))


def _timings(ticket: Ticket) -> dict[str, Timing]:
    """Of the dense generator if it is there, of the ticket, and without its silent channels if there are any."""
    network = ticketed(ticket)
    networks: dict[str, Prunable] = {"ticket": network}
    smaller = compact(network)
    if any(one.shape != other.shape for one, other in zip(smaller.parameters(), network.parameters(), strict=True)):
        networks["compacted"] = smaller
    if ticket.about.kind == "generator":
        with contextlib.suppress(ValueError):  # a ticket with values needs no dense generator, so it may be gone
            networks = {"dense": load_generator(ticket.about.prior)} | networks
    shape = network.image_shape
    operator = Gaussian(shape, min(TIMED_MEASUREMENTS, math.prod(shape)), seed=0)
    return {name: time_prior(one, operator=operator) for name, one in networks.items()}


def _milliseconds(timing: Timing) -> dict[str, float]:
    return asdict(timing) | {"operator_share": timing.operator_share}


def _details(looked: Looked) -> dict[str, Any]:
    ticket = looked.ticket
    return {
        "layers": [
            {"name": name, **layer._asdict(), "density": layer.fraction, "in_mask": name in ticket.mask.kept}
            for name, layer in looked.layers.items()
        ],
        "mask_sha256": ticket.sha256,
        "values": ticket.values is not None,
        "of_all_weights": looked.of_all_weights,
        "recovery_db": dict(looked.file.recovery),
        "about": asdict(ticket.about),
    }


def _text(looked: Looked) -> str:
    row = looked.row
    carries = "mask alone" if looked.ticket.values is None else "mask and values"
    measured = "" if row["measured_density"] == row["density"] else f" (measured {row['measured_density']:.4g})"
    facts = {
        "density": f"{row['density']:.4g}{measured} in the layers that it prunes, {looked.of_all_weights:.4g} of all "
        f"weights, {row['granularity']} granularity, {carries}",
        "criterion": row["criterion"],
        "about": looked.file.description,
        "photographs": ", ".join(
            f"{db:.2f} dB at m = {m} by a short search of latents" for m, db in looked.file.recovery.items()
        ),
        "file": f"{looked.file.path} ({row['bytes']:,} bytes, SHA-256 {row['sha256']})",
    }
    lines = [f"  {name + ':':<13}{value}" for name, value in facts.items() if value]
    return "\n".join([f"{row['name']}: of {row['prior']}", *lines])


def _provenance(looked: Looked) -> str:
    about = asdict(looked.ticket.about)
    del about["prior"], about["granularity"], about["criterion"]
    facts = {"mask_sha256": looked.ticket.sha256} | {name: value for name, value in about.items() if value}
    return "\n".join(
        f"  {name.replace('_', ' ') + ':':<14}{value if isinstance(value, str) else json.dumps(value)}"
        for name, value in facts.items()
    )
