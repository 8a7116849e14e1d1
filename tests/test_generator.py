"""The contract of a generator, on every kind of DCGAN and on wrapped modules."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cs_lip.priors import DCGAN, Blueprint, Generator, Layer, State, build, recognise
from cs_lip.seeding import stream

Settings = dict[str, Any]

KINDS: st.SearchStrategy[Settings] = st.integers(0, 3).flatmap(
    lambda labels: st.fixed_dictionaries(
        {
            "widths": st.lists(st.integers(1, 5), min_size=3, max_size=5),
            "first": st.sampled_from([1, 2, 4, 7]),
            "kernel": st.sampled_from([4, 5]),
            "output_bias": st.booleans(),
            "labels": st.just(labels),
            "label": st.integers(0, max(labels - 1, 0)),
        }
    )
)
SEEDS = st.integers(0, 1000)


def loud_dcgan(kind: Settings, seed: int) -> DCGAN:
    """A DCGAN of those settings that draws more than grey, in double precision."""
    rng = torch.Generator().manual_seed(seed)
    generator = DCGAN(**kind).double()
    for name, value in generator.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=rng))
        elif value.is_floating_point():
            value.copy_(0.4 * torch.randn(value.shape, generator=rng))
    return generator.eval()


def latents_for(generator: Generator, count: int = 3) -> Tensor:
    return generator.sample_latents(count, generator=stream(1, "test"))


# DCGANs of every kind


@given(kind=KINDS, seed=SEEDS)
@settings(deadline=None, max_examples=15)
def test_a_blueprint_builds_the_same_generator(kind: Settings, seed: int) -> None:
    source = loud_dcgan(kind, seed).float()
    copy = build(Blueprint("dcgan", kind, source.state_dict()))
    assert isinstance(copy, DCGAN)
    assert torch.equal(copy(latents_for(source)), source(latents_for(source)))
    if kind["kernel"] == 4 and not kind["labels"]:  # the keys of the tutorial's layout say all the rest
        assert recognise(source.state_dict()).settings.items() <= (kind | {"widths": [*kind["widths"]]}).items()
        assert torch.equal(build(recognise(source.state_dict()))(latents_for(source)), source(latents_for(source)))


@given(kind=KINDS, seed=SEEDS)
@settings(deadline=None, max_examples=15)
def test_folding_draws_the_same_images(kind: Settings, seed: int) -> None:
    generator = loud_dcgan(kind, seed)
    side = kind["first"] * 2 ** (len(kind["widths"]) - 2)
    images = generator(latents_for(generator))
    assert images.shape == (3, kind["widths"][-1], side, side)
    torch.testing.assert_close(generator.fold()(latents_for(generator)), images, rtol=0, atol=1e-10)
    single = generator.float()
    torch.testing.assert_close(single.fold()(latents_for(single)), single(latents_for(single)), rtol=0, atol=1e-5)


@given(kind=KINDS, seed=SEEDS)
@settings(deadline=None, max_examples=15)
def test_pushed_tangents_agree_with_gradients(kind: Settings, seed: int) -> None:
    generator = loud_dcgan(kind, seed)
    latent = latents_for(generator, 1)[0].requires_grad_()
    tangents = torch.randn(2, *generator.latent_shape, generator=stream(2, "test"), dtype=torch.float64)
    # With J the Jacobian, <w, J t> = <J^T w, t> for every w, and backward mode gives J^T w.
    weights = torch.randn(3, *generator.image_shape, generator=stream(3, "test"), dtype=torch.float64)
    pulled = [torch.autograd.grad((generator(latent) * weight).sum(), latent)[0] for weight in weights]
    expected = torch.stack(pulled) @ tangents.T
    for prior in (generator, generator.fold()):
        pushed = prior.push(latent.detach(), tangents)
        torch.testing.assert_close(torch.einsum("wchx,tchx->wt", weights, pushed), expected)


@given(kind=KINDS, seed=SEEDS, cut=st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_the_layers_compose_and_any_cut_gives_the_same_images(kind: Settings, seed: int, cut: int) -> None:
    generator = loud_dcgan(kind, seed)
    folded = generator.fold()
    expected = generator(latents_for(generator))
    assert list(generator.layers()) == list(folded.layers())
    assert len(generator.layers()) == len(kind["widths"]) - 1
    for prior in (generator, folded):
        layers = list(prior.layers().values())
        middle = run_layers(layers[:cut], (latents_for(generator),))
        # Nothing but what crosses the cut may matter behind it.
        (images,) = run_layers(layers[cut:], tuple(value.detach().clone() for value in middle))
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-10)
    for name, after in pairwise(generator.layers()):
        at = list(generator.layers()).index(after)
        states = [run_layers(list(p.layers().values())[:at], (latents_for(generator),)) for p in (generator, folded)]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-9, msg=f"after {name}")


def run_layers(layers: list[Layer], state: State) -> State:
    for layer in layers:
        state = layer(state)
    return state


@given(kind=KINDS)
@settings(deadline=None, max_examples=15)
def test_weight_groups_name_the_convolutions_by_role(kind: Settings) -> None:
    generator = loud_dcgan(kind, 0)
    for prior in (generator, generator.fold()):
        groups = prior.weight_groups()
        names = [name for group in groups.values() for name in group]
        state = prior.state_dict()
        assert len(set(names)) == len(names) == len(kind["widths"]) - 1
        assert len(groups["input"]) == len(groups["output"]) == 1
        assert all(state[name].dim() > 1 for name in names)
        left = [name for name in state if name not in names and "." in name and state[name].dim() > 1]
        assert not left, "a weight in no group"


def test_the_label_changes_the_image() -> None:
    kind = {"widths": (4, 5, 3), "labels": 3}
    images = [loud_dcgan(kind | {"label": label}, 0)(torch.zeros(1, 4, dtype=torch.float64)) for label in range(3)]
    assert not torch.allclose(images[0], images[1], atol=1e-3)
    assert not torch.allclose(images[1], images[2], atol=1e-3)


BAD_SETTINGS: dict[str, tuple[Settings, str]] = {
    "two widths": ({"widths": (8, 3)}, "three widths or more, got 2"),
    "kernel 3": ({"widths": (8, 4, 3), "kernel": 3}, "kernel must be 4 or 5, got 3"),
    "a width of 0": ({"widths": (8, 0, 3)}, "positive sizes .* got widths from 0 up"),
    "no first side": ({"widths": (8, 4, 3), "first": 0}, "positive sizes .* first = 0"),
    "fewer than no labels": ({"widths": (8, 4, 3), "labels": -2}, "got .* and -2 labels"),
    "no such label": ({"widths": (8, 4, 3), "labels": 2, "label": 2}, "label must be from 0 to 1, got 2"),
    "a negative label": ({"widths": (8, 4, 3), "labels": 2, "label": -1}, "label must be from 0 to 1, got -1"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_named_in_one_sentence(case: str) -> None:
    kind, expected = BAD_SETTINGS[case]
    with pytest.raises(ValueError, match=expected) as caught:
        DCGAN(**kind)
    assert_one_sentence(caught.value)


# Wrapped modules


class Plain(nn.Module):
    """Vectors of 6 to images (2, 4, 3), by a linear layer and whatever comes last."""

    def __init__(self, last: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 24)
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))
        self.dropout, self.last = nn.Dropout(0.5), last

    def forward(self, latents: Tensor) -> Tensor:
        return self.dropout(self.last(self.linear(latents.flatten(1)))).unflatten(1, (2, 4, 3))


class Noisy(Plain):
    """Adds noise of its own to every image, as a StyleGAN2 does unless told otherwise."""

    def forward(self, latents: Tensor) -> Tensor:
        images = super().forward(latents)
        return images + torch.randn_like(images)


class NoisyByCall(Plain):
    """The same noise on all images of a call."""

    def forward(self, latents: Tensor) -> Tensor:
        images = super().forward(latents)
        return images + torch.randn_like(images[:1])


class Strict(Plain):
    """Asserts its shapes, as NVIDIA's networks do."""

    def forward(self, latents: Tensor) -> Tensor:
        assert latents.shape[1] == 6
        return super().forward(latents)


