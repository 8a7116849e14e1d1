"""Criteria: what each score means, on networks small enough to compute it by hand or by brute force."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cs_lip.priors import PGGAN, Decoder, Generator, StyleGAN2, UntrainedNetwork, untrained_network
from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import stream
from cs_lip.tickets.bernoulli import BernoulliSettings, bernoulli, divergence_from
from cs_lip.tickets.controls import random_mask
from cs_lip.tickets.criteria import CRITERIA, Evidence, magnitude, random, score
from cs_lip.tickets.curvature import Scores, draw, grasp, sensitivity, snip, taylor
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.selection import select
from cs_lip.tickets.synflow import synflow, synflow_mask

ROLES = ("input", "hidden", "output")
SMALL: dict[str, dict[str, Any]] = {
    "skip": {"input_channels": 4, "widths": (8, 8), "skips": (4, 4)},
    "deep_decoder": {"channels": 6, "depth": 2},
    "conv_decoder": {"channels": 6, "layers": 3, "input_size": (4, 4)},
}


class Line(Prunable):
    """``n`` weights and nothing else; what they are good for is the loss's affair."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def weight_groups(self) -> dict[str, tuple[str, ...]]:
        return {"input": (), "hidden": ("weight",), "output": ()}


def tiny_untrained(name: str) -> UntrainedNetwork:
    return untrained_network(name, (3, 16, 16), **SMALL[name])


def tiny_decoder(activation: str = "relu") -> Decoder:
    decoder = Decoder((3, 5, 4), (1, 2, 2), activation)
    rng = stream(0, "decoder")
    for value in decoder.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=rng))
    return decoder


def tiny_pggan() -> PGGAN:
    generator = PGGAN(4, (6, 4))
    rng = stream(0, "pggan")
    for value in generator.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=rng))
    return generator


def misfit(network: Prunable) -> Tensor:
    """How far the image of one latent is from grey, so that a loss has something to do."""
    return (draw(network, stream(3, "one")) - 0.5).square().mean()


NETWORKS: dict[str, Callable[[], Prunable]] = {
    "dcgan": tiny_generator,
    "folded": lambda: tiny_generator().fold(),
    "decoder": tiny_decoder,
    **{name: (lambda name=name: tiny_untrained(name)) for name in SMALL},
}


