"""Damaged weight files of every format: none crashes, hangs, takes a gibibyte or runs what is hidden in it.

Each format is fuzzed in a process of its own, forked from this file run as a program. Its memory is limited, and an
alarm ends it where one file takes too long, so that the worst is a failed test.
"""

import io
import json
import os
import pickle
import re
import resource
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import Trap, assert_one_sentence, tiny_generator, tiny_onnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from test_nvlabs import as_modules
from test_stylegan2 import nvlabs_state

from cs_lip.priors import Options, load_generator
from cs_lip.priors.reading.weights import BLUEPRINT

FILES, SECONDS, BYTES = 500, 10, 2**30
STATE = dict(tiny_generator((2, 3, 1)).state_dict())
HUGE = [0, 1, 0x7F, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]


def torch_file(content: object, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def npz_file(marker: Path, trapped: bool) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: value.numpy() for name, value in STATE.items()}
    if trapped:
        arrays["trap"] = np.array([Trap(marker)], dtype=object)
    (np.savez_compressed if trapped else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def safetensors_file() -> bytes:
    own = json.dumps({"architecture": "dcgan", "settings": {"widths": [2, 3, 1], "first": 4}, "layout": ""})
    return save(STATE, metadata={BLUEPRINT: own})


def nvlabs_file(**extra: object) -> bytes:
    """A network pickle of one of the smallest StyleGAN2s there can be."""

    def _reconstruct_persistent_obj(meta: object) -> None:
        raise AssertionError("the pickle was loaded")

    persistence = ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = persistence.__name__
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", ModuleType("torch_utils"))
        patch.setitem(sys.modules, persistence.__name__, persistence)
        return pickle.dumps({"G_ema": as_modules(nvlabs_state((2, 2), (1,), 1)), **extra})


FORMATS: dict[str, Callable[[Path], list[bytes]]] = {
    "safetensors": lambda _: [save(STATE), safetensors_file()],
    "pytorch-zip": lambda m: [torch_file({"netG": STATE}, True), torch_file({"g": STATE, "trap": Trap(m)}, True)],
    "pytorch-legacy": lambda m: [torch_file({"netG": STATE}, False), torch_file({"g": STATE, "trap": Trap(m)}, False)],
    "npz": lambda m: [npz_file(m, False), npz_file(m, True)],
    "nvlabs": lambda m: [nvlabs_file(), nvlabs_file(trap=Trap(m))],
    "onnx": lambda _: [tiny_onnx()],
}
"""What whole files of each format hold; a trap is hidden in one where the format has room for it."""

OPTIONS = {"onnx": Options(value_range=(-1, 1))}


# --- mutations --------------------------------------------------------------------------------------------------------


def flip(data: st.DataObject, content: bytearray) -> None:
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))


def truncate(data: st.DataObject, content: bytearray) -> None:
    del content[data.draw(st.integers(1, len(content))) :]


def repeat(data: st.DataObject, content: bytearray) -> None:
    start, length = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 300))
    place = data.draw(st.integers(0, len(content)))
    content[place:place] = content[start : start + length]


def overwrite_number(data: st.DataObject, content: bytearray, place: int | None = None) -> None:
    width, order = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.sampled_from(["little", "big"]))
    number = data.draw(st.sampled_from(HUGE)) % 2 ** (8 * width)
    start = data.draw(st.integers(0, max(0, len(content) - width))) if place is None else place
    content[start : start + width] = number.to_bytes(width, order)


def edit_directory(data: st.DataObject, content: bytearray) -> None:
    """A field of a zip archive's records, local or of the directory or its end."""
    records = [found.start() for found in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)", content)]
    if records:
        overwrite_number(data, content, data.draw(st.sampled_from(records)) + data.draw(st.integers(4, 55)))