class Empty(nn.Module):
    """Images without a row."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, :0]


class WithLatents(Plain):
    """Gives the latents back beside the images, as rosinality's StyleGAN2 does."""

    def forward(self, latents: Tensor) -> Any:
        return super().forward(latents), latents


class Conditional(nn.Module):
    """An image that is the latent scaled by the class, one-hot or an index."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.tensor([0.25, 0.5, 1.0]))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        scales = labels @ self.scales if labels.is_floating_point() else self.scales[labels]
        return latents * scales[:, None, None, None]


RANGES: list[tuple[tuple[float, float], Callable[[Tensor], Tensor]]] = [
    ((-1, 1), torch.tanh),
    ((0, 1), torch.sigmoid),
    ((0, 255), lambda x: 255 * torch.sigmoid(x)),
    ((-1, 1), lambda x: 3 * x),  # a linear output, which goes beyond and is clipped
]


@pytest.mark.parametrize(("value_range", "last"), RANGES)
def test_wrapping_maps_the_value_range_to_0_to_1(
    value_range: tuple[float, float], last: Callable[[Tensor], Tensor]
) -> None:
    module = Plain(last)
    generator = Generator.wrap(module, latent_shape=(6,), value_range=value_range)
    assert not generator.training
    assert generator.image_shape == (2, 4, 3)
    latents = latents_for(generator)
    low, high = value_range
    expected = ((module(latents) - low) / (high - low)).clamp(0, 1)
    for draw in (generator, generator.fold()):
        torch.testing.assert_close(draw(latents), expected)
        assert draw(latents.reshape(3, 1, 6)).shape == (3, 1, 2, 4, 3)
    assert 0 <= expected.min() < 0.4
    assert 0.6 < expected.max() <= 1


def test_a_wrapped_module_is_used_as_it_is_and_folded_into_a_copy() -> None:
    module = Plain()
    generator = Generator.wrap(module, latent_shape=(2, 3), value_range=(-1, 1), geometry="sphere")
    folded = generator.fold()
    before = folded(latents_for(generator))
    assert generator.geometry == folded.geometry == "sphere"
    assert generator.latent_size == 6
    assert all(weight.requires_grad for weight in generator.parameters())
    assert not any(weight.requires_grad for weight in folded.parameters())
    with torch.no_grad():
        module.linear.weight.zero_()
    assert torch.equal(folded(latents_for(generator)), before)
    assert not torch.allclose(generator(latents_for(generator)), before)


@pytest.mark.parametrize(
    "norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm]
)
def test_modules_with_a_norm_of_their_weights_are_folded_and_have_no_prunable_ones(
    norm: Callable[[nn.Module], nn.Module],
) -> None:
    module = Plain()
    norm(module.linear)
    generator = _wrap(module)
    latents = latents_for(generator)
    images = generator(latents)  # with gradients, which leaves a product in the module
    torch.testing.assert_close(generator.fold()(latents), images.detach())
    assert not any(generator.weight_groups().values())


def test_wrapped_modules_have_layers_tangents_and_groups() -> None:
    generator = Generator.wrap(Plain(), latent_shape=(6,), value_range=(-1, 1)).double()
    latent = latents_for(generator, 1)[0]
    (images,) = run_layers(list(generator.layers().values()), (latent[None],))
    assert torch.equal(images[0], generator(latent))
    tangents = torch.randn(4, 6, generator=stream(2, "test"), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(generator, latent)
    torch.testing.assert_close(generator.push(latent, tangents), torch.einsum("chwk,rk->rchw", jacobian, tangents))
    assert [name for group in generator.weight_groups().values() for name in group] == ["module.linear.weight"]


@pytest.mark.parametrize("labels", [torch.tensor([1]), torch.tensor([[0.0, 1.0, 0.0]])])
def test_a_conditional_module_gets_its_fixed_labels(labels: Tensor) -> None:
    shape = (3, 2, 2)
    generator = Generator.wrap(Conditional(), latent_shape=shape, value_range=(0, 1), labels=labels)
    latents = torch.rand(5, *shape, generator=stream(1, "test"))
    for draw in (generator, generator.fold()):
        torch.testing.assert_close(draw(latents), latents / 2)
        assert draw(latents[0]).shape == shape


def test_latent_shapes_may_be_lists() -> None:
    generator = _wrap(Plain(), latent_shape=[6])
    assert generator.latent_shape == (6,)
    assert generator(latents_for(generator)).shape == (3, 2, 4, 3)


def _wrap(module: nn.Module, **changed: Any) -> Generator:
    return Generator.wrap(module, **({"latent_shape": (6,), "value_range": (-1, 1)} | changed))


BAD_WRAPS: dict[str, tuple[Callable[[], Generator], str]] = {
    "an empty range": (lambda: _wrap(Plain(), value_range=(1, 1)), r"low < high, got \(1, 1\)"),
    "a reversed range": (lambda: _wrap(Plain(), value_range=(1, -1)), r"low < high, got \(1, -1\)"),
    "an endless range": (lambda: _wrap(Plain(), value_range=(0, float("inf"))), "low < high"),
    "no weights": (lambda: _wrap(nn.Tanh()), "has no weights"),
    "another latent shape": (lambda: _wrap(Plain(), latent_shape=(7,)), r"does not take latents of shape \(2, 7\)"),
    "no images": (lambda: _wrap(nn.Linear(6, 3)), r"gives shape \(2, 3\) for two latents"),
    "one image for all": (
        lambda: _wrap(
            nn.Sequential(nn.Linear(6, 3), nn.Unflatten(1, (3, 1, 1)), nn.Flatten(0, 1), nn.Unflatten(0, (1, 6)))
        ),
        "gives shape",
    ),
    "images beside something else": (lambda: _wrap(WithLatents()), "gives a tuple for two latents"),
    "images of no pixels": (lambda: _wrap(nn.Sequential(Plain(), Empty())), "gives shape"),
    "noise of its own": (lambda: _wrap(Noisy()), "two images for one latent"),
    "noise of a call": (lambda: _wrap(NoisyByCall()), "two images for one latent"),
    "no numbers": (lambda: _wrap(Plain(lambda x: x / 0 * 0)), "not finite"),
    "an assertion": (lambda: _wrap(Strict(), latent_shape=(7,)), r"does not take latents of shape \(2, 7\)"),
    "latents of no length": (lambda: _wrap(Plain(), latent_shape=(0,)), r"positive lengths, got \(0,\)"),
    "no such geometry": (lambda: _wrap(Plain(), geometry="cube"), "no geometry 'cube'"),
    "labels missing": (lambda: _wrap(Conditional(), latent_shape=(3, 2, 2)), "does not take latents"),
    "labels to an unconditional module": (lambda: _wrap(Plain(), labels=torch.tensor([1])), "does not take latents"),
    "labels of two rows": (
        lambda: _wrap(Conditional(), labels=torch.eye(3)[:2]),
        r"one row \(1, ...\), got shape \(2, 3\)",
    ),
    "a label without a row": (lambda: _wrap(Conditional(), labels=torch.tensor(1)), r"one row .* got shape \(\)"),
}


@pytest.mark.parametrize("case", BAD_WRAPS)
def test_a_bad_wrap_is_named_in_one_sentence(case: str) -> None:
    wrap, expected = BAD_WRAPS[case]
    with pytest.raises(ValueError, match=expected) as caught:
        wrap()
    assert_one_sentence(caught.value)