# All of them


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_fit_the_mask_and_leave_no_trace(criterion: str, name: str) -> None:
    network = NETWORKS[name]().train()
    held = random_mask(Mask.dense(network, ROLES), 0.9)
    held.apply_(network)
    first = next(network.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    before = copy.deepcopy(network)
    global_state = torch.get_rng_state()
    mask = random_mask(held, 0.5)
    evidence = Evidence(misfit, batches=2, learning=BernoulliSettings(steps=3))
    scores = score(criterion, network, mask, evidence)
    assert scores.keys() == mask.kept.keys()
    for parameter, kept in mask.kept.items():
        assert scores[parameter].shape == kept.shape
        assert scores[parameter].isfinite().all()
        assert not scores[parameter].requires_grad
    assert sum(float(value.abs().sum()) for value in scores.values()) > 0
    select(scores, 0.4, parent=mask)
    again = score(criterion, network, mask, evidence)
    assert all(torch.equal(value, again[parameter]) for parameter, value in scores.items())
    assert torch.equal(torch.get_rng_state(), global_state)
    assert network.training
    assert [value.requires_grad for value in network.parameters()] == [
        value.requires_grad for value in before.parameters()
    ]
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(value.grad is None for value in list(network.parameters())[1:])
    assert network.kept.keys() == before.kept.keys()
    for key, value in before.state_dict().items():
        assert torch.equal(network.state_dict()[key], value)


@pytest.mark.parametrize("criterion", ["magnitude", "random", "snip", "grasp", "taylor", "sensitivity"])
@pytest.mark.parametrize("make", [tiny_pggan, lambda: StyleGAN2((5, 4), (6, 5))], ids=["pggan", "stylegan2"])
def test_equalised_and_modulated_weights_have_scores(criterion: str, make: Callable[[], Generator]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = make().eval()
    mask = Mask.dense(generator)
    scores = score(criterion, generator, mask, Evidence(misfit, batches=2))
    for name, value in scores.items():
        assert value.shape == mask.kept[name].shape
        assert value.isfinite().all() and value.abs().sum() > 0


# By hand


def test_magnitude_is_the_absolute_value_of_what_is_left() -> None:
    network = Line(torch.tensor([1.0, -3.0, 2.0]))
    mask = Mask({"weight": torch.tensor([True, True, False])})
    assert magnitude(network, mask)["weight"].tolist() == [1.0, 3.0, 0.0]


def test_random_scores_are_the_seeds_alone() -> None:
    mask = Mask.dense(tiny_generator(), ROLES)
    one, other = random(mask, 0), random(mask, 1)
    assert all(torch.equal(value, random(mask, 0)[name]) for name, value in one.items())
    assert all(not torch.equal(value, other[name]) for name, value in one.items())
    only = Mask({"main.3.weight": mask.kept["main.3.weight"]})
    assert torch.equal(random(only, 0)["main.3.weight"], one["main.3.weight"])
    values = torch.cat([value.flatten() for value in one.values()])
    assert values.min() >= 0 and values.max() < 1
    assert abs(float(values.mean()) - 0.5) < 5 / math.sqrt(12 * len(values))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_scores_of_a_quadratic_loss(seed: int) -> None:
    """``L = w.A w / 2 - b.w``: the gradient is ``A w - b`` and the Hessian ``A``, cut by the mask where it matters."""
    rng = stream(seed, "quadratic")
    a, b, w = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((5, 5), (5,), (5,)))
    a = a @ a.T
    kept = torch.tensor([True, True, False, True, True])
    mask = Mask({"weight": kept})
    gradient = a @ (w * kept) - b
    network = Line(w)

    def loss(line: Prunable) -> Tensor:
        weight = line.get_parameter("weight")
        return weight @ a @ weight / 2 - b @ weight

    torch.testing.assert_close(snip(network, mask, loss)["weight"], (w * kept * gradient).abs())
    torch.testing.assert_close(taylor(network, mask, loss, 3)["weight"], 3 * (w * kept * gradient).square())
    torch.testing.assert_close(grasp(network, mask, loss)["weight"], w * kept * (a @ (kept * gradient)))


def test_the_weights_that_grasp_prunes_first_leave_the_most_gradient() -> None:
    """Scaling a weight down by a little changes ``|g|^2`` by minus twice the score, for all weights of a network."""
    generator = tiny_generator((2, 3, 3, 1)).double()
    mask = Mask.dense(generator, ROLES)
    scores = grasp(generator, mask, misfit)
    names = list(mask.kept)

    def flow(name: str, index: int, factor: float) -> float:
        changed = copy.deepcopy(generator)
        changed.get_parameter(name).data.view(-1)[index] *= factor
        found = torch.autograd.grad(misfit(changed), [changed.get_parameter(each) for each in names])
        return float(sum(value.square().sum() for value in found))

    for name in names:
        for index in (0, 5):
            change = (flow(name, index, 1 - 1e-5) - flow(name, index, 1 + 1e-5)) / 2e-5
            assert change == pytest.approx(-2 * float(scores[name].flatten()[index]), rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("name", ["dcgan", "skip", "deep_decoder"])
def test_snip_is_the_change_of_the_loss_as_a_weight_fades(name: str) -> None:
    network = NETWORKS[name]().double().eval()
    mask = random_mask(Mask.dense(network, ROLES), 0.7)
    scores = snip(network, mask, misfit)
    masked = copy.deepcopy(network)
    mask.apply_(masked)
    for parameter, kept in mask.kept.items():
        index = int(kept.flatten().nonzero()[0])
        losses = []
        for factor in (1 - 1e-5, 1 + 1e-5):
            changed = copy.deepcopy(masked)
            changed.get_parameter(parameter).data.view(-1)[index] *= factor
            losses.append(misfit(changed).item())
        slope = abs(losses[1] - losses[0]) / 2e-5
        assert float(scores[parameter].flatten()[index]) == pytest.approx(slope, rel=1e-3, abs=1e-10)


def test_taylor_adds_up_the_batches_that_the_loss_draws() -> None:
    network, mask = Line(torch.tensor([2.0, 1.0])), Mask({"weight": torch.ones(2, dtype=torch.bool)})
    batches = iter([torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 1.0])])
    scores = taylor(network, mask, lambda line: next(batches) @ line.get_parameter("weight"), 2)
    assert scores["weight"].tolist() == [2 * 2 + 2 * 2, 3 * 3 + 1 * 1]


def test_sensitivity_is_how_much_the_image_changes_without_a_weight() -> None:
    """``G(z) = 1/2 + W z`` without ``W_ij`` is another by ``W_ij z_j``, whose mean square is ``W_ij^2``."""
    weight = torch.randn(12, 3, generator=stream(0, "w"), dtype=torch.float64)
    generator = LinearGenerator(weight, (3, 2, 2))
    draws = 400
    scores = sensitivity(generator, Mask({"weight": torch.ones(12, 3, dtype=torch.bool)}), seed=1, draws=draws)
    ratio = scores["weight"] / weight.square()
    torch.testing.assert_close(ratio, ratio[:1].expand(12, 3))
    assert (ratio - 1).abs().max() < 5 * math.sqrt(2 / draws)


