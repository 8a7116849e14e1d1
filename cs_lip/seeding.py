"""Independent, named random streams from one user seed. Nothing in the package reads the global generator."""

import hashlib

import torch

MAX_SEED = 2**63 - 1


def derive_seed(seed: int, name: str) -> int:
    """A seed for the stream ``name`` of the user seed ``seed``.

    The two are hashed together (SHA-256), so streams of different names are independent for practical purposes and
    ``(0, "noise")`` never repeats ``(1, "latents")``, as small offsets of one seed would.

    Raises:
        ValueError: the seed is not an integer in [0, 2^63 - 1].
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"the seed must be an integer from 0 to 2^63 - 1, got {seed!r}; try 0")
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & MAX_SEED


def stream(seed: int, name: str) -> torch.Generator:
    """A CPU generator for the stream ``name`` of ``seed``; see `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, name))
