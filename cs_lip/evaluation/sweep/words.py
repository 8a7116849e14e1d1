"""What to say of a word that is none of those that are known."""

import difflib
from collections.abc import Sequence


def choose(given: object, known: Sequence[str], what: str, where: str = "") -> str:
    """The word, where it is one of the known ones; an error says what it was to be, and where it stands.

    Raises:
        ValueError: it is not; the message names it and the nearest known one.
    """
    if isinstance(given, str) and given in known:
        return given
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    attempt = repr(near[0]) if near else f"one of {', '.join(known)}"
    raise ValueError(f"there is no {what} {str(given)[:60]!r}{where}; try {attempt:.300}")
