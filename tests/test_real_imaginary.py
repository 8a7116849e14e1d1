"""Complex images out of two real channels, and a complex recovery by them."""

import pytest
import torch
from helpers import assert_one_sentence

from cs_lip.operators import MultiCoilFourier, RealImaginary, birdcage_maps, dot_test, operator_from_recipe
from cs_lip.priors import untrained_network
from cs_lip.recovery import recover
from cs_lip.recovery.untrained_fit import UntrainedFit

SHAPE = (2, 5, 4)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 3), (2, 3, 1, 4)])
@pytest.mark.parametrize("batch", [(), (3,), (3, 2)])
def test_the_channels_are_the_parts(shape: tuple[int, ...], batch: tuple[int, ...]) -> None:
    A, x = RealImaginary(shape), drawn(*batch, *shape)
    y = A(x)
    assert y.shape == (*batch, *shape[1:]) and A.n == A.m == x[(0,) * len(batch)].numel()
    assert torch.equal(y.real, x.select(len(batch), 0)) and torch.equal(y.imag, x.select(len(batch), 1))
    assert torch.equal(A.gram(x), x) and torch.equal(A(A.adjoint(y)), y)
    assert torch.equal(A.pinv(y), x) or torch.allclose(A.pinv(y), x)


def test_the_contract_of_operators() -> None:
    A = RealImaginary(SHAPE)
    B = MultiCoilFourier(
        birdcage_maps(3, SHAPE[1:]).to(torch.complex128), torch.ones(5, 4, dtype=torch.bool), in_is_complex=True
    )
    for operator in (A, A.H, B @ A):
        assert dot_test(operator) <= 1e-10
    x = drawn(2, *SHAPE).requires_grad_()
    assert torch.autograd.gradcheck(A, (x,), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(A, (x,), fast_mode=True)
    torch.testing.assert_close(torch.func.vmap(A)(x.detach()), A(x.detach()))
    assert A.norm() == pytest.approx(1)
    again = operator_from_recipe((B @ A).recipe()).double()
    assert torch.equal(again(x.detach()), (B @ A)(x.detach()))


def test_channels_of_the_unit_range_stand_for_any_phase() -> None:
    R = RealImaginary(SHAPE)
    B = MultiCoilFourier(birdcage_maps(3, SHAPE[1:]), torch.ones(5, 4, dtype=torch.bool), in_is_complex=True)
    x = drawn(1, *SHAPE).float()
    y = B(R(2 * x - 1))
    torch.testing.assert_close((2 * (B @ R))(x), y + B(R(torch.ones(1, *SHAPE))))


def test_a_complex_image_is_recovered_by_an_untrained_network() -> None:
    side = 16
    grid = torch.linspace(-1, 1, side)
    magnitude = ((grid[:, None] ** 2 + grid**2) < 0.6).float()
    truth = magnitude * torch.exp(2j * (grid[:, None] + grid))
    mask = torch.ones(side, side, dtype=torch.bool)
    mask[2:-2:2] = False
    B = MultiCoilFourier(birdcage_maps(4, (side, side)), mask, in_is_complex=True)
    A = 2 * (B @ RealImaginary((2, side, side)))
    y = B(truth)[None] + B(torch.full((1, side, side), 1 + 1j))
    network = untrained_network("deep_decoder", (2, side, side), channels=24, depth=2)
    found = recover(A, y, network, solver=UntrainedFit(iterations=200, averaging=0.9))
    parts = 2 * found.images[0] - 1
    error = (torch.complex(*parts) - truth).abs().square().mean()
    assert error < 0.2 * truth.abs().square().mean()


@pytest.mark.parametrize("shape", [(3, 5, 4), (2,), (1, 2), (5, 4)])
def test_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two channels") as caught:
        RealImaginary(shape)
    assert_one_sentence(caught.value)


def test_a_complex_operator_alone_is_refused() -> None:
    B = MultiCoilFourier(birdcage_maps(3, (8, 8)), torch.ones(8, 8, dtype=torch.bool), in_is_complex=True)
    network = untrained_network("deep_decoder", (2, 8, 8), channels=4, depth=1)
    with pytest.raises(ValueError, match="draws real images") as caught:
        recover(B, B(torch.ones(1, 8, 8) + 0j), network, solver=UntrainedFit())
    assert_one_sentence(caught.value)
