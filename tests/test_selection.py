"""Selection: exactly the density that was asked for, inside the parent, and the same mask whenever scores are equal."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.seeding import stream
from cs_lip.tickets.allocation import ALLOCATIONS, Layer, shared
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.schedules import SCHEDULES, densities
from cs_lip.tickets.selection import GRANULARITIES, kept_fraction, select

SHAPES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6))
    | st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3), st.just(3))
    | st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(1), st.just(1)),
    min_size=1,
    max_size=4,
)


def dense(shapes: list[tuple[int, ...]]) -> Mask:
    return Mask({f"layer{index}": torch.ones(shape, dtype=torch.bool) for index, shape in enumerate(shapes)})


def scores_for(mask: Mask, seed: int, levels: int | None = None) -> dict[str, Tensor]:
    """Normal scores, or with ``levels`` so few values that most are tied."""
    rng = stream(seed, "scores")
    drawn = {name: torch.randn(kept.shape, generator=rng) for name, kept in mask.kept.items()}
    return drawn if levels is None else {name: (value * levels / 2).round() for name, value in drawn.items()}


def units(mask: Mask, granularity: str) -> int:
    return sum(math.prod(kept.shape[:2]) if granularity == "kernel" else kept.numel() for kept in mask.kept.values())


def floor_of(kept: Tensor, granularity: str, floor: float) -> int:
    return max(1, math.ceil(floor * units(Mask({"one": kept}), granularity) - 1e-9))


# What every choice has in common


@settings(deadline=None, max_examples=150)
@given(
    shapes=SHAPES,
    seed=st.integers(0, 1000),
    levels=st.none() | st.integers(1, 3),
    asked=st.lists(st.floats(0.02, 1), min_size=2, max_size=2).map(sorted),
    granularity=st.sampled_from(GRANULARITIES),
    allocation=st.sampled_from(sorted(ALLOCATIONS)),
    floor=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_masks_are_exact_nested_and_empty_no_layer(
    shapes: list[tuple[int, ...]],
    seed: int,
    levels: int | None,
    asked: list[float],
    granularity: str,
    allocation: str,
    floor: float,
) -> None:
    parent = dense(shapes)
    total = units(parent, granularity)
    for density in reversed(asked):
        options = {"granularity": granularity, "allocation": allocation, "floor": floor}
        scores = scores_for(parent, seed, levels)
        seed += 1
        least = {name: floor_of(kept, granularity, floor) for name, kept in parent.kept.items()}
        if round(density * total) < sum(least.values()):
            with pytest.raises(ValueError, match="floor") as refused:
                select(scores, density, parent=parent, **options)
            assert_one_sentence(refused.value)
            return
        mask = select(scores, density, parent=parent, **options)
        assert mask.is_inside(parent)
        assert round(kept_fraction(mask, granularity) * total) == round(density * total)
        for name, kept in mask.kept.items():
            one = Mask({name: kept})
            assert round(kept_fraction(one, granularity) * units(one, granularity)) >= least[name]
        again = select(scores, density, parent=parent, **options)
        assert again.sha256 == mask.sha256
        parent = mask


@settings(deadline=None, max_examples=60)
@given(shapes=SHAPES, seed=st.integers(0, 1000), density=st.floats(0.3, 1), floor=st.sampled_from([0.0, 0.2]))
def test_a_global_mask_is_what_removing_the_lowest_score_again_and_again_leaves(
    shapes: list[tuple[int, ...]], seed: int, density: float, floor: float
) -> None:
    parent = dense(shapes)
    scores = scores_for(parent, seed)
    left = {name: kept.numel() for name, kept in parent.kept.items()}
    target, expected = round(density * sum(left.values())), {name: kept.clone() for name, kept in parent.kept.items()}
    least = {name: floor_of(kept, "weight", floor) for name, kept in parent.kept.items()}
    assume(target >= sum(least.values()))
    rising = sorted((float(score), name, index) for name in left for index, score in enumerate(scores[name].flatten()))
    for _, name, index in rising:
        if sum(left.values()) > target and left[name] > least[name]:
            expected[name].view(-1)[index] = False
            left[name] -= 1
    assert select(scores, density, parent=parent, floor=floor).sha256 == Mask(expected).sha256


def test_of_equal_scores_the_first_by_name_and_position_are_kept() -> None:
    parent = Mask({name: torch.ones(2, 3, dtype=torch.bool) for name in ("b", "a")})
    scores = {name: torch.zeros(2, 3) for name in ("a", "b")}
    mask = select(scores, 7 / 12, parent=parent)
    assert list(mask.kept) == ["b", "a"]
    assert mask.kept["a"].all()
    assert mask.kept["b"].flatten().tolist() == [True] + 5 * [False]


def test_a_floor_saves_a_layer_that_the_scores_would_empty() -> None:
    parent = dense([(10, 10), (10, 10)])
    scores = {"layer0": torch.ones(10, 10), "layer1": torch.arange(100.0).reshape(10, 10) / 1000}
    assert select(scores, 0.5, parent=parent).layers()["layer1"].kept == 1
    floored = select(scores, 0.5, parent=parent, floor=0.2)
    assert floored.layers()["layer1"].kept == 20
    assert floored.layers()["layer0"].kept == 80
    assert floored.kept["layer1"].flatten()[80:].all()


def test_the_taps_of_a_kernel_stand_or_fall_by_the_sum_over_those_that_are_left() -> None:
    kept = torch.ones(2, 2, 3, 3, dtype=torch.bool)
    kept[0, 0, 0, 0] = False
    parent = Mask({"w": kept})
    scores = torch.full((2, 2, 3, 3), 0.1)
    scores[0, 0, 0, 0] = 100.0  # gone already, so it does not count
    scores[0, 1, 2, 2] = 9.0
    scores[1, 0] = 0.2
    mask = select({"w": scores}, 0.5, parent=parent, granularity="kernel").kept["w"]
    assert mask[0, 1].all() and mask[1, 0].all()
    assert not mask[0, 0].any() and not mask[1, 1].any()
    assert torch.equal(select({"w": scores}, 1.0, parent=parent, granularity="kernel").kept["w"], kept)


# Allocation


def reference_erk(shapes: list[tuple[int, ...]], density: float) -> list[float]:
    """Densities as the authors' code finds them: the layers with the highest raw density are dense, one by one."""
    sizes, raw = [math.prod(shape) for shape in shapes], [sum(shape) / math.prod(shape) for shape in shapes]
    full: set[int] = set()
    while True:
        rest = [index for index in range(len(shapes)) if index not in full]
        budget = density * sum(sizes) - sum(sizes[index] for index in full)
        scale = budget / sum(raw[index] * sizes[index] for index in rest) if rest else 0.0
        top = max((raw[index] for index in rest), default=0.0)
        if top * scale <= 1:
            return [1.0 if index in full else scale * raw[index] for index in range(len(shapes))]
        full |= {index for index in rest if raw[index] == top}


