"""What trains a generator's ticket: norms are absorbed without a trace, distillation nears the teacher, zeros stay."""

import copy
from collections.abc import Sequence

import pytest
import torch
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d, zoom
from torch import Tensor, nn

from cs_lip.priors import DCGAN, Generator
from cs_lip.seeding import stream
from cs_lip.tickets import Mask
from cs_lip.tickets.distillation import Distillation, DistillationSettings, agreement, pyramid_distance
from cs_lip.tickets.norms import absorb_, absorbed, recalibrate_
from cs_lip.tickets.retraining import Level, Step
from cs_lip.training.adversarial_tickets import Adversarial, AdversarialSettings

WIDTHS = st.tuples(*[st.integers(1, 5)] * 4) | st.tuples(*[st.integers(1, 6)] * 3)


def latents_for(generator: Generator, count: int = 4) -> Tensor:
    return generator.sample_latents(count, generator=stream(1, "test"))


def pruned(generator: DCGAN, density: float = 0.4) -> DCGAN:
    """A copy that keeps the largest weights of its hidden layer."""
    sparse = absorbed(generator)
    weight = sparse.get_parameter("main.3.weight").detach().abs()
    threshold = weight.flatten().sort(descending=True).values[int(density * weight.numel())]
    Mask({"main.3.weight": weight > threshold}).apply_(sparse)
    return sparse


def one_level(steps: int) -> Level:
    return Level(1, 1, steps, steps)


# Norms