def edit_header(data: st.DataObject, content: bytearray) -> None:
    """One field of one tensor in a safetensors header, or a name that comes twice; the length stays true."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
        name = data.draw(st.sampled_from(sorted(header)))
        row, numbers = header[name], st.sampled_from([*HUGE, -1, 3, 0.5, None, "3", [1]])
        field = data.draw(st.sampled_from([*sorted(row), "twice", "gone"]))
    except (ValueError, TypeError, UnicodeDecodeError):
        return
    if field in ("shape", "data_offsets"):
        row[field] = data.draw(st.lists(numbers | st.sampled_from(row[field] or [1]), max_size=5))
    elif field in row:
        row[field] = data.draw(
            st.sampled_from(["F64", "F16", "I64", "BOOL", "F8_E4M3", "F4", "C64", "X", "", 3, "{}", "[]"])
        )
    elif field == "gone":
        del header[name]
    text = json.dumps(header)
    if field == "twice":
        text = "{" + json.dumps(name) + ": " + json.dumps(row) + ", " + text[1:]
    content[: 8 + length] = struct.pack("<Q", len(text.encode())) + text.encode()


MUTATIONS = {"safetensors": [edit_header], "pytorch-zip": [edit_directory], "npz": [edit_directory]}


@st.composite
def damaged(draw: st.DrawFn, wholes: list[bytes], own: list[Callable[..., None]]) -> bytes:
    content, data = bytearray(draw(st.sampled_from(wholes))), draw(st.data())
    mutations = st.sampled_from([flip, flip, flip, truncate, repeat, overwrite_number, *own, *own, *own])
    for mutate in draw(st.lists(mutations, min_size=1, max_size=3)):
        if content:
            mutate(data, content)
    return bytes(content)


def check_message(message: str, path: Path) -> None:
    assert str(path) in message
    assert_one_sentence(message.replace(str(path), "FILE"))


# --- the child process ------------------------------------------------------------------------------------------------


def fuzz(name: str, folder: Path, count: int, seed: int | None) -> None:
    """Load ``count`` damaged files; an assertion or the process's end says that one did harm."""
    path, marker, options = folder / "weights", folder / "marker", OPTIONS.get(name, Options())
    wholes = FORMATS[name](marker)
    path.write_bytes(wholes[0])
    load_generator(str(path), options=options)  # what only the first call takes is not the files' doing
    loaded = refused = 0

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=seed is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(content=damaged(wholes, MUTATIONS.get(name, [])))
    def try_each(content: bytes) -> None:
        nonlocal loaded, refused
        path.write_bytes(content)
        signal.alarm(SECONDS)
        try:
            generator = load_generator(str(path), options=options)
            with torch.no_grad():
                assert torch.isfinite(generator(torch.zeros(1, *generator.latent_shape))).all()
            loaded += 1
        except ValueError as error:
            check_message(str(error), path)
            refused += 1
        finally:
            signal.alarm(0)
        assert not marker.exists()

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if seed is not None:
        from hypothesis import seed as seeded

        try_each = seeded(seed)(try_each)
    try_each()
    print(json.dumps({"loaded": loaded, "refused": refused}))


def fuzz_each(folder: Path, count: int, seed: int | None) -> None:
    """`fuzz` every format in a process of its own, forked so that all share the time that imports take.

    What one prints lies in ``folder`` under the format's name, its exit status and its errors beside that.
    """
    for name in FORMATS:
        own = folder / name
        own.mkdir()
        process = os.fork()
        if process == 0:
            for handle, suffix in ((1, "out"), (2, "err")):
                os.dup2(os.open(folder / f"{name}.{suffix}", os.O_WRONLY | os.O_CREAT), handle)
            try:
                fuzz(name, own, count, seed)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(process, 0)
        (folder / f"{name}.status").write_text(str(status), encoding="utf-8")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `fuzz_each`, run in a process without threads, as forking wants it."""
    folder = tmp_path_factory.mktemp("fuzz")
    subprocess.run(
        [sys.executable, __file__, str(folder), str(FILES)],
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CS_LIP_HOME": str(folder / "home")},
        check=True,
    )
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is counted from /proc")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_load_or_are_refused(name: str, outcomes: Path) -> None:
    if name == "onnx":
        tiny_onnx()  # skips the test where onnx is not installed
    status, errors = ((outcomes / f"{name}.{kind}").read_text() for kind in ("status", "err"))
    assert status == "0", f"{status}: {errors[-3000:]}"
    counts = json.loads((outcomes / f"{name}.out").read_text().splitlines()[-1])
    assert counts["loaded"] + counts["refused"] >= FILES
    assert counts["loaded"] > 0, "every file is refused, so the damage is too great to test much"
    assert counts["refused"] > FILES // 5
    assert not (outcomes / name / "marker").exists()


if __name__ == "__main__":
    fuzz_each(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
