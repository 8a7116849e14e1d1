"""What a stored result needs to be made again: versions and hashes."""

import platform
from importlib.metadata import version

PACKAGES = ("cs-lip", "torch", "numpy", "scipy", "h5py", "safetensors", "scikit-image")


def versions() -> dict[str, str]:
    """The version of Python and of every package that the numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