@given(widths=WIDTHS, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_absorbed_norms_are_pure_shifts_of_the_same_images(widths: tuple[int, ...], seed: int) -> None:
    generator = tiny_generator(widths, seed).double()
    latents = latents_for(generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    twin = absorbed(generator)
    assert type(twin) is DCGAN
    torch.testing.assert_close(twin(latents), generator(latents), rtol=0, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    for norm in twin.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            torch.testing.assert_close(norm.weight / (norm.running_var + norm.eps).sqrt(), torch.ones_like(norm.weight))
            assert not norm.running_mean.any()
    again = absorbed(twin)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


def test_absorbed_weights_are_the_folded_ones() -> None:
    generator = tiny_generator()
    absorb_(generator)
    folded = generator.fold().state_dict()
    for own, name in (("main.3.weight", "rest.1.weight"), ("main.6.weight", "rest.3.weight")):
        torch.testing.assert_close(generator.state_dict()[own], folded[name])


def test_absorbing_keeps_zeros_and_what_is_held() -> None:
    sparse = pruned(tiny_generator())
    kept = sparse.kept["main.3.weight"]
    absorb_(sparse)
    assert torch.equal(sparse.get_parameter("main.3.weight") != 0, kept)
    assert torch.equal(sparse.kept["main.3.weight"], kept)


def test_recalibrated_norms_have_the_statistics_of_draws() -> None:
    generator = tiny_generator()
    recalibrate_(generator, stream(0, "norms"))
    assert not generator.training
    latents = generator.sample_latents(4000, generator=stream(5, "other draws"))
    features = generator.main[0](latents[:, :, None, None])
    norm = generator.main[1]
    spread = features.var((0, 2, 3)).sqrt()
    assert ((norm.running_mean - features.mean((0, 2, 3))).abs() < 0.1 * spread).all()
    torch.testing.assert_close(norm.running_var, features.var((0, 2, 3)), rtol=0.1, atol=0)
    again = tiny_generator()
    recalibrate_(again, stream(0, "norms"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in generator.state_dict().items())


# The distance


def by_hand(image: Tensor) -> float:
    """The pyramid of one channel from SciPy's filters: blur, every second pixel, back by interpolation."""
    total, current = 0.0, image.double().numpy()
    while min(current.shape) >= 8:
        blurred = current
        for axis in (0, 1):
            blurred = correlate1d(blurred, [1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16], axis=axis, mode="nearest")
        coarse = blurred[::2, ::2]
        total += abs(current - zoom(coarse, 2, order=1, mode="nearest", grid_mode=True)).mean()
        current = coarse
    return float(total + abs(current).mean())


@given(seed=st.integers(0, 100), side=st.sampled_from([4, 8, 16, 32]))
@settings(deadline=None, max_examples=15)
def test_the_pyramid_is_that_of_another_library(seed: int, side: int) -> None:
    image = torch.randn(side, side, generator=stream(seed, "test"))
    assert float(pyramid_distance(image[None, None])) == pytest.approx(by_hand(image), rel=1e-5)


def test_the_pyramid_of_a_constant_has_no_details() -> None:
    assert float(pyramid_distance(torch.full((2, 3, 28, 28), -0.25))) == pytest.approx(0.25)


def test_what_is_minimised_vanishes_for_the_teacher_and_counts_gradients_too() -> None:
    teacher = tiny_generator()
    sparse = pruned(teacher)
    for vjp in (0.0, 1.0):
        distillation = Distillation(teacher, DistillationSettings(batch=4, vjp=vjp))
        assert float(distillation.losses(0)[0](teacher).detach()) < 1e-5
        assert float(distillation.losses(0)[0](sparse).detach()) > 0.01
    without, with_vjp = (
        Distillation(teacher, DistillationSettings(batch=4, vjp=vjp)).distance(sparse, stream(0, "z")) for vjp in (0, 1)
    )
    latents = teacher.sample_latents(4, generator=stream(0, "z")).requires_grad_()
    rng = stream(0, "z")
    teacher.sample_latents(4, generator=rng)
    probe = torch.randn(4, 3, 16, 16, generator=rng)
    (own,), (given_,) = (torch.autograd.grad((draw(latents) * probe).sum(), latents) for draw in (sparse, teacher))
    mismatch = (own - given_).square().sum() / given_.square().sum()
    torch.testing.assert_close(with_vjp - without, mismatch, rtol=1e-3, atol=0)


# Training


def test_distillation_brings_a_sparse_generator_nearer_to_its_teacher() -> None:
    teacher = tiny_generator()
    sparse = pruned(teacher)
    kept = sparse.kept["main.3.weight"]
    before = agreement(sparse, teacher, seed=0)
    seen: list[Step] = []
    (trained,) = Distillation(teacher, DistillationSettings(batch=8, learning_rate=0.01)).train(
        sparse, level=one_level(50), seed=0, progress=seen.append
    )
    assert isinstance(trained, DCGAN)
    assert agreement(trained, teacher, seed=0) > before + 2
    assert torch.equal(trained.get_parameter("main.3.weight") != 0, kept)
    assert [step.done for step in seen] == list(range(1, 51))
    assert seen[-1].loss < seen[0].loss
    absorbed_again = absorbed(trained)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(absorbed_again.state_dict()[name], value)


def test_distillation_repeats_by_its_seed_and_leaves_the_teacher_alone() -> None:
    teacher = tiny_generator()
    state = {name: value.clone() for name, value in teacher.state_dict().items()}

    def weights(seed: int) -> Tensor:
        distillation = Distillation(teacher, DistillationSettings(batch=4, vjp=0.1))
        (trained,) = distillation.train(pruned(teacher), level=one_level(3), seed=seed)
        return trained.get_parameter("main.3.weight").detach()

    before = torch.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())


def test_agreement_is_the_psnr_at_the_same_latents() -> None:
    generator = LinearGenerator(0.01 * torch.eye(12, 4), (3, 2, 2))
    other = LinearGenerator(0.03 * torch.eye(12, 4), (3, 2, 2))
    latents = generator.sample_latents(256, generator=stream(3, "agreement"))
    error = (0.02 * latents).square().sum() / (256 * 12)
    assert agreement(other, generator, seed=3) == pytest.approx(float(-10 * error.log10()), abs=1e-4)


def test_students_of_another_kind_are_refused() -> None:
    distillation = Distillation(tiny_generator())
    with pytest.raises(ValueError, match="as its teacher") as refused:
        distillation.train(tiny_generator((8, 8, 3)), level=one_level(1), seed=0)
    assert_one_sentence(refused.value)


def test_a_training_that_diverges_says_so() -> None:
    distillation = Distillation(tiny_generator(), DistillationSettings(batch=2))
    broken = pruned(tiny_generator())
    with torch.no_grad():
        broken.get_parameter("main.6.weight").fill_(torch.nan)
    with pytest.raises(ValueError, match="diverged at step 1") as refused:
        distillation.train(broken, level=one_level(2), seed=0)
    assert_one_sentence(refused.value)


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"batch": 1.5}, {"learning_rate": 0.0}, {"pyramid": -1.0}, {"vjp": float("nan")}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="try ") as refused:
        DistillationSettings(**wrong)  # type: ignore[arg-type]
    assert_one_sentence(refused.value)


# Against a critic


def adversarial(pictures: int = 4) -> Adversarial:
    images = torch.randint(0, 256, (pictures, 3, 16, 16), generator=stream(0, "pictures"), dtype=torch.uint8)
    return Adversarial(images, AdversarialSettings(batch=4, critic_steps=1))


def test_adversarial_training_moves_the_survivors_alone() -> None:
    sparse = pruned(tiny_generator())
    kept, before = sparse.kept["main.3.weight"], copy.deepcopy(sparse)
    seen: list[Step] = []

    def trained(seed: int) -> Sequence[Tensor]:
        (network,) = adversarial().train(copy.deepcopy(sparse), level=one_level(3), seed=seed, progress=seen.append)
        assert not network.training
        return [value.detach() for value in network.parameters()]

    weights = dict(zip((name for name, _ in sparse.named_parameters()), trained(0), strict=True))
    after = weights["main.3.weight"]
    assert torch.equal(after != 0, kept)
    assert (after[kept] != before.get_parameter("main.3.weight")[kept]).any()
    assert [step.done for step in seen] == [1, 2, 3]
    assert all(torch.equal(one, other) for one, other in zip(trained(0), weights.values(), strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(trained(1), weights.values(), strict=True))


def test_a_training_broken_off_has_the_learning_rates_of_the_whole() -> None:
    def losses(steps: int, horizon: int) -> list[float | None]:
        seen: list[Step] = []
        adversarial().train(tiny_generator(), level=Level(0, 1, steps, horizon), seed=0, progress=seen.append)
        assert [(step.done, step.total) for step in seen] == [(done, steps) for done in range(1, steps + 1)]
        return [step.loss for step in seen]

    assert losses(8, 16) == losses(16, 16)[:8]
    assert losses(8, 8) != losses(8, 16)


def test_a_distillation_broken_off_ends_where_the_whole_one_was() -> None:
    generator = tiny_generator()
    trainer, broken, whole = (
        Distillation(generator, DistillationSettings(batch=4)),
        pruned(generator),
        pruned(generator),
    )
    passed: dict[int, dict[str, Tensor]] = {}

    def watch(step: Step) -> None:
        passed[step.done] = {name: weight.detach().clone() for name, weight in absorbed(whole).named_parameters()}

    trainer.train(whole, level=Level(0, 1, 6, 6), seed=0, progress=watch)
    trainer.train(broken, level=Level(0, 1, 3, 6), seed=0)
    assert all(torch.equal(weight, passed[3][name]) for name, weight in broken.named_parameters())
    assert any(not torch.equal(weight, passed[6][name]) for name, weight in broken.named_parameters())


def test_what_adversarial_training_cannot_train_is_refused() -> None:
    with pytest.raises(ValueError, match="4 pictures, got 3") as refused:
        adversarial(3)
    assert_one_sentence(refused.value)
    for network in (DCGAN((8, 8, 3), output_bias=True), LinearGenerator(torch.zeros(12, 2), (3, 2, 2))):
        with pytest.raises(ValueError, match="needs a DCGAN") as refused:
            adversarial().check(network)
        assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="shape") as refused:
        adversarial().check(tiny_generator((8, 8, 3)))
    assert_one_sentence(refused.value)
    assert not adversarial().losses(0)


def test_adversarial_training_keeps_the_scales_of_norms() -> None:
    generator = tiny_generator()
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.constant_(norm.weight, 3.0)
    adversarial().train(generator, level=one_level(2), seed=0)
    for norm in norms:
        torch.testing.assert_close(norm.weight, torch.full_like(norm.weight, 3.0), rtol=0.01, atol=0)
        assert norm.running_var is not None and not torch.allclose(norm.running_var, torch.ones(()), atol=1e-3)