def test_sensitivity_finds_the_weights_whose_removal_changes_the_images_most() -> None:
    generator = tiny_generator((4, 6, 3)).double()
    mask = Mask.dense(generator, ("output",))
    scores = sensitivity(generator, mask, draws=300)["main.3.weight"].flatten()
    latents = generator.sample_latents(50, generator=stream(9, "z"))
    changes = torch.zeros_like(scores)
    with torch.no_grad():
        images = generator(latents)
        weights = generator.get_parameter("main.3.weight").view(-1)
        for index in range(len(weights)):
            value = weights[index].clone()
            weights[index] = 0
            changes[index] = (generator(latents) - images).square().sum() / len(latents)
            weights[index] = value
    ranks = torch.stack([scores.argsort().argsort(), changes.argsort().argsort()]).double()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.95


# SynFlow


def test_synflow_of_a_chain_of_matrices() -> None:
    """``R = 1.|B||A|1``, so the score of ``A_ij`` is ``|A_ij|`` times what the column ``i`` of ``|B|`` adds up to."""
    decoder = tiny_decoder().double()
    mask = random_mask(Mask.dense(decoder, ROLES), 0.8)
    a, b = (
        (decoder.get_parameter(name).detach() * mask.kept[name]).abs()
        for name in ("linear.0.weight", "linear.1.weight")
    )
    scores = synflow(decoder, mask)
    torch.testing.assert_close(scores["linear.0.weight"], a * b.sum(0)[:, None])
    torch.testing.assert_close(scores["linear.1.weight"], b * a.sum(1))


