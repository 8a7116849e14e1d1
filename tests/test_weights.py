"""Weight files: every format is read for what it holds, and none can do harm, as a library and by the command line."""

import argparse
import gzip
import io
import json
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import Trap, assert_one_sentence, tiny_generator
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from cs_lip.cli.main import main
from cs_lip.priors import Options, load_generator
from cs_lip.priors.reading.formats import Format, format_of
from cs_lip.priors.reading.states import PREFERRED
from cs_lip.priors.reading.weights import BLUEPRINT, read_blueprint, read_weights, write_blueprint

State = dict[str, Tensor]


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def save_npz(state: State, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in state.items()})


def save_safetensors(state: State, path: Path) -> None:
    save_file(state, path)


SAVERS: dict[Format, Callable[..., None]] = {
    Format.SAFETENSORS: save_safetensors,
    Format.PYTORCH_ZIP: save_zip,
    Format.PYTORCH_LEGACY: save_legacy,
    Format.NPZ: save_npz,
}


def tiny_state(seed: int = 0) -> State:
    return dict(tiny_generator((2, 3, 1), seed).state_dict())


def assert_same(state: State, expected: State) -> None:
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAVERS)
@pytest.mark.parametrize("suffix", ["", ".pt", ".pkl", ".npz"])
def test_formats_are_told_apart_by_their_content(kind: Format, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    SAVERS[kind](tiny_state(), path)
    assert format_of(path) is kind
    assert_same(read_weights(path), tiny_state())


@pytest.mark.parametrize("kind", SAVERS)
def test_a_safetensors_suffix_deceives_nobody(kind: Format, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    SAVERS[kind](tiny_state(), path)
    assert format_of(path) is kind
    if kind is Format.PYTORCH_ZIP:
        with pytest.raises(ValueError, match=r"try to rename it to weights\.pt") as caught:
            read_weights(path)
        assert_one_sentence(caught.value)
    else:
        assert_same(read_weights(path), tiny_state())


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x3A0708 % 2**16, 0x4B50])
def test_a_safetensors_length_that_begins_like_another_format(length: int, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save_file(tiny_state(), path)
    edit_header(path, lambda text: text.ljust(length))
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert_same(read_weights(path), tiny_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", [Format.SAFETENSORS, Format.PYTORCH_ZIP, Format.PYTORCH_LEGACY])
def test_other_precisions_are_read(kind: Format, dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(dtype) for name, value in tiny_state().items()}
    SAVERS[kind](state, tmp_path / "weights")
    assert_same(read_weights(tmp_path / "weights"), state)


def test_arrays_of_either_order_are_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez_compressed(
        tmp_path / "a.npz",
        big=array.astype(">f4"),
        fortran=np.asfortranarray(array),
        flipped=array[::-1],
        half=array[0],
    )
    read = read_weights(tmp_path / "a.npz")
    expected = torch.from_numpy(array)
    assert_same(read, {"big": expected, "fortran": expected, "flipped": expected.flip(0), "half": expected[0]})


@pytest.mark.parametrize("kind", [Format.PYTORCH_ZIP, Format.PYTORCH_LEGACY])
def test_views_are_read_as_they_look(kind: Format, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {"transposed": base.T, "slice": base[1:3, ::2], "parameter": nn.Parameter(base)}
    SAVERS[kind](state, tmp_path / "weights.pt")
    assert_same(read_weights(tmp_path / "weights.pt"), {name: value.detach() for name, value in state.items()})


def test_weights_are_copies_that_outlive_their_file(tmp_path: Path) -> None:
    for kind, save in SAVERS.items():
        path = tmp_path / "weights"
        save(tiny_state(), path)
        state = read_weights(path)
        path.write_bytes(bytes(path.stat().st_size))
        assert_same(state, tiny_state()), kind
        path.unlink()


@pytest.mark.parametrize("kind", [Format.PYTORCH_ZIP, Format.PYTORCH_LEGACY])
@pytest.mark.parametrize("averaged", ["g_ema", "avgG", "G_ema", "ema"])
def test_averaged_generators_come_first(kind: Format, averaged: str, tmp_path: Path) -> None:
    others = {"netD": tiny_state(2), "netG": tiny_state(1), "generator": tiny_state(3), "epoch": 3, "losses": [0.1]}
    SAVERS[kind](others | {averaged: tiny_state(0)}, tmp_path / "a.pt")
    assert_same(read_weights(tmp_path / "a.pt"), tiny_state(0))
    SAVERS[kind](others, tmp_path / "b.pt")
    assert_same(read_weights(tmp_path / "b.pt"), tiny_state(1))


@pytest.mark.parametrize("name", [*PREFERRED, "model", "anything"])
def test_the_only_state_dict_is_taken_under_any_name(name: str, tmp_path: Path) -> None:
    torch.save({name: tiny_state(), "epoch": 3}, tmp_path / "a.pt")
    assert_same(read_weights(tmp_path / "a.pt"), tiny_state())


NOT_ONE_STATE: dict[str, Callable[[State], object]] = {
    "holds 2 state dicts .*'first', 'second'": lambda s: {"first": s, "second": s},
    "holds 0 state dicts": lambda s: {"epoch": 3},
    "holds 0 state dicts .*": lambda s: list(s.values()),
    "holds 0 state dicts .*expected": lambda s: {0: torch.ones(2), "main.0.weight": torch.ones(2)},
}


@pytest.mark.parametrize("expected", NOT_ONE_STATE)
def test_file_without_a_generators_state_is_refused(expected: str, tmp_path: Path) -> None:
    torch.save(NOT_ONE_STATE[expected](tiny_state()), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=expected) as caught:
        load_generator(str(tmp_path / "weights.pt"))
    assert_one_sentence(caught.value)


@pytest.fixture
def zoo_config(monkeypatch: pytest.MonkeyPatch) -> object:
    """An object of the class that pytorch_GAN_zoo keeps its settings in."""
    module = types.ModuleType("models.utils.config")
    config = type("BaseConfig", (), {"__module__": "models.utils.config"})
    module.BaseConfig = config  # type: ignore[attr-defined]
    for name in ("models", "models.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "models.utils.config", module)
    instance = config()
    instance.__dict__ |= {"depth": 7, "scales": [1, 2]}
    return instance


@pytest.mark.parametrize("kind", [Format.PYTORCH_ZIP, Format.PYTORCH_LEGACY])
def test_settings_beside_the_weights_do_no_harm(
    kind: Format, zoo_config: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"g_ema": tiny_state(), "args": argparse.Namespace(size=256, name="x"), "config": zoo_config}
    SAVERS[kind](content, tmp_path / "weights.pt")
    monkeypatch.delitem(sys.modules, "models.utils.config")
    assert_same(read_weights(tmp_path / "weights.pt"), tiny_state())


@pytest.mark.parametrize("kind", [Format.PYTORCH_ZIP, Format.PYTORCH_LEGACY])
def test_optimisers_beside_the_weights_do_no_harm(kind: Format, tmp_path: Path) -> None:
    groups = [{"params": [nn.Parameter(torch.ones(2))]} for _ in range(12)]
    optimiser = torch.optim.Adam(groups, betas=(0.0, 0.99))  # one tuple that all groups share
    SAVERS[kind]({"g_ema": tiny_state(), "g_optim": optimiser.state_dict()}, tmp_path / "weights.pt")
    assert_same(read_weights(tmp_path / "weights.pt"), tiny_state())


def test_reading_allows_nothing_to_the_rest_of_the_process(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(size=3), "g": tiny_state()}, tmp_path / "a.pt")
    read_weights(tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pt", weights_only=True)


def test_blueprints_round_trip_in_the_same_bytes_every_time(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "a.safetensors")
    blueprint = read_blueprint(tmp_path / "a.safetensors")
    for name in ("b", "c"):
        write_blueprint(tmp_path / f"{name}.safetensors", blueprint)
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()
    again = read_blueprint(tmp_path / "b.safetensors")
    assert (again.architecture, again.settings) == (blueprint.architecture, blueprint.settings)
    assert again.layout == blueprint.layout == "DCGAN of the PyTorch tutorial"
    assert_same(again.state, blueprint.state)
    with pytest.raises(ValueError, match="says itself how to build it") as caught:
        read_blueprint(tmp_path / "b.safetensors", Options(labels=2))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    "own", ['"widths": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]', '"widths": [1, 1, 1], "first": 2000']
)
def test_few_bytes_that_draw_enormous_images_are_refused(own: str, tmp_path: Path) -> None:
    text = f'{{"architecture": "dcgan", "settings": {{{own}}}, "layout": ""}}'
    save_file(tiny_state(), tmp_path / "a.safetensors", metadata={BLUEPRINT: text})
    with pytest.raises(ValueError, match="up to 2048 x 2048 pixels") as caught:
        load_generator(str(tmp_path / "a.safetensors"))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("settings", ["[]", "nonsense", '{"widths": [1]}', '{"depth": 3}', "3", "[" * 5000, "x" * 5000])
def test_metadata_that_do_not_say_how_to_build_are_refused(settings: str, tmp_path: Path) -> None:
    own = f'{{"architecture": "dcgan", "settings": {settings}, "layout": ""}}'
    save_file(tiny_state(), tmp_path / "a.safetensors", metadata={BLUEPRINT: own})
    with pytest.raises(ValueError, match=r"a\.safetensors") as caught:
        load_generator(str(tmp_path / "a.safetensors"))
    assert_one_sentence(caught.value)


# --- what is refused --------------------------------------------------------------------------------------------------


def edit_header(path: Path, edit: Callable[[str], str]) -> None:
    """A safetensors file whose header is another text."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = edit(content[8 : 8 + length].decode()).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


def edit_members(path: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """A zip archive whose members are others."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, edit(name, content))


def safetensors_with(header: Callable[[dict[str, object]], object]) -> Callable[[Path, Path], None]:
    def write(path: Path, _: Path) -> None:
        save_file(tiny_state(), path)
        edit_header(path, lambda text: json.dumps(header(json.loads(text))))

    return write


def torch_with(change: Callable[[State], object], save: Callable[..., None] = save_zip) -> Callable[[Path, Path], None]:
    return lambda path, _: save(change(tiny_state()), path)


def content_of(make: Callable[[], bytes]) -> Callable[[Path, Path], None]:
    return lambda path, _: path.write_bytes(make()) and None


def trapped(save: Callable[..., None]) -> Callable[[Path, Path], None]:
    return lambda path, marker: save({"netG": tiny_state(), "trap": Trap(marker)}, path)


def header_twice(path: Path, _: Path) -> None:
    save_file(tiny_state(), path)
    edit_header(path, lambda text: '{"main.0.weight":' + json.dumps(json.loads(text)["main.0.weight"]) + "," + text[1:])


def npz_twice(path: Path, _: Path) -> None:
    save_npz(tiny_state(), path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("main.0.weight.npy", b"anything")


def npz_bomb(path: Path, _: Path) -> None:
    np.savez_compressed(path.open("wb"), **{"main.0.weight": np.zeros((2**22,), np.float32)})


def npz_bomb_in_disguise(path: Path, _: Path) -> None:
    """Some hundred bytes of bzip2 that claim as few and unpack to 128 MiB."""
    header = npy_header({"descr": "<f4", "fortran_order": False, "shape": (1000,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive, archive.open("a.npy", "w") as member:
        member.write(header)
        for _ in range(128):
            member.write(bytes(2**20))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<L", len(header) + 100)
    path.write_bytes(content)


def npy_header(fields: object) -> bytes:
    """The beginning of an npy file with any header."""
    text = (fields if isinstance(fields, str) else repr(fields)).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz_of(fields: object) -> Callable[[Path, Path], None]:
    return content_of(lambda: zip_of({"a.npy": npy_header(fields)}))


def npz_shape(shape: object, descr: object = "<f4") -> Callable[[Path, Path], None]:
    return npz_of({"descr": descr, "fortran_order": False, "shape": shape})


def npz_claims(path: Path, _: Path) -> None:
    save_npz(tiny_state(), path)
    huge = npy_header({"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6)})
    edit_members(path, lambda name, content: huge + b"1234" if name == "main.0.weight.npy" else content)


def npz_objects(path: Path, marker: Path) -> None:
    np.savez(path.open("wb"), trap=np.array([Trap(marker)], dtype=object))


def directory_lies(path: Path, _: Path) -> None:
    save_npz(tiny_state(), path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<L", 2**32 - 2)
    path.write_bytes(content)


def compressed_torch(path: Path, _: Path) -> None:
    torch.save(tiny_state(), path)
    edit_members(path, lambda _, content: content, zipfile.ZIP_DEFLATED)


def pickle_of(instructions: bytes) -> Callable[[Path, Path], None]:
    """A PyTorch zip whose pickle has these instructions."""
    members = {"a/data.pkl": b"\x80\x02" + instructions + b".", "a/version": b"3\n"}
    return content_of(lambda: zip_of(members))


def keys_of_one_hash(count: int) -> bytes:
    """The instructions for a dictionary whose keys are multiples of 2^61 - 1, by which Python takes its hashes."""
    keys = ((index * (2**61 - 1)).to_bytes(12, "little") for index in range(1, count))
    return b"}(" + b"".join(b"\x8a\x0c" + key + b"N" for key in keys) + b"u"


def capital_pickle(path: Path, _: Path) -> None:
    """PyTorch's reader finds the first of two members whose names differ in capitals alone."""
    torch.save(tiny_state(), path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    folder = next(iter(members)).partition("/")[0]
    path.write_bytes(zip_of({f"{folder}/DATA.PKL": b"\x80\x02N."} | members))


def record_shorter_than_claimed(path: Path, _: Path) -> None:
    torch.save({"x": torch.arange(4.0)}, path)
    larger = lambda content: content.replace(b"K\x04tq", b"M\xff\x7ftq").replace(b"K\x04\x85", b"M\xff\x7f\x85")  # noqa: E731
    edit_members(path, lambda name, content: larger(content) if name.endswith("data.pkl") else content)


def larger_tensor_than_storage(path: Path, _: Path) -> None:
    save_legacy({"x": torch.arange(4.0)}, path)
    content = path.read_bytes()
    assert content.count(b"K\x04\x85") == 1
    path.write_bytes(content.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"))


def bytearray_bomb(path: Path, _: Path) -> None:
    save_legacy({"x": torch.arange(4.0)}, path)
    call = b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R0"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"}q\x00X\x01\x00\x00\x00x", call + b"}q\x00X\x01\x00\x00\x00x"))


def junk_after(path: Path, _: Path) -> None:
    torch.save(tiny_state(), path)
    path.write_bytes(path.read_bytes() + b"junk")


def larger_than_read(path: Path, _: Path) -> None:
    with path.open("wb") as file:
        file.truncate(9 * 2**30)


def script_archive(path: Path, _: Path) -> None:
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(nn.ReLU()), path)


def exported_program(path: Path, _: Path) -> None:
    program = torch.export.export(nn.Linear(2, 3), (torch.zeros(1, 2),))
    torch.export.save(program, path.with_suffix(".pt2"))
    path.with_suffix(".pt2").replace(path)


def keras_model(path: Path, _: Path) -> None:
    with h5py.File(path, "w") as file:
        file["model_weights/dense/kernel"] = np.zeros((2, 3))


def tar_archive(path: Path, _: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights"))


def picture(path: Path, _: Path) -> None:
    Image.new("RGB", (4, 4)).save(path, "PNG")


def single_array(path: Path, _: Path) -> None:
    np.save(path.open("wb"), np.zeros(3))


def replaced(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: state | {name: value(state[name])}


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def nested_tuples(levels: int) -> bytes:
    """The instructions for a tuple of two of the tuple of two of the tuple of two ..."""
    return b")" + b"".join(
        b"r" + struct.pack("<L", 900 + i) + b"j" + struct.pack("<L", 900 + i) + b"\x86" for i in range(levels)
    )


def endless_key(path: Path, _: Path) -> None:
    torch.save({"x": torch.arange(4.0)}, path)
    key = b"(K\x01t" + nested_tuples(60)[1:] + b"K\x01s"
    edit_members(path, lambda name, content: b"\x80\x02}" + key + b"." if name.endswith("data.pkl") else content)


def endless_storage(path: Path, _: Path) -> None:
    torch.save({"x": torch.arange(4.0)}, path)
    place = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n(K\x01t"
        + nested_tuples(60)[1:]
        + b"X\x03\x00\x00\x00cpuK\x04tQ"
    )
    edit_members(path, lambda name, content: b"\x80\x02" + place + b"." if name.endswith("data.pkl") else content)


BAD_FILES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a trap in a PyTorch zip": (trapped(save_zip), "mkdir'), which could run code"),
    "a trap in a legacy file": (trapped(save_legacy), "mkdir'), which could run code"),
    "a trap in a plain pickle": (trapped(save_pickle), "pickle"),
    "a trap in an npz": (npz_objects, "holds object"),
    "a TorchScript archive": (script_archive, "a TorchScript archive, which holds code that loading can run"),
    "an exported program": (exported_program, "exported by torch.export, and loading one unpickles code"),
    "a Keras model": (keras_model, "HDF5"),
    "a tar archive": (tar_archive, "a tar archive"),
    "a compressed file": (content_of(lambda: gzip.compress(b"weights" * 100)), "compressed by gzip"),
    "a picture": (picture, "a picture"),
    "a single array": (single_array, "a single NumPy array"),
    "text": (content_of(lambda: b"not weights at all\n" * 40), "is text"),
    "a web page": (content_of(lambda: b"<!DOCTYPE html><html>"), "a web page"),
    "zeros": (content_of(lambda: bytes(1000)), "of an unknown format"),
    "nothing": (content_of(lambda: b""), "is empty"),
    "9 GiB": (larger_than_read, "9.0 GiB"),
    "a zip of other files": (content_of(lambda: zip_of({"notes.txt": b"x"})), "a zip archive of other files"),
    "a zip with nothing in it": (content_of(lambda: b"PK\x03\x04" + zip_of({})), "damaged zip archive"),
    "junk after a zip": (junk_after, "damaged zip archive"),
    "a zip bomb": (npz_bomb, "claims"),
    "a zip whose directory lies": (directory_lies, "claims"),
    "compressed members in a PyTorch zip": (compressed_torch, "compressed members"),
    "an array's header that claims petabytes": (npz_claims, "claims 4000000000000000 bytes"),
    "a zip bomb behind a small claim": (npz_bomb_in_disguise, "compressed in a way that NumPy never writes"),
    "an array's header that is no table": (npz_of("(" * 5000), "a damaged npz file"),
    "an array's header without end": (npz_of("-" * 3000 + "1"), "a damaged npz file"),
    "an array of very many zeros": (npz_shape((10**30, 0)), "a damaged npz file"),
    "an array of a shape that is true": (npz_shape((True, 0)), "a damaged npz file"),
    "an array of a nested kind": (npz_shape((0,), ((((),),),)), "a damaged npz file"),
    "a tensor's header that claims terabytes": (
        safetensors_with(
            lambda h: h | {"x": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
        ),
        "not a whole safetensors file",
    ),
    "a shape beyond 64 bits": (
        safetensors_with(lambda h: h | {"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}),
        "not a whole safetensors file",
    ),
    "a header longer than the file": (content_of(lambda: b"\xff" * 7 + b"\x7f{"), "claims a header of"),
    "a header nested without end": (
        content_of(lambda: (100_000).to_bytes(8, "little") + b'{"a":' * 20_000),
        "not a whole safetensors file",
    ),
    "a name twice in safetensors": (header_twice, "'main.0.weight' is there twice"),
    "a name twice in an npz": (npz_twice, "two members of one name"),
    "a name with and without module.": (
        torch_with(lambda s: s | {"module.main.0.weight": s["main.0.weight"]}),
        "both 'main.0.weight' and 'module.main.0.weight'",
    ),
    "a tensor of terabytes in one number": (
        torch_with(replaced("main.0.weight", lambda _: torch.ones(1).expand(10**6, 10**6, 4, 4))),
        "claim 64000000000",
    ),
    "the same in a legacy file": (
        torch_with(replaced("main.0.weight", lambda _: torch.ones(1).expand(10**6, 10**6, 4, 4)), save_legacy),
        "claim 64000000000",
    ),
    "a thousand views of one storage": (
        torch_with(lambda s: {f"main.{i}.weight": s["main.0.weight"].flatten()[:] for i in range(1000)}),
        "claim",
    ),
    "a record shorter than the pickle says": (record_shorter_than_claimed, "not a readable PyTorch weight file"),
    "a tensor larger than its storage": (larger_tensor_than_storage, "weight"),
    "a pickle that asks for gigabytes": (bytearray_bomb, "bytearray'), which could run code"),
    "a key that takes forever to hash": (endless_key, "tuples within tuples without end"),
    "a storage that takes forever to hash": (endless_storage, "tuples within tuples without end"),
    "keys of one hash": (pickle_of(keys_of_one_hash(50_000)), "too many large whole numbers"),
    "instructions of a later protocol": (pickle_of(b"\x8f" * 1000), "pickle protocol 4, expected 2"),
    "a storage of any size": (
        pickle_of(b"ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R"),
        "UntypedStorage'), which could run code",
    ),
    "two pickles, one in capitals": (capital_pickle, "differ in capitals alone"),
    "a plain pickle": (
        content_of(lambda: pickle.dumps({"state_dict": [1.0]})),
        "no network pickle of NVlabs' stylegan2-ada-pytorch, the only pickles that are read",
    ),
    "a sparse tensor": (torch_with(replaced("main.0.weight", lambda w: w.to_sparse())), "which could run code"),
    "a missing key": (torch_with(without("main.1.bias")), "lack key 'main.1.bias'"),
    "a NaN": (torch_with(replaced("main.0.weight", lambda w: w * torch.nan)), "finite"),
    "an infinity": (torch_with(replaced("main.0.weight", lambda w: w * torch.inf)), "finite"),
    "complex weights": (torch_with(replaced("main.0.weight", lambda w: w.cfloat())), "which could run code"),
    "whole numbers": (torch_with(replaced("main.1.bias", lambda w: w.long())), "finite real numbers"),
    "another shape": (torch_with(replaced("main.1.bias", lambda w: w[1:])), "has shape (2,), expected (3,)"),
    "two generators of unknown names": (torch_with(lambda s: {"first": s, "second": s}), "'first', 'second'"),
    "names that are no text": (torch_with(lambda s: dict(enumerate(s.values()))), "holds 0 state dicts"),
}


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_in_one_sentence_and_nothing_is_kept(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, marker, path = tmp_path / "home", tmp_path / "marker", tmp_path / "weights"
    monkeypatch.setenv("CS_LIP_HOME", str(home))
    write, expected = BAD_FILES[case]
    write(path, marker)
    for arguments in (
        ["generators", "add", str(path), "--name", "mine"],
        ["recover", "--measurements", "64", "--generator", str(path), "--out", str(tmp_path / "run")],
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("Error: ")
        assert expected in line
        assert str(path) in line
        assert_one_sentence(line.replace(str(path), "FILE"))
    assert not list(home.rglob("*"))
    assert not marker.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
def test_pickled_code_never_runs_whatever_the_file_is_called(
    save: Callable[[object, Path], None], suffix: str, tmp_path: Path
) -> None:
    marker, path = tmp_path / "marker", tmp_path / f"trap{suffix}"
    save({"netG_state_dict": tiny_state(), "trap": Trap(marker)}, path)
    with pytest.raises(ValueError, match="trap") as caught:
        load_generator(str(path))
    assert_one_sentence(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists(), "the trap does not work, so the test says nothing"


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt", "no-such-generator", "."])
def test_missing_file_or_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there is no") as caught:
        load_generator(name)
    assert_one_sentence(caught.value)
    assert repr(name) in str(caught.value) or name in str(caught.value)


@pytest.mark.parametrize("kind", SAVERS)
def test_every_truncation_is_refused(kind: Format, tmp_path: Path) -> None:
    SAVERS[kind](tiny_state(), tmp_path / "whole")
    content, path = (tmp_path / "whole").read_bytes(), tmp_path / "cut-short"
    for length in range(0, len(content) - 1, max(1, len(content) // 100)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut-short") as caught:
            load_generator(str(path))
        assert_one_sentence(caught.value)


@given(names=st.lists(st.text(min_size=1, max_size=30).filter(lambda name: "\0" not in name), min_size=1, max_size=4))
@example(names=["\U0002ebe1" * 30, "\U0002ebe2" * 30, "\U0002ebe3" * 30])
@settings(deadline=None, max_examples=40)
def test_names_of_any_letters_end_in_one_sentence(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("names") / "weights.pt"
    torch.save({name: torch.ones(1) for name in names}, path)
    with pytest.raises(ValueError, match=r"weights\.pt") as caught:
        load_generator(str(path))
    assert_one_sentence(caught.value)
