"""Named streams: reproducible for ever, independent of one another, and of the global generator."""

import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given
from hypothesis import strategies as st

from cs_lip.seeding import MAX_SEED, derive_seed, stream

SEEDS = st.integers(0, MAX_SEED)
NAMES = st.text(max_size=20)


def test_seeds_are_what_they_always_were() -> None:
    # a changed value would make every stored result impossible to repeat
    assert derive_seed(0, "noise") == 1032434231706408991
    assert derive_seed(MAX_SEED, "latents/3") == 7256488067513736256


@given(SEEDS, NAMES)
def test_seed_is_in_range_and_repeats(seed: int, name: str) -> None:
    derived = derive_seed(seed, name)
    assert 0 <= derived <= MAX_SEED
    assert derived == derive_seed(seed, name)
    assert torch.equal(torch.randn(4, generator=stream(seed, name)), torch.randn(4, generator=stream(seed, name)))


@given(st.tuples(SEEDS, NAMES), st.tuples(SEEDS, NAMES))
def test_other_seed_or_name_gives_another_stream(one: tuple[int, str], other: tuple[int, str]) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_streams_of_neighbours_are_uncorrelated() -> None:
    draws = torch.stack(
        [torch.randn(20_000, generator=stream(seed, name)) for seed in (0, 1) for name in ("noise", "latents")]
    )
    off_diagonal = torch.corrcoef(draws) - torch.eye(4)
    assert off_diagonal.abs().max() < 0.04  # more than five standard deviations of the correlation of independent draws


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(3, generator=stream(0, "noise"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, True, 1.0, "0", None])
def test_bad_seed_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match=r"the seed must be an integer from 0 to 2\^63 - 1") as caught:
        stream(seed, "noise")  # type: ignore[arg-type]
    assert_one_sentence(caught.value)