def test_synflow_is_the_same_in_each_layer_of_a_dcgan_and_for_its_folded_copy() -> None:
    generator = tiny_generator((6, 8, 5, 3))
    scores = list(synflow(generator, Mask.dense(generator, ROLES)).values())
    sums = torch.stack([value.sum() for value in scores])
    assert scores[0].dtype == torch.float64
    torch.testing.assert_close(sums, sums[:1].expand_as(sums), rtol=1e-9, atol=0)
    folded = generator.fold()
    of_folded = list(synflow(folded, Mask.dense(folded, ROLES)).values())
    for one, other in zip(scores[1:], of_folded[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=0)
    torch.testing.assert_close(scores[0].flatten(1).T, of_folded[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_synflow_does_not_see_signs_and_biases(name: str) -> None:
    network = NETWORKS[name]()
    mask = Mask.dense(network, ROLES)
    scores = synflow(network, mask)
    assert all((value > 0).all() for value in scores.values())
    with torch.no_grad():
        for parameter, value in network.named_parameters():
            value.mul_(-1 if parameter.endswith("weight") else 7)
    again = synflow(network, mask)
    for parameter, value in scores.items():
        torch.testing.assert_close(again[parameter], value)


@pytest.mark.parametrize("name", ["dcgan", "skip"])
def test_rounds_of_synflow_keep_the_flow_that_one_shot_loses(name: str) -> None:
    network = NETWORKS[name]()
    parent = Mask.dense(network, ROLES)
    kept = {rounds: synflow_mask(network, 0.03, parent=parent, rounds=rounds) for rounds in (1, 30)}
    assert all(mask.counts.kept == round(0.03 * parent.counts.total) for mask in kept.values())

    def flow(mask: Mask) -> float:
        *_, last = network.weight_groups()["output"]
        return float(synflow(network, mask)[last].sum())

    assert flow(kept[30]) > 0
    assert flow(kept[30]) >= flow(kept[1])
    assert kept[30].is_inside(parent)
    half = synflow_mask(network, 0.5, parent=parent, rounds=3, granularity="kernel")
    assert synflow_mask(network, 0.4, parent=half, rounds=3, granularity="kernel").is_inside(half)


# The learned mask


@settings(deadline=None, max_examples=50)
@given(density=st.floats(0.01, 0.99), logit=st.floats(-15, 15))
def test_the_divergence_is_that_of_two_bernoulli_distributions(density: float, logit: float) -> None:
    logits = torch.tensor([logit], dtype=torch.float64)
    one = torch.distributions.Bernoulli(logits=logits)
    other = torch.distributions.Bernoulli(probs=torch.tensor([density], dtype=torch.float64))
    expected = torch.distributions.kl_divergence(one, other)
    torch.testing.assert_close(divergence_from(density, logits), expected, rtol=1e-6, atol=1e-9)


def test_a_learned_mask_finds_the_weights_that_draw_the_image() -> None:
    weights = torch.randn(40, generator=stream(0, "w")).abs() + 0.5
    wanted = torch.arange(40) % 5 == 0
    mask = Mask({"weight": torch.ones(40, dtype=torch.bool)})
    network = Line(weights.clone())

    def loss(line: Prunable) -> Tensor:
        return (line.get_parameter("weight") - weights * wanted).square().mean()

    steps: list[int] = []
    quick = BernoulliSettings(steps=150, learning_rate=0.1)
    scores = bernoulli(network, mask, loss, 0.2, settings=quick, on_step=steps.append)
    assert torch.equal(select(scores, 0.2, parent=mask).kept["weight"], wanted)
    assert steps == list(range(1, 151))
    assert torch.equal(network.weight, weights)
    again = bernoulli(network, mask, loss, 0.2, settings=quick)
    assert torch.equal(again["weight"], scores["weight"])


def test_where_the_loss_has_no_say_a_weight_is_kept_as_often_as_the_density_says() -> None:
    network, mask = Line(torch.ones(10)), Mask({"weight": torch.ones(10, dtype=torch.bool)})
    alone = BernoulliSettings(steps=300, learning_rate=0.05, divergence=1.0)
    scores = bernoulli(network, mask, lambda line: 0 * line.get_parameter("weight").sum(), 0.1, settings=alone)
    torch.testing.assert_close(scores["weight"].sigmoid(), torch.full((10,), 0.1), rtol=0, atol=0.01)
    half = Mask({"weight": torch.arange(10) < 5})
    scores = bernoulli(network, half, lambda line: 0 * line.get_parameter("weight").sum(), 0.4, settings=alone)
    torch.testing.assert_close(scores["weight"][:5].sigmoid(), torch.full((5,), 0.8), rtol=0, atol=0.01)
    scores = bernoulli(network, half, lambda line: 0 * line.get_parameter("weight").sum(), 0.5, settings=alone)
    assert scores["weight"][:5].sigmoid().min() > 0.95


def test_a_learned_mask_lets_an_untrained_network_draw_without_training() -> None:
    network = tiny_untrained("deep_decoder")
    mask = Mask.dense(network, ROLES)
    inputs = network.sample_input(generator=stream(0, "inputs"))
    target = tiny_target(inputs)

    def loss(prior: Prunable) -> Tensor:
        image: Tensor = prior(inputs)
        return (image - target).square().mean()

    def loss_of(scores: Scores) -> float:
        masked = copy.deepcopy(network)
        select(scores, 0.5, parent=mask).apply_(masked)
        with torch.no_grad():
            return float(loss(masked))

    learned = bernoulli(network, mask, loss, 0.5, settings=BernoulliSettings(steps=120, learning_rate=0.05))
    assert loss_of(learned) < min(loss_of(random(mask, seed)) for seed in range(5))


def tiny_target(inputs: Tensor) -> Tensor:
    """The image of the same network with half of its weights."""
    network = tiny_untrained("deep_decoder")
    random_mask(Mask.dense(network, ROLES), 0.5, seed=11).apply_(network)
    with torch.no_grad():
        image: Tensor = network(inputs)
    return image


# Bad input


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda g, m: score("hessian", g, m), "criterion"),
        (lambda g, m: score("snip", g, m), "loss"),
        (lambda g, m: score("magnitude", g, Mask({"w": torch.ones(2, dtype=torch.bool)})), "fit"),
        (lambda g, m: snip(g, m, lambda network: misfit(network) * math.nan), "finite"),
        (lambda g, m: snip(g, m, lambda network: draw(network, stream(0, "z"))), r"\(1, 3, 16, 16\)"),
        (lambda g, m: snip(g, m, lambda network: misfit(network).detach()), "does not depend"),
        (lambda g, m: taylor(g, m, misfit, 0), "batches"),
        (lambda g, m: draw(Line(torch.ones(2)), stream(0, "z")), "latents"),
        (lambda g, m: bernoulli(g, m, misfit, 1.0), "below 1"),
        (lambda g, m: bernoulli(g, m, misfit, math.nan), "density"),
        (lambda g, m: BernoulliSettings(steps=0), "defaults"),
        (lambda g, m: BernoulliSettings(temperature=math.nan), "defaults"),
        (lambda g, m: synflow_mask(g, 0.5, parent=m, rounds=0), "rounds"),
        (lambda g, m: synflow_mask(g, -1.0, parent=m), "density"),
        (lambda g, m: synflow(tiny_pggan(), Mask.dense(tiny_pggan())), "PGGAN"),
        (lambda g, m: synflow(tiny_decoder("softplus"), Mask.dense(tiny_decoder(), ROLES)), "Decoder"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_sentence(make: Callable[[Generator, Mask], object], said: str) -> None:
    generator = tiny_generator()
    with pytest.raises(ValueError, match=said) as refused:
        make(generator, Mask.dense(generator))
    assert_one_sentence(refused.value)