@settings(deadline=None, max_examples=60)
@given(
    shapes=st.lists(
        st.tuples(st.integers(3, 30), st.integers(3, 30), st.sampled_from([1, 3, 4]), st.sampled_from([1, 3, 4])),
        min_size=1,
        max_size=5,
    ),
    density=st.floats(0.2, 1),
)
def test_erk_and_uniform_densities(shapes: list[tuple[int, ...]], density: float) -> None:
    parent = dense(shapes)
    scores = scores_for(parent, 0)
    for allocation, expected in (("erk", reference_erk(shapes, density)), ("uniform", [density] * len(shapes))):
        layers = select(scores, density, parent=parent, allocation=allocation).layers().values()
        for layer, fraction in zip(layers, expected, strict=True):
            assert abs(layer.kept - fraction * layer.total) < 1.5  # one for rounding, a half for that of the total


def test_layers_with_little_left_keep_it_and_the_others_make_up_for_it() -> None:
    first = torch.zeros(10, 10, dtype=torch.bool)
    first[0, :5] = True
    parent = Mask({"a": first, "b": torch.ones(10, 10, dtype=torch.bool), "c": torch.ones(10, 10, dtype=torch.bool)})
    layers = select(scores_for(parent, 0), 0.25, parent=parent, allocation="uniform").layers()
    assert [layers[name].kept for name in "abc"] == [5, 35, 35]


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 20), st.integers(0, 40)), min_size=1, max_size=6),
    where=st.floats(0, 1),
)
def test_shares_are_exact_and_within_bounds(rows: list[tuple[float, int, int]], where: float) -> None:
    layers = [Layer(torch.zeros(least + more), least + more, (1, 1), least) for _, least, more in rows]
    least, most = [row[1] for row in rows], [row[1] + row[2] for row in rows]
    target = round(sum(least) + where * (sum(most) - sum(least)))
    counts = shared([row[0] for row in rows], layers, target)
    assert sum(counts) == target
    assert all(low <= count <= high for low, count, high in zip(least, counts, most, strict=True))


