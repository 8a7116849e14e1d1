"""Fast transforms against scipy: Hadamard, cosine, circulant, and the Fourier patterns."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.stats
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.operators import (
    LinearOperator,
    PartialCirculant,
    SubsampledDCT,
    SubsampledFourier,
    SubsampledHadamard,
    dot_test,
)
from cs_lip.operators.hadamard import walsh_hadamard
from cs_lip.operators.spectra import (
    _cosines_by_fft,
    _inverse_cosines_by_fft,
    cosine_transform,
    half_spectrum,
    inverse_cosine_transform,
    sum_of_waves,
)

Make = Callable[..., LinearOperator]
TRANSFORMS: dict[str, Make] = {"hadamard": SubsampledHadamard, "dct": SubsampledDCT, "circulant": PartialCirculant}
EVERY_TRANSFORM = pytest.mark.parametrize("make", TRANSFORMS.values(), ids=list(TRANSFORMS))

shapes = st.lists(st.integers(1, 7), min_size=1, max_size=3)
seeds = st.integers(0, 2**63 - 1)


def columns(A: LinearOperator) -> Tensor:
    eye = torch.eye(A.n, dtype=torch.float64)
    return A.double()(eye.reshape(A.n, *A.in_shape)).T


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Transforms on their own.


@pytest.mark.parametrize("bits", range(12))
def test_walsh_hadamard_is_scipys(bits: int) -> None:
    x = draw(2, 3, 2**bits)
    expected = x.numpy() @ scipy.linalg.hadamard(2**bits).astype(float)
    np.testing.assert_allclose(walsh_hadamard(x).numpy(), expected, atol=1e-10)


def test_walsh_hadamard_of_a_batch_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(7, 64)
    expected = walsh_hadamard(x)
    monkeypatch.setattr("cs_lip.operators.hadamard.NUMBERS_AT_ONCE", 128)
    assert torch.equal(walsh_hadamard(x), expected)
    assert torch.equal(walsh_hadamard(x[0]), expected[0])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, 64])
def test_cosine_transform_of_other_devices_is_that_of_the_cpu(n: int) -> None:
    x = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    torch.testing.assert_close(_cosines_by_fft(x), cosine_transform(x))
    torch.testing.assert_close(_inverse_cosines_by_fft(x), inverse_cosine_transform(x))
    torch.testing.assert_close(inverse_cosine_transform(cosine_transform(x)), x)


@pytest.mark.parametrize("length", [2**17, 2**17 + 1])
@pytest.mark.parametrize("batch", [(), (1, 1), (2,)])
def test_half_spectrum_of_long_rows(length: int, batch: tuple[int, ...]) -> None:
    x = draw(*batch, length)
    spectrum = half_spectrum(x)
    np.testing.assert_allclose(spectrum.numpy(), scipy.fft.rfft(x.numpy(), norm="ortho"), atol=1e-10)
    torch.testing.assert_close(sum_of_waves(spectrum, length), x)


# Random rows.


@settings(max_examples=60, deadline=None)
@given(shapes, st.data(), st.booleans(), st.sampled_from(["1/m", "1"]), seeds)
def test_rows_are_those_of_the_transform(
    shape: list[int], data: st.DataObject, per_channel: bool, normalisation: str, seed: int
) -> None:
    n, per_channel = int(np.prod(shape)), per_channel and len(shape) > 1
    m = data.draw(st.integers(1, n))
    options = {"seed": seed, "per_channel": per_channel, "normalisation": normalisation}
    x = draw(*shape)
    blocks = x.numpy().reshape(shape[0] if per_channel else 1, -1)
    gain = 1 / m if normalisation == "1/m" else 1.0

    cosine = SubsampledDCT(shape, m, **options)
    expected = scipy.fft.dct(blocks * cosine.signs.numpy(), norm="ortho").ravel()[cosine.rows] * (n * gain) ** 0.5
    np.testing.assert_allclose(cosine(x).numpy(), expected, atol=1e-10)

    walsh = SubsampledHadamard(shape, m, **options)
    size = 1 << (blocks.shape[1] - 1).bit_length()
    padded = np.pad(blocks * walsh.signs.numpy(), [(0, 0), (0, size - blocks.shape[1])])
    expected = (padded @ scipy.linalg.hadamard(size)).ravel()[walsh.rows] * (len(blocks) * gain) ** 0.5
    np.testing.assert_allclose(walsh(x).numpy(), expected, atol=1e-10)

    circulant = PartialCirculant(shape, m, **options).double()
    axes = tuple(range(int(per_channel), len(shape)))
    lengths = [shape[axis] for axis in axes]
    kernel = scipy.fft.irfftn(torch.view_as_complex(circulant.spectrum).numpy(), lengths, axes=axes)
    convolved = np.zeros(shape)  # sum over shifts of the kernel
    for shift in np.ndindex(*lengths):
        weight = kernel[(slice(None), *shift)].reshape(-1, *[1] * len(axes)) if per_channel else kernel[shift]
        convolved += weight * np.roll(x.numpy(), shift, axes)
    np.testing.assert_allclose(circulant(x).numpy(), convolved.ravel()[circulant.rows] * (n * gain) ** 0.5, atol=1e-6)

    for A in (cosine, walsh, circulant):
        assert len(set(A.rows.tolist())) == m and dot_test(A) <= 1e-10 and dot_test(A, dtype=torch.float32) <= 1e-5


@pytest.mark.parametrize("n", [1, 2, 8, 13])
def test_circulant_of_vectors_is_a_circulant_matrix(n: int) -> None:
    matrix = columns(PartialCirculant((n,), n, seed=2)).numpy()
    np.testing.assert_allclose(matrix, scipy.linalg.circulant(matrix[:, 0]), atol=1e-12)


@EVERY_TRANSFORM
@pytest.mark.parametrize(("shape", "per_channel"), [((16,), False), ((2, 4, 8), True), ((4, 2, 2), False)])
def test_rows_are_orthogonal(make: Make, shape: tuple[int, ...], per_channel: bool) -> None:
    matrix = columns(make(shape, 9, seed=3, per_channel=per_channel))
    identity = torch.eye(9, dtype=torch.float64) * np.prod(shape) / 9
    torch.testing.assert_close(matrix @ matrix.T, identity, rtol=0, atol=1e-5)


@EVERY_TRANSFORM
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("normalisation", ["1/m", "1"])
def test_energy_is_kept_on_average(make: Make, per_channel: bool, normalisation: str) -> None:
    x = draw(2, 3, 5).float()
    options = {"per_channel": per_channel, "normalisation": normalisation}
    ratios = [make((2, 3, 5), 6, seed=seed, **options)(x).square().sum() for seed in range(300)]
    ratios = torch.stack(ratios) / x.square().sum() / (6 if normalisation == "1" else 1)
    assert abs(ratios.mean() - 1) < 5 * ratios.std() / 300**0.5


def test_hadamard_entries_are_signs() -> None:
    assert (columns(SubsampledHadamard((3, 7), 10, seed=0, normalisation="1")).abs() == 1).all()


@EVERY_TRANSFORM
def test_seeds_differ_and_few_rows_are_among_many(make: Make) -> None:
    few, many, other = make((60,), 10, seed=1), make((60,), 30, seed=1), make((60,), 30, seed=2)
    assert set(few.rows.tolist()) < set(many.rows.tolist())
    assert many.rows.tolist() != other.rows.tolist()
    assert not torch.allclose(columns(many), columns(other))


def test_phases_of_the_circulant_are_uniform() -> None:
    spectrum = torch.view_as_complex(PartialCirculant((4001,), 1, seed=0).spectrum)
    torch.testing.assert_close(spectrum.abs(), torch.ones(2001))
    assert scipy.stats.kstest(spectrum[1:].angle().numpy(), scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_numbers_are_those_of_files_already_written() -> None:
    # If this fails, a recipe no longer rebuilds the operator that a file was measured with: raise the recipe's format.
    walsh = SubsampledHadamard((12,), 4, seed=0)
    assert walsh.rows.tolist() == [2, 4, 8, 12]
    assert walsh.signs.tolist() == [[-1, 1, -1, -1, -1, 1, 1, -1, 1, 1, -1, 1]]
    assert SubsampledDCT((12,), 4, seed=0).rows.tolist() == [6, 8, 9, 11]
    circulant = PartialCirculant((4,), 2, seed=0)
    assert circulant.rows.tolist() == [0, 2]
    expected = torch.tensor([[1.0, 0.0], [0.9308938980102539, -0.36528968811035156], [1.0, 0.0]])
    torch.testing.assert_close(circulant.spectrum, expected)
    lines = SubsampledFourier.lines((4, 9), acceleration=2, centre_fraction=0.2, seed=0)
    assert lines.indices.tolist() == [0, 3, 9, 12, 15, 18, 21]
    assert SubsampledFourier.radial((5, 6), spokes=3).indices.tolist() == [0, 1, 2, 3, 6, 7, 11, 13, 14, 16, 17]


# Fourier.


def twins(mask: Tensor) -> Tensor:
    """The frequencies measured together with a conjugate twin that is not themselves, of (channels, height, width)."""
    height, width = mask.shape[-2:]
    u, v = torch.arange(height)[:, None], torch.arange(width)[None, :]
    own = ((2 * u) % height == 0) & ((2 * v) % width == 0)
    return mask & mask[:, -u % height, -v % width] & ~own


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.data(), st.sampled_from(["uniform", "centre"]), seeds)
def test_fourier_of_vectors(n: int, data: st.DataObject, pattern: str, seed: int) -> None:
    k = data.draw(st.integers(1, n // 2))
    A = SubsampledFourier((n,), 2 * k, seed=seed, pattern=pattern)
    x = draw(3, n)
    np.testing.assert_allclose(A(x).numpy(), scipy.fft.fft(x.numpy(), norm="ortho")[:, A.indices.numpy()], atol=1e-12)
    assert A.mask.shape == (n,) and (A.indices <= n // 2).all() and len(A.indices.unique()) == k
    assert dot_test(A) <= 1e-10


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.data())
def test_fourier_of_any_mask(channels: int, height: int, width: int, data: st.DataObject) -> None:
    shape = (channels, height, width)
    if channels * height * width < 2:
        return
    kept = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width).filter(any))
    mask = torch.tensor(kept).reshape(height, width)
    A = SubsampledFourier.from_mask(mask, shape)
    assert torch.equal(A.mask, mask.expand(shape)) and A.m == 2 * channels * mask.sum()
    x, y = draw(2, *shape), torch.complex(draw(2, *A.out_shape, seed=1), draw(2, *A.out_shape, seed=2))
    expected = scipy.fft.fft2(x.numpy(), norm="ortho")[:, A.mask.numpy()]
    np.testing.assert_allclose(A(x).numpy(), expected, atol=1e-12)
    spectrum = np.zeros((2, *shape), dtype=complex)
    spectrum[:, A.mask.numpy()] = y.numpy()
    np.testing.assert_allclose(A.adjoint(y).numpy(), scipy.fft.ifft2(spectrum, norm="ortho").real, atol=1e-12)


def test_full_mask_keeps_the_energy_and_needs_no_shape() -> None:
    A = SubsampledFourier.from_mask(np.ones((2, 5, 6), dtype=bool))
    x = draw(2, 5, 6)
    assert A.in_shape == (2, 5, 6) and A.m == 2 * A.n
    torch.testing.assert_close(A(x).abs().square().sum(), x.square().sum())
    torch.testing.assert_close(A.gram(x), x)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2), st.integers(1, 12), st.integers(2, 21), st.data(), seeds)
def test_lines_are_whole_columns(channels: int, height: int, width: int, data: st.DataObject, seed: int) -> None:
    acceleration = data.draw(st.floats(1, width))
    lines = width // 2 + 1
    total = max(1, round(lines / acceleration))
    centre = data.draw(st.integers(0, total))
    A = SubsampledFourier.lines(
        (channels, height, width), acceleration=acceleration, centre_fraction=centre / lines, seed=seed
    )
    assert not twins(A.mask).any() and all(torch.equal(plane, A.mask[0]) for plane in A.mask)
    # With the twins that come for free, the plane holds whole columns and nothing else.
    u, v = torch.arange(height)[:, None], torch.arange(width)[None, :]
    whole = A.mask[0] | A.mask[0][-u % height, -v % width]
    assert torch.equal(whole.all(0), whole.any(0))
    columns = whole.all(0)[:lines]
    assert columns.sum() == total and columns[:centre].all()
    assert dot_test(A) <= 1e-10


def test_lines_count_and_differ_by_seed() -> None:
    few, other = (
        SubsampledFourier.lines((3, 64, 64), acceleration=4, centre_fraction=0.08, seed=seed) for seed in (0, 1)
    )
    assert abs(few.m - few.n / 4) <= 3 * 2 * 64  # one line of three channels
    assert not torch.equal(few.mask, other.mask)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2), st.integers(1, 15), st.integers(1, 15), st.data())
def test_spokes_run_through_the_centre(channels: int, height: int, width: int, data: st.DataObject) -> None:
    if channels * height * width < 2:
        return
    A = SubsampledFourier.radial((channels, height, width), spokes=data.draw(st.integers(1, height + width)))
    assert not twins(A.mask).any() and A.mask[:, 0, 0].all()
    assert A.mask[0, 0, : width // 2 + 1].all()  # the first spoke is horizontal
    assert dot_test(A) <= 1e-10


def test_four_spokes_are_the_axes_and_the_diagonals() -> None:
    mask = SubsampledFourier.radial((9, 9), spokes=4).mask
    u, v = torch.meshgrid(torch.fft.fftfreq(9), torch.fft.fftfreq(9), indexing="ij")
    expected = (u == 0) | (v == 0) | (u.abs() == v.abs())
    assert torch.equal(mask | mask.flip(0, 1).roll((1, 1), (0, 1)), expected)


def test_enough_spokes_cover_more() -> None:
    counts = [SubsampledFourier.radial((64, 64), spokes=spokes).m for spokes in (1, 8, 22, 64, 128)]
    assert counts == sorted(set(counts)) and counts[-1] > 0.9 * 64 * 64


# Bad input.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubsampledHadamard((4,), 5, seed=0), "m must be an integer from 1 to n = 4"),
        (lambda: SubsampledHadamard((4,), 2, seed=0, per_channel=True), "True needs images with a channel axis"),
        (lambda: SubsampledDCT((4, 4), 2, seed=0, per_channel=1), "per_channel must be True or False"),
        (lambda: SubsampledDCT((4, 4), 2, seed=0, normalisation="n"), "normalisation must be '1/m' or '1'"),
        (lambda: PartialCirculant((4, 4), 2, seed=-1), "the seed must be"),
        (lambda: SubsampledDCT((4,), 2, seed=0)(torch.ones(4).half()), "float32 or float64, got torch.float16"),
        (lambda: SubsampledDCT((4,), 2, seed=0).adjoint(torch.ones(2).half()), "float32 or float64"),
        (lambda: PartialCirculant((4,), 2, seed=0)(torch.ones(4).double()), "holds torch.float32, got torch.float64"),
        (lambda: SubsampledFourier((1,), 2, seed=0), "two pixels or more, got \\(1,\\)"),
        (lambda: SubsampledFourier.radial((9,), spokes=2), r"\(height, width\) of two pixels or more, got \(9,\)"),
        (lambda: SubsampledFourier.radial((9, 9), spokes=0), "spokes must be an integer from 1 to 18, got 0; try 18"),
        (
            lambda: SubsampledFourier.lines((9,), acceleration=2, centre_fraction=0, seed=0),
            r"\(height, width\) of two pixels or more",
        ),
        (
            lambda: SubsampledFourier.lines((9, 9), acceleration=0.5, centre_fraction=0, seed=0),
            "acceleration must be a number from 1 to 9, got 0.5; try 4",
        ),
        (
            lambda: SubsampledFourier.lines((9, 9), acceleration=2, centre_fraction=-0.1, seed=0),
            "centre_fraction must be a number from 0 to 1",
        ),
        (
            lambda: SubsampledFourier.lines((64, 64), acceleration=8, centre_fraction=0.5, seed=0),
            "measures 4 of 33 lines, got a centre_fraction of 0.5 which takes 16; try a centre_fraction of 0.061",
        ),
        (lambda: SubsampledFourier.lines((9, 9), acceleration=2, centre_fraction=0, seed=1.0), "the seed must be"),
        (lambda: SubsampledFourier.from_mask(torch.zeros(3, 3, dtype=torch.bool)), "the mask keeps no"),
        (lambda: SubsampledFourier.from_mask(torch.ones(3, 3)), "a mask must hold booleans"),
        (lambda: SubsampledFourier.from_mask(torch.ones(3, 3) > 0, (1, 4, 4)), "does not fit images of shape"),
        (lambda: SubsampledFourier.from_mask(torch.ones(1, 1) > 0), "two pixels or more"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert_one_sentence(caught.value)
