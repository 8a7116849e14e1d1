"""What the tests share: small generators, and what every message to a user must be."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cs_lip.priors import DCGAN, Generator, Layer

TINY_WIDTHS = (8, 16, 8, 3)
"""8 latents to images (3, 16, 16)."""


def tiny_generator(widths: tuple[int, ...] = TINY_WIDTHS, seed: int = 0) -> DCGAN:
    """An untrained DCGAN, loud enough to draw more than grey, with batch norm statistics as odd as trained ones."""
    rng = torch.Generator().manual_seed(seed)
    generator = DCGAN(widths)
    for name, value in generator.state_dict().items():
        if value.dim() == 4:
            value.copy_(0.25 * torch.randn(value.shape, generator=rng))
        elif name.endswith(("bias", "running_mean")):
            value.copy_(0.3 * torch.randn(value.shape, generator=rng))
        elif value.is_floating_point():
            value.copy_(0.5 + torch.rand(value.shape, generator=rng))
    return generator.eval()


def tiny_onnx() -> bytes:
    """An ONNX file of a generator of images (1, 8, 8) from latents (2, 1, 1), with the weights of a tiny DCGAN."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed; pip install 'cs-lip[onnx]'")
    pytest.importorskip("onnx2torch", reason="onnx2torch is not installed; pip install 'cs-lip[onnx]'")
    state = tiny_generator((2, 3, 1)).state_dict()
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ConvTranspose", ["z", "kernel"], ["spread"]),
        helper.make_node("Relu", ["spread"], ["active"]),
        helper.make_node("ConvTranspose", ["active", "last"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["y"], ["x"]),
    ]
    weights = [
        onnx.numpy_helper.from_array(state["main.0.weight"].numpy(), "kernel"),
        onnx.numpy_helper.from_array(state["main.3.weight"].numpy(), "last"),
    ]
    inputs = [helper.make_tensor_value_info("z", floats, ["batch", 2, 1, 1])]
    outputs = [helper.make_tensor_value_info("x", floats, ["batch", 1, 8, 8])]
    graph = helper.make_graph(nodes, "generator", inputs, outputs, weights)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return content


class LinearGenerator(Generator):
    """``G(z) = 1/2 + W z``, which no clipping keeps in [0, 1]: the latent search then has a closed-form answer."""

    def __init__(self, weight: Tensor, image_shape: tuple[int, int, int]) -> None:
        super().__init__((weight.shape[1],), image_shape)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def layers(self) -> dict[str, Layer]:
        return {"all": lambda state: (0.5 + (state[0] @ self.weight.T).unflatten(1, self.image_shape),)}

    def fold(self) -> "LinearGenerator":
        return self


def assert_one_sentence(message: object) -> None:
    """A message to a user is one line that says what to try."""
    text = str(message)
    assert "\n" not in text
    assert "try " in text
    assert len(text) < 500


class Trap:
    """Pickles to a call that makes a folder: whoever unpickles it runs that call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)
