"""Imaging operators: each against an oracle of its own. The contract they share is tested in test_operators.py."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.sparse
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from cs_lip.operators import (
    BlockDiagonal,
    Blur,
    Downsample,
    Gaussian,
    Identity,
    LinearOperator,
    Mask,
    MatrixOperator,
    MultiCoilFourier,
    SinglePixel,
    bernoulli_mask,
    birdcage_maps,
    box_mask,
    dot_test,
    gaussian_kernel,
    motion_kernel,
    operator_from_recipe,
)
from cs_lip.operators.hadamard import sequency_order, walsh_hadamard

PILLOW = {"box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
KERNEL = np.arange(6.0).reshape(2, 3)
MAPS = birdcage_maps(3, (4, 6))
KEPT = torch.ones(4, 6, dtype=torch.bool)
SPARSE = scipy.sparse.csr_array(np.diag([1.0, 2.0, 3.0]))

sides = st.integers(1, 13)


def draw(*shape: int, is_complex: bool = False, seed: int = 0) -> Tensor:
    dtype = torch.complex128 if is_complex else torch.float64
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(A: LinearOperator) -> np.ndarray:
    """The matrix of a real operator, rows of measurements and columns of pixels."""
    return A(torch.eye(A.n, dtype=torch.float64).reshape(A.n, *A.in_shape)).reshape(A.n, -1).T.numpy()


# Masks.


@given(sides, sides, st.data())
def test_box_mask_loses_the_centre(height: int, width: int, data: st.DataObject) -> None:
    box = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    lost = ~box_mask((2, height, width), box)
    assert lost.sum() == 2 * box[0] * box[1] and torch.equal(lost[0], lost[1])
    for axis, side in ((0, height), (1, width)):
        inside = lost[0].any(1 - axis).nonzero().flatten()
        before, after = int(inside[0]), side - 1 - int(inside[-1])
        assert len(inside) == box[axis] and after - before in (0, 1)
    assert torch.equal(box_mask((5, 7), 3), box_mask((5, 7), (3, 3)))


def test_bernoulli_mask_keeps_its_fraction_and_is_nested() -> None:
    shape = (100, 200)
    some, more = (bernoulli_mask(shape, keep=keep, seed=3) for keep in (0.2, 0.7))
    for kept, keep in ((some, 0.2), (more, 0.7)):
        assert abs(kept.double().mean() - keep) < 5 * math.sqrt(keep * (1 - keep) / 20000)
    assert not (some & ~more).any()
    assert bernoulli_mask(shape, keep=1, seed=3).all() and not bernoulli_mask(shape, keep=0, seed=3).any()
    assert not torch.equal(some, bernoulli_mask(shape, keep=0.2, seed=4))
    # Neighbours tell nothing about each other.
    centred = more.double() - 0.7
    assert abs((centred[:, 1:] * centred[:, :-1]).mean()) < 5 * 0.21 / math.sqrt(19900)


def test_a_picture_becomes_a_mask_by_comparison() -> None:
    picture = np.array([[0, 255], [200, 90]], dtype=np.uint8)
    x = draw(3, 2, 2)
    assert torch.equal(Mask(picture > 127, (3, 2, 2)).gram(x), x * torch.tensor([[0.0, 1], [1, 0]]))


# Downsampling.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.sampled_from(list(PILLOW)))
def test_downsample_is_pillow(height: int, width: int, factor: int, kernel: str) -> None:
    A = Downsample((height * factor, width * factor), factor, kernel=kernel)
    x = draw(*A.in_shape)
    expected = np.asarray(Image.fromarray(x.float().numpy()).resize((width, height), PILLOW[kernel]))
    np.testing.assert_allclose(A(x).numpy(), expected, atol=1e-5)
    torch.testing.assert_close(A(torch.ones(A.in_shape)), torch.ones(A.out_shape))  # float32 and float64 alike
    assert dot_test(A) <= 1e-10


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_downsample_is_interpolate(factor: int) -> None:
    x = draw(2, 3, 48, 24)
    bicubic = torch.nn.functional.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    torch.testing.assert_close(Downsample((3, 48, 24), factor)(x), bicubic, rtol=0, atol=1e-12)
    area = torch.nn.functional.interpolate(x, scale_factor=1 / factor, mode="area")
    torch.testing.assert_close(Downsample((3, 48, 24), factor, kernel="box")(x), area)


@pytest.mark.parametrize("kernel", ["box", "bicubic", "lanczos"])
def test_downsample_norm_is_about_one_over_the_factor(kernel: str) -> None:
    norm = np.linalg.norm(dense(Downsample((16, 16), 4, kernel=kernel)), 2)
    assert norm == pytest.approx(1 / 4, rel=1e-12 if kernel == "box" else 0.15)


# Blur.


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.data(), st.sampled_from([("circular", "wrap"), ("reflect", "reflect")]))
def test_blur_is_scipy_convolve(height: int, width: int, data: st.DataObject, border: tuple[str, str]) -> None:
    sizes = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    kernel, x = draw(*sizes, seed=1), draw(2, height, width)
    A = Blur((2, height, width), kernel, border=border[0])
    expected = [scipy.ndimage.convolve(plane, kernel.numpy(), mode=border[1]) for plane in x.numpy()]
    np.testing.assert_allclose(A(x).numpy(), expected, atol=1e-11)
    np.testing.assert_allclose(A(x.float()).numpy(), expected, atol=1e-4)
    assert dot_test(A) <= 1e-10


def test_blur_inside_is_conv2d_with_the_mirrored_kernel() -> None:
    kernel, x = draw(5, 3, seed=1), draw(1, 20, 30)
    inside = torch.nn.functional.conv2d(x[None], kernel.flip(0, 1)[None, None])[0]
    for border in ("circular", "reflect"):
        torch.testing.assert_close(Blur((1, 20, 30), kernel, border=border)(x)[:, 2:-2, 1:-1], inside)


def test_a_point_becomes_the_kernel() -> None:
    x = torch.zeros(9, 9)
    x[4, 4] = 1
    y = Blur((9, 9), KERNEL)(x)
    expected = np.zeros((9, 9))
    expected[3:5, 3:6] = KERNEL  # the pixel (1, 1) of the kernel, height // 2 and width // 2, lies on the point
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("border", "kernel", "norm"),
    [
        ("circular", motion_kernel(5, 30), 1),
        ("reflect", gaussian_kernel(1.0), 1),
        ("reflect", torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]]), math.sqrt(2)),
        ("reflect", torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]), 2),
    ],
)
def test_norm_and_mean_of_a_blur_are_those_of_its_border(border: str, kernel: torch.Tensor, norm: float) -> None:
    A, x = Blur((11, 12), kernel, border=border), draw(11, 12)
    assert A.norm() == pytest.approx(norm, rel=1e-4)
    assert bool((A(x).mean() - x.mean()).abs() < 1e-12) == (norm == 1)
    torch.testing.assert_close(A(torch.ones_like(x)), torch.ones_like(x))


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3])
def test_gaussian_kernel_is_scipy_gaussian_filter(sigma: float) -> None:
    x = draw(31, 29)
    A = Blur((31, 29), gaussian_kernel(sigma), border="reflect")
    np.testing.assert_allclose(A(x).numpy(), scipy.ndimage.gaussian_filter(x.numpy(), sigma), atol=1e-12)
    assert gaussian_kernel(sigma, 7).shape == (7, 7)
    assert torch.equal(gaussian_kernel(np.float64(sigma)), gaussian_kernel(sigma))
    assert gaussian_kernel(np.int64(2)).equal(gaussian_kernel(2))
    assert float(gaussian_kernel(sigma, 7).sum()) == pytest.approx(1)


def test_motion_kernel_of_known_lines() -> None:
    row = torch.full((1, 9), 1 / 9, dtype=torch.float64)
    for angle, expected in ((0, row), (180, row), (90, row.T), (-90, row.T)):
        torch.testing.assert_close(motion_kernel(9, angle), expected)
    # Half a pixel beyond three whole ones at each end, and a single point.
    torch.testing.assert_close(motion_kernel(4, 0), torch.tensor([[0.5, 1, 1, 1, 0.5]], dtype=torch.float64) / 4)
    assert motion_kernel(1, 77).tolist() == [[1]]
    rising = motion_kernel(2 * math.sqrt(2) + 1, 45)
    assert rising.shape == (3, 3)
    torch.testing.assert_close(rising.flip(1).diag(), rising.max().expand(3))


@given(st.floats(1, 60), st.floats(-360, 360))
def test_motion_kernel_is_a_centred_line_of_its_angle(length: float, angle: float) -> None:
    kernel = motion_kernel(length, angle)
    assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
    assert kernel.min() >= 0 and float(kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernel, kernel.flip(0, 1), rtol=0, atol=1e-12)
    y, x = (torch.arange(side) - side // 2 for side in kernel.shape)
    across = x * math.sin(math.radians(angle)) + y[:, None] * math.cos(math.radians(angle))
    assert across[kernel > 0].abs().max() <= 1


# Blocks.


def test_block_diagonal_is_a_block_diagonal_matrix() -> None:
    B = Gaussian((3, 2), 4, seed=1).double()
    x = draw(6, 8)
    blocks = [x[i : i + 3, j : j + 2].flatten() for i in (0, 3) for j in (0, 2, 4, 6)]
    expected = scipy.linalg.block_diag(*[B.matrix.numpy()] * 8) @ torch.cat(blocks).numpy()
    A = BlockDiagonal((6, 8), B)
    assert A.out_shape == (2, 4, 4) and A.m == 32
    np.testing.assert_allclose(A(x).flatten().numpy(), expected)


def test_blocks_of_one_channel_and_of_all() -> None:
    x = draw(2, 3, 6, 8)
    separate = BlockDiagonal((3, 6, 8), Gaussian((3, 2), 4, seed=1).double())
    joint = BlockDiagonal((3, 6, 8), Gaussian((3, 3, 2), 4, seed=1).double())
    assert separate.out_shape == (3, 2, 4, 4) and joint.out_shape == (2, 4, 4)
    torch.testing.assert_close(separate(x)[1, 2, 1, 3], separate.block(x[1, 2, 3:, 6:]))
    torch.testing.assert_close(joint(x)[1, 1, 3], joint.block(x[1, :, 3:, 6:]))


# Hadamard.


@pytest.mark.parametrize("power", range(12))
def test_walsh_hadamard_is_scipy_hadamard(power: int) -> None:
    x = draw(2, 3, 2**power)
    before = x.clone()
    y = walsh_hadamard(x)
    np.testing.assert_allclose(y.numpy(), x.numpy() @ scipy.linalg.hadamard(2**power), atol=1e-10)
    y += 1
    assert torch.equal(x, before)


@pytest.mark.parametrize("power", range(9))
def test_sequency_order_counts_sign_changes(power: int) -> None:
    ordered = scipy.linalg.hadamard(2**power)[sequency_order(2**power)]
    assert (np.diff(ordered, axis=1) != 0).sum(axis=1).tolist() == list(range(2**power))


def patterns_of(A: SinglePixel) -> np.ndarray:
    """Bare patterns, (m, channels, height, width)."""
    padded = math.prod(1 << (side - 1).bit_length() for side in A.in_shape[-2:])
    return math.sqrt(padded) * dense(A).reshape(A.m, *A.in_shape)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), sides, sides, st.data(), st.sampled_from(["sequency", "natural"]))
def test_single_pixel_patterns(channels: int, height: int, width: int, data: st.DataObject, order: str) -> None:
    shape = (channels, height, width)
    m = data.draw(st.integers(1, math.prod(shape)))
    A, onoff = (SinglePixel(shape, m, patterns=patterns, order=order) for patterns in ("+-1", "0/1"))
    signs = patterns_of(A)
    channel = np.arange(m) % channels
    own = signs[np.arange(m), channel]
    np.testing.assert_allclose(np.abs(own), 1, atol=1e-12)
    assert np.abs(signs).sum() == pytest.approx(m * height * width)  # nothing in the other channels
    shown = patterns_of(onoff)[np.arange(m), channel]
    np.testing.assert_allclose(shown, (own + 1) / 2, atol=1e-12)
    assert np.abs(patterns_of(onoff)).sum() == pytest.approx(shown.sum())
    padded = [1 << (side - 1).bit_length() for side in shape[1:]]
    if order == "natural":
        full = scipy.linalg.hadamard(math.prod(padded)).reshape(-1, *padded)[:, :height, :width]
        np.testing.assert_allclose(own, full[np.arange(m) // channels], atol=1e-12)
    elif padded == [height, width]:
        changes = (np.diff(own[:, :, 0].round()) != 0).sum(1) + (np.diff(own[:, 0].round()) != 0).sum(1)
        assert (np.diff(changes) >= 0).all()
    for operator in (A, onoff):
        assert dot_test(operator) <= 1e-10


def test_single_pixel_rows_are_orthonormal_and_fewer_are_the_first_of_more() -> None:
    A = SinglePixel((2, 8, 16), 256)
    np.testing.assert_allclose(dense(A) @ dense(A).T, np.eye(256), atol=1e-12)
    assert np.linalg.norm(dense(SinglePixel((5, 7), 35)), 2) <= 1 + 1e-12
    x = draw(2, 8, 16)
    torch.testing.assert_close(SinglePixel((2, 8, 16), 100)(x), A(x)[:100])


# Multi-coil Fourier.


@pytest.mark.parametrize("is_complex", [False, True])
def test_multi_coil_is_mask_spectrum_maps(is_complex: bool) -> None:
    kept = bernoulli_mask((4, 6), keep=0.5, seed=1)
    A = MultiCoilFourier(MAPS.to(torch.complex128), kept, (2, 4, 6), in_is_complex=is_complex)
    assert A.out_shape == (2, 3, int(kept.sum())) and A.m == 12 * kept.sum()
    assert torch.equal(A.mask, kept)
    x = draw(2, 4, 6, is_complex=is_complex)
    spectrum = np.fft.fft2(MAPS.numpy() * x.numpy()[:, None], norm="ortho")
    np.testing.assert_allclose(A(x).numpy(), spectrum[..., kept.numpy()], atol=1e-12)
    everything = MultiCoilFourier(MAPS.to(torch.complex128), KEPT, (2, 4, 6), in_is_complex=is_complex)
    torch.testing.assert_close(everything.gram(x), x, rtol=1e-6, atol=1e-6)


def test_multi_coil_takes_a_mask_of_lines() -> None:
    lines = torch.tensor([True, False, True, False, False, True])
    A = MultiCoilFourier(MAPS.numpy().astype(">c8"), lines)
    assert torch.equal(A.mask, lines.expand(4, 6)) and A.in_shape == (4, 6)


@given(st.integers(1, 9), sides, sides)
def test_birdcage_maps_have_unit_sum_of_squares(coils: int, height: int, width: int) -> None:
    maps = birdcage_maps(coils, (height, width))
    assert maps.shape == (coils, height, width) and maps.dtype == torch.complex64
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(height, width))


def test_birdcage_maps_are_strongest_next_to_their_coil() -> None:
    maps = birdcage_maps(4, (32, 32)).abs()
    # Coils to the right, below, to the left and above, in this order.
    for coil, (row, column) in enumerate([(16, 31), (31, 16), (16, 0), (0, 16)]):
        assert maps[:, row, column].argmax() == coil
        assert maps[coil, row, column] > 1.5 * maps[coil, 31 - row, 31 - column]


# Matrices.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, 1, 3]))
def test_matrix_operator_is_its_matrix(
    rows: int, columns: int, matrix_complex: bool, images_complex: bool, is_sparse: bool, batch: int
) -> None:
    matrix = draw(rows, columns, is_complex=matrix_complex)
    matrix[0, 1:] = 0
    M = matrix.numpy()
    given_as = scipy.sparse.coo_array(M) if is_sparse else M
    A = MatrixOperator(given_as, in_is_complex=images_complex)
    x = draw(batch, columns, is_complex=images_complex)
    np.testing.assert_allclose(A(x).numpy(), x.numpy() @ M.T, atol=1e-12)
    y = draw(batch, rows, is_complex=A.out_is_complex)
    expected = y.numpy() @ M.conj()
    np.testing.assert_allclose(A.adjoint(y).numpy(), expected if images_complex else expected.real, atol=1e-12)
    assert dot_test(A) <= 1e-10
    again = operator_from_recipe(json.loads(json.dumps(A.recipe())))
    assert torch.equal(again(x), A(x)) and again.recipe() == A.recipe()


def test_matrix_keeps_its_numbers_and_its_precision() -> None:
    M = np.arange(6.0).reshape(2, 3)
    A = MatrixOperator(M)
    assert A.parts.matrix.data_ptr() == M.ctypes.data  # shared, not copied
    with pytest.raises(ValueError, match=r"holds torch.float64, got torch.float32; try A.to\(torch.float32\)"):
        A(torch.ones(3))
    assert A.float()(torch.ones(3)).tolist() == [3, 12]
    # Cast down, a complex matrix stays complex.
    assert MatrixOperator(M + 1j).to(torch.float32)(torch.ones(3)).tolist() == [3 + 3j, 12 + 3j]


def test_matrix_of_any_layout() -> None:
    M = np.arange(6.0).reshape(2, 3)
    locked = M.copy()
    locked.flags.writeable = False
    duplicates = scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(1, 2))
    assert MatrixOperator(duplicates)(torch.ones(2).double()).tolist() == [3]
    for matrix in (M[::-1], M.astype(">f8"), np.asfortranarray(M), locked, scipy.sparse.csc_matrix(M)):
        expected = np.asarray(matrix @ np.ones(3)).tolist()
        assert MatrixOperator(matrix)(torch.ones(3).double()).tolist() == expected


def test_sparse_matrix_leaves_the_callers_as_it_is() -> None:
    M = SPARSE.copy()
    A = MatrixOperator(M)
    M.data[:] = 7
    assert A(torch.ones(3).double()).tolist() == [1, 2, 3]


# Bad input and bad recipes.


class Unrecorded(Identity):
    def recipe(self) -> dict[str, object]:
        return LinearOperator.recipe(self)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: box_mask((5,), 2), "a box has a height and a width"),
        (lambda: box_mask((5, 5), (2, 2, 2)), "a box has a height and a width"),
        (lambda: box_mask((5, 7), 6), "height of the box must be an integer from 1 to 5, got 6; try 2"),
        (lambda: box_mask((5, 7), (5, 0)), "width of the box must be an integer from 1 to 7, got 0"),
        (lambda: Mask(box_mask((5, 7), (5, 7))), "the mask keeps no pixel"),
        (lambda: bernoulli_mask((5, 7), keep=1.5, seed=0), "a number from 0 to 1, got 1.5; try 0.5"),
        (lambda: bernoulli_mask((5, 7), keep=float("nan"), seed=0), "got nan"),
        (lambda: bernoulli_mask((5, 7), keep=True, seed=0), "got True"),
        (lambda: bernoulli_mask((5, 7), keep=0.5, seed=-1), "the seed must be an integer"),
        (lambda: Downsample((3, 63, 64), 4), r"multiples of the factor 4, got \(3, 63, 64\); .* \(3, 60, 64\)"),
        (lambda: Downsample((3, 4, 64), 5), "the factor must be an integer from 1 to 4, got 5"),
        (lambda: Downsample((3, 4, 64), 2.0), "got 2.0"),  # type: ignore[arg-type]
        (lambda: Downsample((64,), 2), r"\(channels, height, width\) or \(height, width\) here, got \(64,\)"),
        (lambda: Downsample((4, 4), 2, kernel="bilinear"), "'box' or 'bicubic' or 'lanczos', got 'bilinear'"),
        (lambda: Blur((3, 3), np.ones((4, 3))), r"not be larger than the image of \(3, 3\).* got \(4, 3\)"),
        (lambda: Blur((3, 3), np.ones((0, 3))), "and not empty"),
        (lambda: Blur((3, 3), np.ones(3)), r"of shape \(height, width\), got float64 of \(3,\)"),
        (lambda: Blur((3, 3), torch.ones(2, 2) + 0j), "of real numbers"),
        (lambda: Blur((3, 3), [[1.0]]), "got list"),  # type: ignore[arg-type]
        (lambda: Blur((3, 3), np.full((1, 1), np.nan)), "finite numbers, got NaN"),
        (lambda: Blur((3, 3), torch.full((1, 1), torch.inf)), "finite numbers"),
        (lambda: Blur((3, 3), np.ones((1, 1)), border="mirror"), "'circular' or 'reflect', got 'mirror'"),
        (lambda: Blur((3, 3), np.ones((1, 1)))(torch.ones(3, 3).half()), "float32 or float64, got torch.float16"),
        (lambda: Blur((3, 3), np.ones((1, 1)))(torch.ones(3, 3).byte()), "expects floating-point values"),
        (lambda: Blur((3, 3), np.ones((1, 1)))(torch.ones(3, 3, device="meta")), "on cpu, its input on meta"),
        (lambda: gaussian_kernel(0), "from 0.01 to 512, got 0; try 2"),
        (lambda: gaussian_kernel(1, 4), "odd size, got 4; try 5"),
        (lambda: motion_kernel(0.5, 0), "length of the motion must be a number from 1 to 4096, got 0.5"),
        (lambda: motion_kernel(5, 400), "angle of the motion in degrees"),
        (lambda: BlockDiagonal((3, 8, 9), Identity((4, 4))), r"multiples of the block's \(4, 4\), got \(3, 8, 9\)"),
        (lambda: BlockDiagonal((3, 2, 2), Identity((4, 4))), "multiples of the block's"),
        (lambda: BlockDiagonal((3, 8, 8), Identity((2, 4, 4))), r"all channels of the image .* got \(2, 4, 4\)"),
        (lambda: BlockDiagonal((8, 8), Identity((16,))), r"got \(16,\)"),
        (lambda: BlockDiagonal((8, 8), np.eye(16)), "a linear operator on one block, .* got ndarray"),
        (lambda: BlockDiagonal((8, 8), BlockDiagonal((4, 4), Identity((2, 2)))), "other than a BlockDiagonal"),
        (lambda: BlockDiagonal((8, 8), Unrecorded((4, 4))).recipe(), "Unrecorded operator has no recipe"),
        (lambda: SinglePixel((8, 8), 65), "m must be an integer from 1 to n = 64 .* got 65"),
        (lambda: SinglePixel((8, 8), 4, patterns="-1/1"), r"the patterns must be '\+-1' or '0/1'"),
        (lambda: SinglePixel((8, 8), 4, order="random"), "the order must be 'sequency' or 'natural'"),
        (lambda: SinglePixel((64,), 4), "here, got"),
        (lambda: walsh_hadamard(torch.ones(12)), "a power of two, got 12"),
        (lambda: walsh_hadamard(torch.ones(2, 0)), "a power of two, got 0"),
        (lambda: MultiCoilFourier(MAPS.real, KEPT), "complex64 or complex128 .* got torch.float32"),
        (lambda: MultiCoilFourier(np.ones((3, 4, 6)), KEPT), "got float64"),
        (lambda: MultiCoilFourier(None, KEPT), "got NoneType"),  # type: ignore[arg-type]
        (lambda: MultiCoilFourier(MAPS[0], KEPT), r"got torch.complex64 of \(4, 6\)"),
        (lambda: MultiCoilFourier(MAPS * torch.nan, KEPT), "coil maps must hold finite numbers"),
        (lambda: MultiCoilFourier(MAPS, KEPT.T), r"a mask of shape \(6, 4\) does not fit"),
        (lambda: MultiCoilFourier(MAPS, KEPT.float()), "must hold booleans"),
        (lambda: MultiCoilFourier(MAPS, ~KEPT), "keeps no frequency"),
        (lambda: MultiCoilFourier(MAPS, KEPT, (6, 4)), r"do not fit images of shape \(6, 4\)"),
        (lambda: MultiCoilFourier(MAPS, KEPT)(torch.ones(4, 6) + 0j), "expects real values here"),
        (lambda: MultiCoilFourier(MAPS, KEPT, in_is_complex=True)(torch.ones(4, 6)), "expects complex values here"),
        (lambda: birdcage_maps(0, (4, 4)), "the number of coils must be an integer from 1 to 4096, got 0"),
        (lambda: birdcage_maps(2, (3, 4, 4)), r"\(height, width\) of an image, got \(3, 4, 4\)"),
        (lambda: MatrixOperator(np.ones((2, 2), dtype=int)), "got int64 of shape .* try matrix.astype"),
        (lambda: MatrixOperator(torch.ones(2, 2).half()), "got float16"),
        (lambda: MatrixOperator(np.ones(3)), r"float64 of shape \(3,\)"),
        (lambda: MatrixOperator(np.ones((0, 3))), r"of shape \(0, 3\)"),
        (lambda: MatrixOperator([[1.0]]), "got list; try torch.as_tensor"),
        (lambda: MatrixOperator(torch.eye(3).to_sparse()), "torch tensor that is not sparse .* got Tensor"),
        (lambda: MatrixOperator(np.array([[1.0, np.nan]])), "finite numbers, got NaN"),
        (lambda: MatrixOperator(np.array([[1.0, 1j * np.inf]])), "finite numbers, got NaN"),
        (lambda: MatrixOperator(SPARSE * np.inf), "finite numbers"),
        (lambda: MatrixOperator(scipy.sparse.csr_array((2, 3))), "no non-zero at all"),
        (lambda: MatrixOperator(np.ones((2, 6)), (2, 2)), r"takes images of 6 numbers, got in_shape \(2, 2\)"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert_one_sentence(caught.value)


BLUR = Blur((3, 3), KERNEL).recipe()
BLOCKS = BlockDiagonal((4, 4), Identity((2, 2))).recipe()
COILS = MultiCoilFourier(MAPS, KEPT).recipe()
DENSE = MatrixOperator(np.ones((2, 3))).recipe()
ROWS = MatrixOperator(SPARSE).recipe()


def rows_with(**changes: object) -> dict[str, object]:
    return ROWS | {"matrix": ROWS["matrix"] | changes}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (BLUR | {"kernel": [[1.0]]}, "kernel must hold dtype, shape and data"),
        (BLUR | {"kernel": COILS["mask"]}, "kernel must be of float64"),
        (BLUR | {"border": None}, "the border must be"),
        (BLOCKS | {"block": [1]}, "an operator's recipe must be a mapping, got list"),
        (BLOCKS | {"block": BLOCKS}, "other than a BlockDiagonal"),
        (BLOCKS | {"block": {}}, "must have format 1"),
        (COILS | {"in_is_complex": 1}, "in_is_complex must be true or false, got '1'"),
        (COILS | {"coil_maps": COILS["mask"]}, "coil maps must be of complex64, complex128"),
        (COILS | {"mask": COILS["coil_maps"]}, "mask must be of bool"),
        (DENSE | {"in_is_complex": "no"}, "in_is_complex must be true or false, got 'no'"),
        (DENSE | {"matrix": 3}, "matrix must hold dtype, shape and data"),
        (DENSE | {"matrix": COILS["mask"]}, "matrix must be of float32"),
        (DENSE | {"in_shape": [4]}, "takes images of 3 numbers"),
        (ROWS | {"in_shape": [2]}, r"no compressed rows of shape \(3, 2\)"),
        (rows_with(indptr=ROWS["matrix"]["indices"]), "no compressed rows"),
        (rows_with(indptr=ROWS["matrix"]["data"]), "indptr must be of int64"),
        (rows_with(data=COILS["coil_maps"]), "no compressed rows"),
    ],
)
def test_bad_recipes(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        operator_from_recipe(recipe)
    assert_one_sentence(caught.value)
