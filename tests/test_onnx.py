"""ONNX: the images of ONNX's own evaluator, and no file that runs code, reads others or needs absurd memory."""

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cs_lip.priors import Generator
from cs_lip.priors.onnx import generator_from_onnx
from cs_lip.priors.reading.formats import Format, format_of
from cs_lip.seeding import stream

onnx = pytest.importorskip("onnx", reason="onnx is not installed; pip install 'cs-lip[onnx]'")
pytest.importorskip("onnx2torch", reason="onnx2torch is not installed; pip install 'cs-lip[onnx]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

Model = Any


def constant(name: str, shape: tuple[int, ...], seed: int = 0) -> TensorProto:
    values = np.random.default_rng([seed, len(name), ord(name[0])]).normal(size=shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def model_of(nodes: list[Any], weights: list[TensorProto], latent: list[Any], image: list[Any]) -> Model:
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, latent)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dense_model(name: str = "", batch: Any = "batch", shape: tuple[int, ...] = (-1, 3, 2, 4)) -> Model:
    """A matrix product, a bias, tanh and a reshape; ``name`` is that of the last node."""
    nodes = [
        helper.make_node("MatMul", ["z", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["values"]),
        helper.make_node("Tanh", ["values"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["x"], name=name),
    ]
    weights = [
        constant("matrix", (5, 24)),
        constant("bias", (24,)),
        numpy_helper.from_array(np.array(shape), "shape"),
    ]
    return model_of(nodes, weights, [batch, 5], [batch, 3, 2, 4])


def convolution_model() -> Model:
    """As a DCGAN begins: a transposed convolution, batch norm, ReLU, another that doubles the side, a sigmoid."""
    nodes = [
        helper.make_node("ConvTranspose", ["z", "kernel"], ["spread"]),
        helper.make_node("BatchNormalization", ["spread", "gamma", "beta", "mean", "variance"], ["normed"]),
        helper.make_node("Relu", ["normed"], ["active"]),
        helper.make_node("ConvTranspose", ["active", "last", "offset"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["y"], ["x"]),
    ]
    variance = numpy_helper.from_array(np.array([0.5, 2, 1, 3], np.float32), "variance")
    weights = [constant(name, (4,)) for name in ("gamma", "beta", "mean")]
    weights += [variance, constant("kernel", (6, 4, 4, 4)), constant("last", (4, 3, 4, 4)), constant("offset", (3,))]
    return model_of(nodes, weights, ["batch", 6, 1, 1], ["batch", 3, 8, 8])


def save(model: Model, folder: Path) -> Path:
    path = folder / "generator.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def evaluated(model: Model, latents: Tensor, value_range: tuple[float, float]) -> Tensor:
    """What ONNX's own evaluator, in NumPy, makes of the graph."""
    (values,) = ReferenceEvaluator(model).run(None, {"z": latents.numpy()})
    low, high = value_range
    return torch.from_numpy((values - low) / (high - low)).clamp(0, 1)


MODELS = {"dense": (dense_model, (-1.0, 1.0)), "convolutions": (convolution_model, (0.0, 1.0))}


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Model, Generator, tuple[float, float]]:
    make, value_range = MODELS[request.param]
    model = make()
    return model, generator_from_onnx(save(model, tmp_path), value_range=value_range), value_range


# The images


def test_images_are_those_of_the_reference_evaluator(case: tuple[Model, Generator, tuple[float, float]]) -> None:
    model, generator, value_range = case
    latents = generator.sample_latents(3, generator=stream(1, "test"))
    expected = evaluated(model, latents, value_range)
    assert generator.image_shape == tuple(expected.shape[1:])
    assert expected.std() > 0.1
    for prior in (generator, generator.fold()):
        torch.testing.assert_close(prior(latents), expected, rtol=0, atol=1e-5)


def test_latents_can_be_searched(case: tuple[Model, Generator, tuple[float, float]]) -> None:
    _, generator, _ = case
    folded = generator.double().fold()
    assert not any(weight.requires_grad for weight in folded.parameters())
    latent = generator.sample_latents(1, generator=stream(1, "test"))[0].requires_grad_()
    tangent = torch.randn(1, *generator.latent_shape, generator=stream(2, "test"), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(folded(latent).sum(), latent)
    torch.testing.assert_close(folded.push(latent.detach(), tangent).sum(), (gradient * tangent[0]).sum())


def test_the_trial_that_finds_the_image_shape_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What zeros do not make large, as sizes computed from the latent, other latents may."""
    monkeypatch.setattr("cs_lip.priors.onnx._check_draws", lambda *_: None)
    monkeypatch.setattr("cs_lip.priors.onnx.MAX_ALIVE", 16)
    onnx.save(dense_model(), tmp_path / "large.onnx")
    with pytest.raises(ValueError, match=r"large\.onnx needs") as caught:
        generator_from_onnx(tmp_path / "large.onnx", value_range=(-1, 1))
    assert_one_sentence(caught.value)


def test_files_that_say_their_version_or_a_text_first_are_onnx(tmp_path: Path) -> None:
    for number, about in enumerate(({"model_version": 3}, {"doc_string": "hello"})):
        model = dense_model()
        for field, value in about.items():
            setattr(model, field, value)
        path = tmp_path / f"{number}.onnx"
        onnx.save(model, path)
        assert format_of(path) is Format.ONNX


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own exporters, the older needs no package
def test_network_exported_by_pytorch(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Linear(6, 64), nn.Unflatten(1, (4, 4, 4)), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3)
    ).eval()
    path = tmp_path / "exported.onnx"
    latents = torch.randn(3, 6, generator=stream(1, "test"))
    torch.onnx.export(
        network, (latents,), path, dynamo=False, input_names=["z"], dynamic_axes={"z": {0: "batch"}}, opset_version=17
    )
    generator = generator_from_onnx(path, value_range=(-2, 2))
    assert (generator.latent_shape, generator.image_shape) == ((6,), (3, 6, 6))
    expected = ((network(latents) + 2) / 4).clamp(0, 1)
    torch.testing.assert_close(generator(latents), expected, rtol=0, atol=1e-5)


def test_graph_for_a_batch_of_one_draws_any_where_its_operators_do(tmp_path: Path) -> None:
    generator = generator_from_onnx(save(dense_model(batch=1), tmp_path), value_range=(-1, 1))
    latents = generator.sample_latents(3, generator=stream(1, "test"))
    assert generator(latents).shape == (3, 3, 2, 4)


# What is refused


def test_names_are_never_run_as_code(tmp_path: Path) -> None:
    """A name that closes the string it is written into runs when onnx2torch is left to itself: see the second half."""
    import onnx2torch

    marker = "onnx_marker"
    name = f'x", setattr(__import__("sys"), "{marker}", 1))#'
    model = dense_model(name)
    generator = generator_from_onnx(save(model, tmp_path), value_range=(-1, 1))
    generator(torch.zeros(1, 5))
    assert not hasattr(sys, marker)
    onnx2torch.convert(model)(torch.zeros(1, 5))
    assert hasattr(sys, marker), "the trap does not work, so the test says nothing"
    delattr(sys, marker)


def _several_inputs(model: Model) -> None:
    model.graph.input.append(helper.make_tensor_value_info("labels", TensorProto.FLOAT, ["batch", 3]))


def _several_outputs(model: Model) -> None:
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["batch", 24]))


def _dynamic_latents(model: Model) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "k"


def _external_weights(model: Model) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/hostname")
    model.graph.initializer[0].ClearField("raw_data")


def _external_constant(model: Model) -> None:
    value = constant("bias", (24,))
    onnx.external_data_helper.set_external_data(value, "/etc/hostname")
    value.ClearField("raw_data")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=value))


def _unknown_operator(model: Model) -> None:
    model.graph.node[2].op_type = "Det"


def _missing_weights(model: Model) -> None:
    del model.graph.initializer[0]


def _no_images(model: Model) -> None:
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([-1, 24]), "shape"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 24]))


def _fixed_batch(model: Model) -> None:
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([1, 3, 2, 4]), "shape"))


def _absurd_size(model: Model) -> None:
    shape = numpy_helper.from_array(np.array([2**20, 2**10, 1, 24]), "absurd")
    model.graph.initializer.append(shape)
    model.graph.node.insert(3, helper.make_node("Expand", ["flat", "absurd"], ["expanded"]))
    model.graph.node[4].input[0] = "expanded"


def _computed_size(model: Model) -> None:
    """Repeats 4096^2 times, a number that ONNX does not infer."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4096], np.float32), "base"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "power"))
    model.graph.node.insert(3, helper.make_node("Pow", ["base", "power"], ["count"]))
    model.graph.node.insert(4, helper.make_node("Cast", ["count"], ["times"], to=TensorProto.INT64))
    model.graph.node.insert(5, helper.make_node("Tile", ["flat", "times"], ["tiled"]))
    model.graph.node.insert(6, helper.make_node("ReduceMax", ["tiled"], ["largest"]))
    model.graph.node.insert(7, helper.make_node("Add", ["flat", "largest"], ["again"]))
    model.graph.node[8].input[0] = "again"


def _many_large(model: Model) -> None:
    """Each has 192 MB, and all are kept until their sum."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 10**6]), "times"))
    model.graph.node.insert(3, helper.make_node("Tile", ["flat", "times"], ["large-0"]))
    names = [f"large-{index}" for index in range(8)]
    for index, (one, other) in enumerate(pairwise(names), 4):
        model.graph.node.insert(index, helper.make_node("Neg", [one], [other]))
    model.graph.node.insert(11, helper.make_node("Sum", names, ["sum"]))
    model.graph.node.insert(12, helper.make_node("ReduceMax", ["sum"], ["largest"]))
    model.graph.node.insert(13, helper.make_node("Add", ["flat", "largest"], ["again"]))
    model.graph.node[14].input[0] = "again"


def _no_latents_at_all(model: Model) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[:]


BAD: dict[str, tuple[Callable[[Model], None], str]] = {
    "several inputs": (_several_inputs, "has 2 inputs and 1 outputs"),
    "several outputs": (_several_outputs, "has 1 inputs and 2 outputs"),
    "latents of any size": (_dynamic_latents, "'z' .* no fixed size beside its batch"),
    "an input without dimensions": (_no_latents_at_all, "'z' .* no fixed size|not a whole ONNX file"),
    "weights in another file": (_external_weights, "keeps the weights 'matrix' in another file"),
    "a constant in another file": (_external_constant, "keeps the weights 'bias' in another file"),
    "an operator of no generator": (_unknown_operator, "operator that onnx2torch does not know .*Det"),
    "weights that are missing": (_missing_weights, "not a whole ONNX file"),
    "no images": (_no_images, r"shape \(2, 24\) for two latents"),
    "a batch of one": (_fixed_batch, "does not draw two latents at once|not a whole ONNX file"),
    "a tensor of 192 GiB": (_absurd_size, "needs more than 1073741824 bytes at a time"),
    "a computed size": (_computed_size, "needs more than 1073741824 bytes at a time"),
    "many large tensors": (_many_large, "needs more than 1073741824 bytes at a time"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_generator_is_refused_in_one_sentence(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, expected = BAD[case]
    model = dense_model()
    spoil(model)
    with pytest.raises(ValueError, match=expected) as caught:
        generator_from_onnx(save(model, tmp_path), value_range=(-1, 1))
    assert_one_sentence(caught.value)
    assert "generator.onnx" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_range_of_no_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="low < high") as caught:
        generator_from_onnx(save(dense_model(), tmp_path), value_range=(1, -1))
    assert_one_sentence(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no ONNX file") as caught:
        generator_from_onnx(tmp_path / "none.onnx", value_range=(-1, 1))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("package", ["onnx", "onnx2torch"])
def test_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"onnx2torch, which is not installed; .*cs-lip\[onnx\]") as caught:
        generator_from_onnx(save(dense_model(), tmp_path), value_range=(-1, 1))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("make", [dense_model, convolution_model])
@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_damaged_bytes_load_or_are_refused(
    make: Callable[[], Model], damage: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(make().SerializeToString())
    for place, value in damage:
        content[int(place * len(content))] = value
    path = tmp_path_factory.mktemp("damaged") / "generator.onnx"
    path.write_bytes(content)
    try:
        generator = generator_from_onnx(path, value_range=(-1, 1))
    except ValueError as error:
        assert_one_sentence(error)
    else:
        assert len(generator.image_shape) == 3


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = dense_model().SerializeToString()
    for length in range(0, len(content) - 1, len(content) // 40):
        (tmp_path / "cut.onnx").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.onnx") as caught:
            generator_from_onnx(tmp_path / "cut.onnx", value_range=(-1, 1))
        assert_one_sentence(caught.value)
