"""Whether what a ticket brings fits a network: names and shapes, strictly."""

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""


@dataclass(frozen=True)
class Report:
    """How the tensors that a ticket brings compare with those that a network has; names sorted.

    Attributes:
        total: how many the ticket brings.
        missing: names that the network has and the ticket lacks.
        unexpected: names that the ticket brings and the network does not have.
        reshaped: name, the ticket's shape and the network's.
    """

    total: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def fits(self) -> bool:
        """Whether every name and shape is the same."""
        return not (self.missing or self.unexpected or self.reshaped)

    def check(self, what: str) -> None:
        """Refuse what does not fit.

        Args:
            what: was compared, for the message, such as ``the mask``.

        Raises:
            ValueError: it does not fit; the message has the counts and the first mismatch.
        """
        if not self.fits:
            raise ValueError(
                f"{what} does not fit the network: of its {self.total} tensors {len(self.unexpected)} are not in the "
                f"network and {len(self.reshaped)} have another shape there, and it lacks {len(self.missing)}, first "
                f"{self._first():.160}; try the architecture that it was found in, unfolded"
            )

    def _first(self) -> str:
        if self.reshaped:
            name, brought, there = self.reshaped[0]
            return f"{name[-80:]} {brought}, which is {there} in the network"
        return (self.unexpected or self.missing)[0]


def compared(brought: Shapes, there: Shapes) -> Report:
    """The report on what a ticket brings to a network that has the tensors ``there``."""
    return Report(
        len(brought),
        tuple(sorted(there.keys() - brought.keys())),
        tuple(sorted(brought.keys() - there.keys())),
        tuple(
            (name, brought[name], there[name])
            for name in sorted(brought)
            if there.get(name, brought[name]) != brought[name]
        ),
    )
