"""Metrics: closed forms, the published window, and the properties that a reader of a table relies on."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.evaluation.metrics import mse, psnr, ssim

METRICS = (mse, psnr, ssim)


def image(seed: int, shape: tuple[int, ...] = (3, 20, 24)) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_an_image_compared_with_itself() -> None:
    a = image(0)
    assert mse(a, a) == 0
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1)


@given(level=st.floats(1e-6, 1))
def test_a_constant_error_has_its_closed_form(level: float) -> None:
    a = torch.zeros(3, 12, 12, dtype=torch.float64)
    assert mse(a, a + level) == pytest.approx(level**2)
    assert psnr(a, a + level) == pytest.approx(-20 * math.log10(level), abs=1e-9)


def test_small_errors_survive_float32() -> None:
    """1e-8 is what a converged recovery reaches; summed in float32 it would lose digits."""
    a = torch.full((3, 64, 64), 0.5)
    b = a + 1e-4
    assert mse(a, b) == pytest.approx(float((b[0, 0, 0].double() - 0.5) ** 2), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), noise=st.floats(0.01, 0.5))
def test_symmetric_and_worse_with_more_noise(seed: int, noise: float) -> None:
    a, error = image(seed), image(seed + 1) - 0.5
    near, far = a + 0.2 * noise * error, a + noise * error
    for metric in METRICS:
        assert metric(a, far) == pytest.approx(metric(far, a))
    assert mse(a, near) < mse(a, far)
    assert psnr(a, near) > psnr(a, far)
    assert 1 > ssim(a, near) > ssim(a, far) > -1


def test_ssim_is_wangs_formula() -> None:
    """Wang et al. 2004, eq. 13, with an 11x11 Gaussian window of standard deviation 1.5, per channel and averaged."""
    a, b = image(1).double().numpy(), (0.6 * image(1) + 0.4 * image(2)).double().numpy()

    def blur(x: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(x, (0, 1.5, 1.5), radius=(0, 5, 5))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, covariance = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = numerator / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    expected = similarity[:, 5:-5, 5:-5].mean()
    assert ssim(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 16, 16), (3, 16, 17)), ((3, 16, 16), (1, 16, 16)), ((1, 3, 16, 16), (1, 3, 16, 16)), ((16, 16), (16, 16))],
)
def test_shapes_that_do_not_fit_are_refused(metric: object, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="try one image"):
        metric(torch.zeros(a), torch.zeros(b))


def test_ssim_refuses_images_below_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(torch.zeros(3, 10, 64), torch.zeros(3, 10, 64))
    assert ssim(torch.zeros(1, 11, 11), torch.zeros(1, 11, 11)) == pytest.approx(1)


@pytest.mark.parametrize("metric", METRICS)
def test_an_image_with_a_gradient_is_fine(metric: object) -> None:
    assert callable(metric)
    a = image(3).requires_grad_()
    assert isinstance(metric(a, image(4)), float)
