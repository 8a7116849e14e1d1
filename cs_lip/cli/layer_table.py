"""The layers of a ticket, as the commands print them."""

from collections.abc import Iterable, Mapping

from cs_lip.tickets.mask import Density
from cs_lip.tickets.ticket import Ticket


def summed(layers: Iterable[Density]) -> Density:
    """The density of some layers together."""
    counts = list(layers)
    return Density(sum(layer.kept for layer in counts), sum(layer.total for layer in counts))


def layer_table(ticket: Ticket, layers: Mapping[str, Density]) -> str:
    """A line for every layer that may be pruned, and for all of them.

    Args:
        layers: as they are measured on the loaded network (`cs_lip.tickets.transfer.measured_layers`).
    """
    kept = ticket.mask.kept
    rows = [(name, layer, "" if name in kept else "  not in the mask") for name, layer in layers.items()]
    rows += [("all layers", summed(layers.values()), "")]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"  {name:<{width}}{layer.kept:>12,} of {layer.total:>11,}{layer.fraction:>9.4f}{mark}"
        for name, layer, mark in rows
    )
