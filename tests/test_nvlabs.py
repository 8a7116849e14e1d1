"""NVlabs' network pickles: read as data, so that nothing in them ever runs, and no bytes do harm."""

import collections
import os
import pickle
import pickletools
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_stylegan2 import nvlabs_state
from torch import Tensor, nn

from cs_lip.priors import build
from cs_lip.priors.layouts.stylegan2 import from_nvlabs
from cs_lip.priors.reading.inert import Made, Name, interpret
from cs_lip.priors.reading.nvlabs import blueprint_from_nvlabs, read_nvlabs
from cs_lip.seeding import stream

State = dict[str, Tensor]
MARKER = "import pathlib; pathlib.Path('ran').touch()"


class Persistent(nn.Module):
    """Pickles as the decorator of torch_utils/persistence.py makes its classes pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": MARKER, "class_name": "Any", "state": self.__dict__}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


class EasyDict(dict):  # type: ignore[type-arg]
    pass


@pytest.fixture(autouse=True, scope="module")
def foreign_modules() -> Iterator[None]:
    """The modules whose names stand in such pickles, for as long as they are written."""

    def _reconstruct_persistent_obj(meta: object) -> None:
        raise AssertionError("the pickle was loaded")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    EasyDict.__module__ = "dnnlib.util"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setattr(
            sys.modules["torch_utils.persistence"],
            "_reconstruct_persistent_obj",
            _reconstruct_persistent_obj,
            raising=False,
        )
        patch.setattr(sys.modules["dnnlib.util"], "EasyDict", EasyDict, raising=False)
        yield


BUFFERS = ("noise_const", "resample_filter", "w_avg")


def as_modules(state: State, make: Callable[[], nn.Module] = Persistent) -> nn.Module:
    """Nested modules that hold these weights, with the attributes of training/networks.py."""
    network = make()
    for name, value in state.items():
        *path, last = name.split(".")
        module = network
        for part in path:
            if part not in module._modules:
                module.add_module(part, make())
            module = module._modules[part]  # type: ignore[assignment]
        if last in BUFFERS:
            module.register_buffer(last, value)
        else:
            module.register_parameter(last, nn.Parameter(value))
    for name, module in network.named_modules():
        part = name.rpartition(".")[2]
        if part.startswith(("fc", "conv")):
            module.activation = "lrelu"  # type: ignore[assignment]
        if part in ("affine", "embed"):
            module.activation = "linear"  # type: ignore[assignment]
        if part.startswith("fc"):
            module.bias_gain = 0.01  # type: ignore[assignment]
        if part.startswith("b"):
            module.architecture = "skip"  # type: ignore[assignment]
        if part.startswith(("conv", "torgb")):
            module.conv_clamp = None  # type: ignore[assignment]
    return network


def networks(state: State, **extra: object) -> dict[str, object]:
    """What a file of these repositories holds."""
    network = as_modules(state)
    network._init_kwargs = EasyDict(  # type: ignore[assignment]
        z_dim=8, c_dim=0, mapping_kwargs=EasyDict(num_layers=2), odd=torch.ones(2), callback=print
    )
    return {
        "G": as_modules({name: value + 1 for name, value in state.items()}),
        "D": as_modules({"b4.conv.weight": torch.ones(2, 2)}),
        "G_ema": network,
        "training_set_kwargs": EasyDict(path="somewhere"),
        "augment_pipe": None,
        **extra,
    }


@pytest.fixture(scope="module")
def small() -> bytes:
    """One of the smallest networks there can be."""
    return pickle.dumps({"G_ema": as_modules(nvlabs_state((2, 2), (1,), 1))})


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_averaged_generator_is_read(protocol: int) -> None:
    state = nvlabs_state()
    network = read_nvlabs(pickle.dumps(networks(state), protocol))
    assert network.state.keys() == state.keys()
    assert all(torch.equal(network.state[name], value) for name, value in state.items())
    assert network.init_kwargs == {
        "z_dim": 8,
        "c_dim": 0,
        "mapping_kwargs": {"num_layers": 2},
        "odd": None,
        "callback": None,
    }
    assert network.attributes["mapping.fc0.bias_gain"] == 0.01
    assert network.attributes["synthesis.b8.conv0.activation"] == "lrelu"


def test_generator_of_a_pickle_is_that_of_its_state_dict() -> None:
    state = nvlabs_state(labels=3)
    content = pickle.dumps(networks(state))
    for options in ({"label": 2}, {"label": 1, "space": "w"}, {"space": "w+"}):
        one, other = build(blueprint_from_nvlabs(content, **options)), build(from_nvlabs(state, **options))
        latents = one.sample_latents(2, generator=stream(0, "test"))
        assert torch.equal(one(latents), other(latents))


def test_settings_that_no_weight_shows_are_read_off_the_attributes() -> None:
    network = as_modules(nvlabs_state())
    for module in network.modules():
        if hasattr(module, "conv_clamp"):
            module.conv_clamp = 256  # type: ignore[assignment]
        if hasattr(module, "bias_gain"):
            module.bias_gain = 0.1  # type: ignore[assignment]
    settings = blueprint_from_nvlabs(pickle.dumps({"G_ema": network})).settings
    assert (settings["clamp"], settings["rate"]) == (256, 0.1)


def test_plain_modules_of_pytorch_inside_a_network_are_read() -> None:
    network = as_modules({"layers.weight": torch.arange(6.0).reshape(2, 3).T}, nn.Module)
    read = read_nvlabs(pickle.dumps({"G_ema": network}))
    assert torch.equal(read.state["layers.weight"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_kind_of_weight_is_read(dtype: torch.dtype) -> None:
    values = torch.randn(7, 3, generator=stream(0, "test")).to(dtype)
    views = {"whole": values, "part": values[2:5, 1], "turned": values.T, "one": values[3, 2]}
    network = nn.Module()
    for name, value in views.items():
        network.register_buffer(name, value)
    read = read_nvlabs(pickle.dumps({"G_ema": network})).state
    assert all(torch.equal(read[name], value) and read[name].dtype == dtype for name, value in views.items())


# Files that would do harm


class Call:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


class WithState:
    """Pickles to an object whose ``__setstate__`` would be called."""

    def __reduce__(self) -> tuple[object, ...]:
        return Settable, (), {"marker": "ran"}


class Settable:
    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["marker"]).touch()


PAYLOADS: dict[str, Callable[[], object]] = {
    "os.system": lambda: Call(os.system, "touch ran"),
    "os.mkdir": lambda: Call(os.mkdir, "ran"),
    "eval": lambda: Call(eval, "open('ran', 'w')"),
    "exec": lambda: Call(exec, MARKER),
    "subprocess": lambda: Call(subprocess.run, ("touch", "ran")),
    "open": lambda: Call(open, "ran", "w"),
    "torch.load": lambda: Call(torch.load, "elsewhere", None, None, False),
    "state": WithState,
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["beside", "attribute", "module state", "hooks", "call of a call"])
def test_nothing_in_a_pickle_ever_runs(
    payload: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = nvlabs_state()
    content = networks(state)
    trap = PAYLOADS[payload]()
    network = content["G_ema"]
    assert isinstance(network, nn.Module)
    match place:
        case "beside":
            content["augment_pipe"] = trap
        case "attribute":
            network.trap = trap  # type: ignore[assignment]
        case "module state":
            network.synthesis.trap = {"deep": [trap]}  # type: ignore[assignment,union-attr]
        case "hooks":
            network._forward_hooks[0] = trap  # type: ignore[assignment]
        case _:
            content = Call(print, content, trap)  # type: ignore[assignment]
    data = pickle.dumps(content)
    if place == "call of a call":
        with pytest.raises(ValueError, match="holds no network 'G_ema'") as caught:
            read_nvlabs(data)
        assert_one_sentence(caught.value)
    else:
        read = read_nvlabs(data)
        assert all(torch.equal(read.state[name], value) for name, value in state.items())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("payload", ["os.system", "os.mkdir", "eval", "exec", "open", "state"])
def test_the_traps_work(payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(PAYLOADS[payload]()))
    assert (tmp_path / "ran").exists(), "the trap does not work, so the test above says nothing"


def stack_global(module: str, name: str) -> bytes:
    return b"".join(b"\x8c" + struct.pack("B", len(text)) + text.encode() for text in (module, name)) + b"\x93"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "storage._load_from_bytes.__globals__"),
        ("builtins", "eval"),
        ("", ""),
        ("collections", "OrderedDict.__init__.__class__"),
    ],
)
def test_names_are_never_looked_up(module: str, name: str) -> None:
    program = b"\x80\x04" + stack_global(module, name)
    assert interpret(BytesIO(program + b".")) == Name(f"{module}.{name}")
    made = interpret(BytesIO(program + b"\x8c\x01x\x85R\x8c\x01y\x85R."))
    assert isinstance(made, Made) and made.path == "" and made.arguments == ("y",)
    # A state given to a class or function would change it for everybody; here there is nothing to change.
    with pytest.raises(ValueError, match="gives a state to what has none"):
        interpret(BytesIO(program + b"}b."))


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be followed"),
    "text": (b"hello", "cannot be followed"),
    "no end": (b"\x80\x04}", "cannot be followed"),
    "empty stack": (b"\x80\x04.", "cannot be followed"),
    "no mark": (b"\x80\x04t.", "cannot be followed"),
    "tuple of too little": (b"\x80\x04N\x87.", "takes more from the stack"),
    "extension": (b"\x80\x04\x82\x01.", "instruction EXT1"),
    "instance": (b"(ios\nsystem\n.", "instruction INST"),
    "object": (b"(cos\nsystem\no.", "instruction OBJ"),
    "persistent text": (b"Pabc\n.", "instruction PERSID"),
    "out-of-band buffer": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    "long number": (b"\x80\x04\x8b\x04\x00\x00\x00\x01\x00\x00\x00.", "instruction LONG4"),
    "claims 2^62 bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "cannot be followed"),
    "claims 2^62 letters": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "cannot be followed"),
    "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1) + b"x.", "instruction BYTEARRAY8"),
    "unknown memo": (b"\x80\x04h\x07.", "cannot be followed"),
    "a name of numbers": (b"\x80\x04K\x01K\x02\x93.", "name that is no text"),
    "a key that is a list": (b"\x80\x04}]Ns.", "key that is a list"),
    "a key that is a large number": (b"\x80\x04}\x8a\x09" + bytes(8) + b"\x01Ns.", "key that is a int"),
    "items of a number": (b"\x80\x04K\x01NNs.", "puts items where none"),
    "an odd number of items": (b"\x80\x04}(Nu.", "puts items where none"),
    "something outside": (b"\x80\x04K\x01Q.", "holds no network 'G_ema'"),
    "a number": (b"\x80\x04K\x01.", "holds no network 'G_ema'"),
    "other networks": (pickle.dumps({"G": 1, 3: 2}), "no network 'G_ema' but 'G', '3'"),
    "a number for a network": (pickle.dumps({"G_ema": 3}), "a int is where a network's module"),
    "TensorFlow's three networks": (pickle.dumps((1, 2, 3)), "holds no network 'G_ema'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pickle_of_another_kind_is_refused_in_one_sentence(case: str) -> None:
    content, expected = REFUSED[case]
    with pytest.raises(ValueError, match=expected) as caught:
        read_nvlabs(content)
    assert_one_sentence(caught.value)


def test_keys_that_take_forever_to_hash_are_refused() -> None:
    # Each tuple holds the one before twice: 2^60 parts, if anybody went through them.
    program = b"\x80\x04}K\x01\x85" + b"".join(
        b"q" + struct.pack("B", index) + b"h" + struct.pack("B", index) + b"\x86" for index in range(60)
    )
    with pytest.raises(ValueError, match="key that is a tuple"):
        interpret(BytesIO(program + b"Ns."))


@pytest.mark.filterwarnings("error")
def test_very_deep_and_very_long_pickles_are_refused_or_read() -> None:
    deep = b"\x80\x04" + b"]" * 500_000 + b"a" * 499_999 + b"."
    with pytest.raises(ValueError, match="G_ema"):
        read_nvlabs(deep)
    with pytest.raises(ValueError, match="more than 2000000 instructions"):
        read_nvlabs(b"\x80\x04" + b"N" * 2_000_001 + b".")


class Fake:
    """Pickles to a plain module with these attributes."""

    def __init__(self, **attributes: object) -> None:
        self.attributes = attributes

    def __reduce__(self) -> tuple[object, ...]:
        return nn.Module, (), self.attributes


def fake_tensor(storage: object, *view: object) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, *view, False, collections.OrderedDict())


def storage_of(count: int, claimed: int | None = None, kind: str = "FloatStorage") -> Call:
    buffer = BytesIO()
    torch.save(torch.zeros(count)._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    if claimed is not None:
        data = data[: -4 * count - 8] + struct.pack("<q", claimed) + data[-4 * count :]
    return Call(torch.storage._load_from_bytes, data.replace(b"FloatStorage", kind.encode()))


def shared_modules(depth: int) -> Fake:
    """Each module holds the next one twice."""
    module = Fake(_modules={})
    for _ in range(depth):
        module = Fake(_modules={"a": module, "b": module})
    return module


BAD_NETWORKS: dict[str, tuple[Callable[[], object], str]] = {
    "shape beyond the storage": (lambda: fake_tensor(storage_of(4), 0, (5,), (1,)), r"shape \(5,\) does not lie"),
    "offset beyond the storage": (lambda: fake_tensor(storage_of(4), 3, (2,), (1,)), "does not lie"),
    "terabytes of one value": (lambda: fake_tensor(storage_of(4), 0, (10**6, 10**6), (0, 0)), "does not lie"),
    "an absurd shape": (lambda: fake_tensor(storage_of(4), 0, (2**50,), (0,)), "no shape of whole numbers"),
    "a negative stride": (lambda: fake_tensor(storage_of(4), 3, (2,), (-1,)), "no shape of whole numbers"),
    "a shape of text": (lambda: fake_tensor(storage_of(4), 0, "ab", (1, 1)), "no shape of whole numbers"),
    "a shape of booleans": (lambda: fake_tensor(storage_of(4), 0, (True,), (1,)), "no shape of whole numbers"),
    "fewer strides than lengths": (lambda: fake_tensor(storage_of(4), 0, (2, 2), (1,)), "no shape of whole numbers"),
    "very many dimensions": (lambda: fake_tensor(storage_of(4), 0, (1,) * 100, (1,) * 100), "does not lie"),
    "nothing in it": (lambda: fake_tensor(storage_of(4), 0, (0, 2), (2, 1)), "does not lie"),
    "storage that claims terabytes": (lambda: fake_tensor(storage_of(4, 2**40), 0, (4,), (1,)), "has 16 bytes"),
    "storage of another kind": (
        lambda: fake_tensor(storage_of(4, kind="EvilyStorage"), 0, (4,), (1,)),
        "no known format",
    ),
    "storage that is no storage": (
        lambda: fake_tensor(Call(torch.storage._load_from_bytes, b"\x80\x04N."), 0, (4,), (1,)),
        "cannot be followed",
    ),
    "storage from elsewhere": (lambda: fake_tensor(Call(os.getenv, "x"), 0, (4,), (1,)), "where a weight's values"),
    "storage of numbers": (lambda: fake_tensor(3, 0, (4,), (1,)), "where a weight's values"),
    "a call in place of a weight": (lambda: Call(os.mkdir, "ran"), "where a weight was expected"),
    "a number in place of a weight": (lambda: 3, "where a weight was expected"),
    "a parameter of nothing": (lambda: Call(torch._utils._rebuild_parameter), "where a weight was expected"),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_bad_weight_is_refused_in_one_sentence(case: str) -> None:
    make, expected = BAD_NETWORKS[case]
    content = pickle.dumps({"G_ema": Fake(_parameters={"weight": make()})})
    with pytest.raises(ValueError, match=expected) as caught:
        read_nvlabs(content)
    assert_one_sentence(caught.value)


BAD_MODULES: dict[str, tuple[Callable[[], object], str]] = {
    "the same module over and over": (lambda: shared_modules(40), "more than 500 parts"),
    "too many attributes": (lambda: Fake(**{f"a{index}": 1 for index in range(501)}), "more than 500 parts"),
    "a long name": (lambda: Fake(_modules={"a" * 101: None}), "no short text"),
    "a name of bytes": (lambda: Fake(_buffers={b"a": None}), "no short text"),
    "a module that is a list": (lambda: Fake(_modules={"a": []}), "a list is where a network's module"),
    "one storage over and over": (
        lambda: Fake(_parameters=dict.fromkeys(map(str, range(400)), fake_tensor(storage_of(4000), 0, (4000,), (1,)))),
        "claim more bytes",
    ),
}


@pytest.mark.parametrize("case", BAD_MODULES)
def test_bad_module_is_refused_in_one_sentence(case: str) -> None:
    make, expected = BAD_MODULES[case]
    with pytest.raises(ValueError, match=expected) as caught:
        read_nvlabs(pickle.dumps({"G_ema": make()}))
    assert_one_sentence(caught.value)


def test_module_that_holds_itself_is_refused() -> None:
    network = nn.Module()
    network._modules["again"] = network
    with pytest.raises(ValueError, match="parts"):
        read_nvlabs(pickle.dumps({"G_ema": network}))


OTHER_NETWORKS: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "residual": (
        lambda n: setattr(n.synthesis.b8, "architecture", "resnet"),
        "architecture is 'resnet', expected 'skip'",
    ),
    "another activation": (lambda n: setattr(n.mapping.fc0, "activation", "relu"), "activation is 'relu', expected"),
    "clamped in places": (lambda n: setattr(n.synthesis.b8.conv0, "conv_clamp", 3), "2 different values"),
    "a rate that is text": (lambda n: setattr(n.mapping.fc0, "bias_gain", "fast"), "learning rate is 'fast'"),
    "a rate of NaN": (lambda n: setattr(n.mapping.fc0, "bias_gain", float("nan")), "learning rate is nan"),
    "no StyleGAN2": (lambda n: delattr(n.synthesis.b4, "const"), "not a StyleGAN2's"),
}


@pytest.mark.parametrize("case", OTHER_NETWORKS)
def test_network_of_another_kind_is_refused_in_one_sentence(case: str) -> None:
    change, expected = OTHER_NETWORKS[case]
    network = as_modules(nvlabs_state())
    change(network)
    with pytest.raises(ValueError, match=expected) as caught:
        blueprint_from_nvlabs(pickle.dumps({"G_ema": network}))
    assert_one_sentence(caught.value)


# Damage


def test_every_truncation_is_refused(small: bytes) -> None:
    for length in range(0, len(small) - 1, 97):
        with pytest.raises(ValueError, match=r"try ") as caught:
            blueprint_from_nvlabs(small[:length])
        assert_one_sentence(caught.value)


def test_damaged_bytes_are_read_or_refused(small: bytes) -> None:
    opcodes = b"".join(opcode.code.encode("latin1") for opcode in pickletools.opcodes)

    @given(
        damage=st.lists(
            st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255) | st.sampled_from(list(opcodes))),
            min_size=1,
            max_size=6,
        )
    )
    @example(damage=[(0.0, 0)])
    @settings(deadline=None, max_examples=500)
    def damaged(damage: list[tuple[float, int]]) -> None:
        content = bytearray(small)
        for place, value in damage:
            content[int(place * len(content))] = value
        try:
            generator = build(blueprint_from_nvlabs(bytes(content)))
        except ValueError as error:
            assert_one_sentence(error)
        else:
            assert generator.image_shape == (1, 4, 4)

    damaged()


@given(content=st.binary(max_size=200))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"try ") as caught:
        read_nvlabs(b"\x80\x04" + content)
    assert_one_sentence(caught.value)
