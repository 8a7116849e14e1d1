"""Generators from ONNX files, through onnx2torch, an optional extra."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cs_lip.priors.bounded import Bounded, TooLargeError
from cs_lip.priors.generator import Generator

if TYPE_CHECKING:
    import onnx

MAX_ALIVE, MAX_MADE = 2**30, 2**34
"""Bytes of the tensors that a network keeps at a time while it draws two images, its weights aside, and of all that it
makes on the way (`Bounded`)."""


def generator_from_onnx(path: Path, *, value_range: tuple[float, float]) -> Generator:
    """The network in an ONNX file as a generator, see `Generator.wrap`; its latent shape is read off the graph.

    Nothing in the file is code: an operator is a name that onnx2torch looks up in a table of its own.

    Args:
        path: a file that holds its weights itself, with one input, latents ``(batch, *latent_shape)``, and one output,
            images ``(batch, channels, height, width)``.
        value_range: the values ``(low, high)`` that the network gives to black and white, such as (-1, 1) after a tanh.

    Raises:
        ValueError: onnx2torch is not installed, there is no such file, it is damaged, its weights lie in other files,
            it has several inputs or outputs or latents of no fixed size, an operator is not known, it needs tensors
            beyond `MAX_ALIVE` or `MAX_MADE`, or it draws no images.
    """
    try:
        import onnx  # noqa: F401
        import onnx2torch
    except ImportError:
        raise ValueError(
            "reading ONNX needs onnx2torch, which is not installed; try pip install 'cs-lip[onnx]'"
        ) from None
    model = _read(path)
    latent_shape = _latent_shape(model, path)
    # onnx2torch writes the names of nodes into the source of a function, where a name with a quote in it would be code.
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
    try:
        network = onnx2torch.convert(model)
    except NotImplementedError as error:
        raise ValueError(
            f"{path} has an operator that onnx2torch does not know ({_first_line(error)}); "
            "try to export the network from simpler operators"
        ) from None
    except Exception as error:  # on a graph that makes no sense it raises nearly anything
        raise _damaged(path, error) from None
    generator = _Network(network)
    _check_draws(generator, latent_shape, path)
    try:
        with Bounded(MAX_ALIVE, MAX_MADE):
            return Generator.wrap(generator, latent_shape=latent_shape, value_range=value_range)
    except TooLargeError as error:
        raise _too_large(path, error) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Network(nn.Module):
    """A converted graph whose floating constants, such as the matrix of a product, are weights and not buffers."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        constants = dict(graph.named_children()).get("initializers", nn.Module())
        for name, value in dict(constants.named_buffers()).items():
            if value.is_floating_point():
                delattr(constants, name)
                constants.register_parameter(name, nn.Parameter(value))

    def forward(self, latents: Tensor) -> Tensor:
        # Not graph(latents): called as a module, a graph that fails prints its source.
        images: Tensor = self.graph.forward(latents)
        return images


def _read(path: Path) -> "onnx.ModelProto":
    """The file's content, once it is known to be whole and to hold its weights itself."""
    import onnx

    if not path.is_file():
        raise ValueError(f"there is no ONNX file {path}; try the path of one")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except Exception as error:  # of several libraries
        raise _damaged(path, error) from None
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError(
                f"{path} keeps the weights {tensor.name!r:.60} in another file, which it could name at will; "
                "try onnx.save_model with save_as_external_data=False"
            )
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise _damaged(path, error) from None
    return model


def _tensors(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    """All that hold numbers: weights, and constants among the attributes of operators."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _latent_shape(model: "onnx.ModelProto", path: Path) -> tuple[int, ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ValueError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs, expected one each; "
            "try to export a generator whose labels and noise are fixed"
        )
    _, *sizes = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim] or [0]
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"the input {inputs[0].name!r:.60} of {path} has no fixed size beside its batch, so the number of latents "
            "is unknown; try to export it with only the batch dynamic"
        )
    return tuple(sizes)


def _check_draws(network: nn.Module, latent_shape: tuple[int, ...], path: Path) -> None:
    dtype = next((weight.dtype for weight in network.parameters()), torch.float32)
    try:
        with torch.no_grad(), Bounded(MAX_ALIVE, MAX_MADE):
            network.eval()(torch.zeros(2, *latent_shape, dtype=dtype))
    except TooLargeError as error:
        raise _too_large(path, error) from None
    except Exception as error:  # on a graph that makes no sense it raises nearly anything
        raise ValueError(
            f"the network in {path} does not draw two latents at once ({_first_line(error)}); "
            "try to export it with a batch of any size"
        ) from None


def _too_large(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} {error}; try the file as its author published it")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:150]


def _damaged(path: Path, error: Exception) -> ValueError:
    kind = type(error).__name__
    return ValueError(f"{path} is not a whole ONNX file of a network ({kind}); try to fetch or export it again")