# Bad input


@pytest.mark.parametrize("density", [0, -0.1, 1.01, math.nan, math.inf, -math.inf])
def test_densities_out_of_range_are_refused(density: float) -> None:
    parent = dense([(4, 4)])
    for refusing in (
        lambda: select(scores_for(parent, 0), density, parent=parent),
        lambda: densities("geometric", density, 3),
    ):
        with pytest.raises(ValueError, match="density must be above 0") as refused:
            refusing()
        assert_one_sentence(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"granularity": "pixel"}, "granularity"),
        ({"allocation": "fair"}, "allocation"),
        ({"floor": math.nan}, "floor"),
        ({"floor": 1.5}, "floor"),
        ({"floor": 0.9}, "floor"),
        ({"density": 0.01}, "floor"),
        ({"density": 0.8}, "above the parent's"),
        ({"scores": {}}, "none"),
        ({"scores": {"layer0": torch.zeros(3, 3), "layer1": torch.zeros(4, 4)}}, "shape"),
        ({"scores": {name: torch.full((4, 4), math.nan) for name in ("layer0", "layer1")}}, "finite"),
    ],
)
def test_what_cannot_be_selected_is_refused_in_a_sentence(change: dict[str, object], said: str) -> None:
    whole = dense([(4, 4), (4, 4)])
    half = select(scores_for(whole, 0), 0.5, parent=whole)
    given = {"scores": scores_for(whole, 0), "density": 0.3, "parent": half} | change
    with pytest.raises(ValueError, match=said) as refused:
        select(**given)
    assert_one_sentence(refused.value)


# Schedules


@settings(deadline=None, max_examples=60)
@given(
    schedule=st.sampled_from(sorted(SCHEDULES)),
    final=st.floats(1e-4, 1),
    rounds=st.none() | st.integers(1, 40),
)
def test_schedules_fall_and_end_in_the_density_that_was_asked_for(
    schedule: str, final: float, rounds: int | None
) -> None:
    if schedule == "one-shot":
        rounds = None if rounds is None else 1
    found = densities(schedule, final, rounds)
    assert found[-1] == final
    assert rounds is None or len(found) == rounds
    assert all(0 < after <= before <= 1 for before, after in pairwise(found))


def test_the_papers_schedule_keeps_four_fifths_of_what_is_left() -> None:
    found = densities("geometric", 0.2)
    assert found[:-1] == pytest.approx([0.8**step for step in range(1, 8)])
    assert 0.8 <= found[-1] / found[-2] <= 1
    assert densities("geometric", 0.8**3) == pytest.approx([0.8, 0.64, 0.512])
    assert densities("geometric", 1.0) == (1.0,)
    assert densities("geometric", 0.125, 3) == pytest.approx([0.5, 0.25, 0.125])


def test_the_cubic_schedule_is_the_published_sparsity() -> None:
    """``s_t = s_f + (s_0 - s_f)(1 - t/n)^3`` from ``s_0 = 0`` on."""
    final, rounds = 0.1, 5
    sparsities = [(1 - final) * (1 - (1 - step / rounds) ** 3) for step in range(1, rounds + 1)]
    assert densities("cubic", final, rounds) == pytest.approx([1 - sparsity for sparsity in sparsities])
    assert densities("one-shot", 0.3) == (0.3,)


@pytest.mark.parametrize(
    ("schedule", "rounds"), [("linear", 3), ("geometric", 0), ("cubic", -1), ("one-shot", 2), ("cubic", 1.5)]
)
def test_other_schedules_and_rounds_are_refused(schedule: str, rounds: int) -> None:
    with pytest.raises(ValueError, match=r"schedule|rounds|shot") as refused:
        densities(schedule, 0.2, rounds)
    assert_one_sentence(refused.value)
