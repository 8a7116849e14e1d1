"""Training: the steps are WGAN-GP's, a stopped training goes on to the same bits, and bad input costs nothing."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import assert_one_sentence
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cs_lip.cli.main import main
from cs_lip.evaluation import datasets
from cs_lip.evaluation.datasets import read_dataset, read_mnist
from cs_lip.evaluation.training_run import CHECKPOINT_FILE, LOSSES_FILE, SAMPLES_FILE, open_run
from cs_lip.priors import DCGAN, build, load_generator, user_generators
from cs_lip.seeding import stream
from cs_lip.training import Critic, Losses, Settings, Training, dcgan_settings, load_checkpoint, save_checkpoint

SMALL = Settings(widths=(5, 6, 4, 1), first=3, steps=6, batch=4, critic_steps=2, averaging=0.5)
"""5 latents to images (1, 12, 12)."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pictures(count: int = 10, side: int = 12, seed: int = 0) -> Tensor:
    rng = stream(seed, "test/pictures")
    return torch.randint(0, 256, (count, 1, side, side), generator=rng, dtype=torch.uint8)


def state_of(training: Training) -> dict[str, Tensor]:
    return {
        **{f"generator/{name}": value for name, value in training.generator.state_dict().items()},
        **{f"critic/{name}": value for name, value in training.critic.state_dict().items()},
        **{f"averaged/{name}": value for name, value in training.averaged.items()},
        **training.blueprint().state,
    }


# The steps


def test_one_step_is_wgan_gp_written_out() -> None:
    """Algorithm 1 of Gulrajani et al. 2017 again, one image at a time and by plain autograd, in double precision."""
    settings = replace(SMALL, critic_steps=1, steps=2)
    training = Training(settings, pictures())
    for network in (training.generator, training.critic):
        network.double()
    generator, critic = DCGAN(settings.widths, first=settings.first).double(), Critic(settings.widths, 3).double()
    generator.load_state_dict(training.generator.state_dict())
    critic.load_state_dict(training.critic.state_dict())
    training.averaged = {name: value.double() for name, value in training.averaged.items()}
    before = {name: value.clone() for name, value in training.averaged.items()}
    losses = training.advance()

    rng = stream(settings.seed, "training/step-0")
    chosen = torch.randint(10, (4,), generator=rng)
    real = pictures()[chosen].double() / 255
    drawn = generator.train()(torch.randn(4, 5, generator=rng).double()).detach()
    places = torch.rand(4, 1, 1, 1, generator=rng).double()
    distance, penalty = torch.zeros(()).double(), torch.zeros(()).double()
    for x, fake, place in zip(real, drawn, places, strict=True):
        between = ((1 - place) * x + place * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between[None]).sum(), between, create_graph=True)
        distance = distance + (critic(x[None]) - critic(fake[None])).sum() / 4
        penalty = penalty + (slope.square().sum().sqrt() - 1) ** 2 / 4
    assert losses.distance == pytest.approx(float(distance.detach()), rel=1e-5)
    assert losses.penalty == pytest.approx(float(penalty.detach()), rel=1e-5)
    rate = settings.learning_rate
    descend(critic, settings.penalty * penalty - distance, rate)
    descend(generator, -critic(generator(torch.randn(4, 5, generator=rng).double())).mean(), rate)
    for name, value in generator.named_parameters():
        torch.testing.assert_close(training.generator.state_dict()[name], value, rtol=0, atol=1e-7)
        # The first step keeps a tenth of the initial weights.
        torch.testing.assert_close(training.averaged[name], 0.1 * before[name] + 0.9 * value, rtol=0, atol=1e-7)
    for name, value in critic.named_parameters():
        torch.testing.assert_close(training.critic.state_dict()[name], value, rtol=0, atol=1e-7)


def descend(network: nn.Module, loss: Tensor, rate: float) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.9))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def test_initial_weights_are_as_published() -> None:
    training = Training(dcgan_settings(28, 1), pictures(side=28))
    first, inner, last = (
        module.weight.detach()
        for module in (training.generator.main[0], training.critic.main[2], training.critic.main[-1])
    )
    assert abs(float(first.std()) - 0.02) < 2e-4
    # He et al. 2015 for a slope of 0.2: variance 2 / ((1 + 0.2^2) fan_in).
    for weight in (inner, last):
        assert float(weight.std()) == pytest.approx((2 / 1.04 / weight[0].numel()) ** 0.5, rel=0.05)
    assert not any(bias.any() for name, bias in training.critic.named_parameters() if name.endswith("bias"))


def test_pictures_of_floats_are_refused_instead_of_taken_for_black() -> None:
    with pytest.raises(ValueError, match=r"float32, expected torch\.uint8") as caught:
        Training(SMALL, pictures().float() / 255)
    assert_one_sentence(caught.value)


def test_rates_fall_over_the_last_half_and_the_critic_makes_its_steps() -> None:
    training = Training(replace(SMALL, averaging=0.05), pictures())
    shares = []
    for _ in range(SMALL.steps):
        before = {name: value.clone() for name, value in training.averaged.items()}
        training.advance()
        shares.append([optimiser.param_groups[0]["lr"] / 2e-4 for optimiser in training.optimisers.values()])
        for name, value in training.generator.named_parameters():
            expected = 0.05 * before[name] + 0.95 * value
            torch.testing.assert_close(training.averaged[name], expected, rtol=0, atol=1e-6)
    assert shares == [[pytest.approx(share)] * 2 for share in (1, 1, 1, 1, 2 / 3, 1 / 3)]
    steps = {
        name: {float(moments["step"]) for moments in optimiser.state_dict()["state"].values()}
        for name, optimiser in training.optimisers.items()
    }
    assert steps == {"generator": {6}, "critic": {12}}


def test_the_critic_mirrors_the_generator() -> None:
    critic = Critic((100, 512, 256, 128, 64, 3), 4)
    shapes = [tuple(module.weight.shape[:2]) for module in critic.modules() if isinstance(module, nn.Conv2d)]
    assert shapes == [(64, 3), (128, 64), (256, 128), (512, 256), (1, 512)]
    assert critic(torch.rand(2, 3, 64, 64)).shape == (2,)


def test_training_comes_closer_to_the_pictures() -> None:
    """Pictures that are all one grey: after some steps the draws are nearer to it than at first."""
    grey = torch.full((4, 1, 12, 12), 51, dtype=torch.uint8)
    training = Training(replace(SMALL, steps=400, learning_rate=5e-3), grey)

    def error() -> float:
        generator = build(training.blueprint())
        with torch.no_grad():
            images = generator(generator.sample_latents(50, generator=stream(1, "test")))
        return float((images - 0.2).square().mean())

    before = error()
    for _ in range(150):
        training.advance()
    assert error() < 0.2 * before


def test_norms_of_the_averaged_generator_are_those_of_its_own_draws() -> None:
    training = Training(SMALL, pictures())
    for _ in range(3):
        training.advance()
    generator = build(training.blueprint())
    assert isinstance(generator, DCGAN)
    latents = generator.sample_latents(20000, generator=stream(5, "test"))
    with torch.no_grad():
        features = generator.main[0](latents[:, :, None, None])
    norm = generator.main[1]
    torch.testing.assert_close(norm.running_mean, features.mean((0, 2, 3)), rtol=0, atol=0.05 * float(features.std()))
    torch.testing.assert_close(norm.running_var, features.var((0, 2, 3)), rtol=0.1, atol=0)


def test_a_seed_says_everything_and_the_global_generators_nothing() -> None:
    runs = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        training = Training(SMALL, pictures())
        training.advance()
        assert torch.equal(torch.get_rng_state(), before)
        runs.append(state_of(training))
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())
    other = Training(replace(SMALL, seed=1), pictures())
    assert not torch.equal(other.generator.main[0].weight, Training(SMALL, pictures()).generator.main[0].weight)


# Checkpoints


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = Training(SMALL, pictures())
    history = [whole.advance() for _ in range(6)]
    first = Training(SMALL, pictures())
    losses = [first.advance() for _ in range(2)]
    save_checkpoint(tmp_path / "c.safetensors", first, losses)
    second, losses = load_checkpoint(tmp_path / "c.safetensors", SMALL, pictures())
    assert second.step == 2
    losses += [second.advance() for _ in range(4)]
    assert losses == history
    expected = state_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(second).items())


BAD_CHECKPOINTS = {
    "other settings": (lambda content: content, replace(SMALL, batch=5), 10, "whose batch is 4, not 5"),
    "other pictures": (lambda content: content, SMALL, 9, "other pictures"),
    "truncated": (lambda content: content[:-20], SMALL, 10, "damaged"),
    "no checkpoint at all": (lambda content: b"PK", SMALL, 10, "damaged"),
}


@pytest.mark.parametrize("case", BAD_CHECKPOINTS)
def test_a_checkpoint_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    spoil, settings, count, expected = BAD_CHECKPOINTS[case]
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, Training(SMALL, pictures()), [])
    path.write_bytes(spoil(path.read_bytes()))
    content = path.read_bytes()
    with pytest.raises(ValueError, match=expected) as caught:
        load_checkpoint(path, settings, pictures(count))
    assert_one_sentence(caught.value)
    assert path.read_bytes() == content


def without(tensors: dict[str, Tensor], names: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if names not in name}


WRONG_CHECKPOINTS = {
    "settings that are no table": (lambda t: t, {"settings": "[1]"}),
    "settings cut short": (lambda t: t, {"settings": "{"}),
    "a step that is no number": (lambda t: t, {"step": "x"}),
    "another step than the losses": (lambda t: t, {"step": "1"}),
    "no losses": (lambda t: without(t, "history"), {}),
    "losses of one column": (lambda t: t | {"history": torch.zeros(2, 1)}, {}),
    "no moments": (lambda t: without(t, "critic-optimiser/0/exp_avg_sq"), {}),
    "moments of another shape": (lambda t: t | {"generator-optimiser/0/exp_avg": torch.zeros(1)}, {}),
    "an average of another shape": (lambda t: t | {"averaged/main.0.weight": torch.zeros(1)}, {}),
    "no critic": (lambda t: without(t, "critic/main.0.bias"), {}),
}


@pytest.mark.parametrize("case", WRONG_CHECKPOINTS)
def test_a_checkpoint_that_lacks_something_is_damaged(case: str, tmp_path: Path) -> None:
    spoil, changes = WRONG_CHECKPOINTS[case]
    path, training = tmp_path / "c.safetensors", Training(SMALL, pictures())
    save_checkpoint(path, training, [training.advance(), training.advance()])
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(spoil(load_file(path)), path, metadata=metadata | changes)
    with pytest.raises(ValueError, match="is damaged") as caught:
        load_checkpoint(path, SMALL, pictures())
    assert_one_sentence(caught.value)


# Data


def write_idx(path: Path, images: Tensor, compress: bool = False) -> None:
    header = np.array([0x803, len(images), *images.shape[-2:]], ">u4").tobytes()
    content = header + images.numpy().tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)


@pytest.mark.parametrize("compress", [False, True])
def test_mnist_files_are_read(compress: bool, tmp_path: Path) -> None:
    images = pictures(7, 28)
    name = "train-images-idx3-ubyte" + (".gz" if compress else "")
    write_idx(tmp_path / name, images, compress)
    assert torch.equal(read_mnist(tmp_path, "train"), images)
    assert torch.equal(read_dataset(f"mnist:{tmp_path}", 28), images)
    bordered = read_dataset(f"mnist:{tmp_path}", 32)
    assert bordered.shape == (7, 1, 32, 32)
    assert torch.equal(bordered[:, :, 2:30, 2:30], images)
    assert int(bordered.sum()) == int(images.sum())


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: c[:7], lambda c: b"\0" * 30, lambda c: c + b"x", lambda c: b""]
)
def test_damaged_mnist_files_are_refused(spoil: object, tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(path, pictures(7, 28))
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match="not a whole IDX file") as caught:
        read_dataset(f"mnist:{tmp_path}", 28)
    assert_one_sentence(caught.value)


def test_fashion_mnist_is_read_without_its_empty_rows(tmp_path: Path) -> None:
    images = pictures(30, 28).unflatten(0, (10, 3))
    for number, rows in enumerate(images):
        data = [row.flatten().tolist() for row in rows] + [[]] * (2 if number == 0 else 0)
        (tmp_path / f"{number}.json").write_text(json.dumps({"data": data}))
    assert torch.equal(read_dataset(f"fashion-mnist:{tmp_path}", 28), images.flatten(0, 1))
    for spoiled in ("{", '{"data": [[1, 2]]}', f'{{"data": [{[256] * 784}]}}', "[]", '{"data": 3}'):
        (tmp_path / "9.json").write_text(spoiled)
        with pytest.raises(ValueError, match="not a whole file of images") as caught:
            read_dataset(f"fashion-mnist:{tmp_path}", 28)
        assert_one_sentence(caught.value)
    (tmp_path / "9.json").unlink()
    with pytest.raises(ValueError, match=r"there is no 9\.json"):
        read_dataset(f"fashion-mnist:{tmp_path}", 28)


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: c[:60] + b"\xff" * 9 + c[69:], lambda c: b"no gzip"])
def test_damaged_gzip_files_are_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(path, pictures(7, 28), compress=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="could not be read") as caught:
        read_dataset(f"mnist:{tmp_path}", 28)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(("size", "most"), [(28, 7 * 28**2 - 1), (32, 7 * 28**2)])
@pytest.mark.parametrize("compress", [False, True])
def test_too_many_images_are_refused(
    compress: bool, size: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / ("train-images-idx3-ubyte" + (".gz" if compress else "")), pictures(7, 28), compress)
    monkeypatch.setattr(datasets, "MOST_BYTES", most)
    with pytest.raises(ValueError, match="GiB of memory") as caught:
        read_dataset(f"mnist:{tmp_path}", size)
    assert_one_sentence(caught.value)


def test_a_folder_of_pictures_is_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name, level in (("b.png", 200), ("a.jpg", 100), ("more/c.png", 50)):
        Image.new("RGB", (20, 16), (level, level, level)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    seen: list[tuple[int, int]] = []
    read = read_dataset(str(tmp_path), 8, lambda count, total: seen.append((count, total)))
    assert read.shape == (3, 3, 8, 8)
    assert read.dtype == torch.uint8
    assert read.float().mean((1, 2, 3)).round().tolist() == [100, 200, 50]
    assert seen == [(1, 3), (2, 3), (3, 3)]


# The command


def arguments(tmp_path: Path, **changes: str) -> list[str]:
    options = {
        "--data": f"mnist:{tmp_path}",
        "--size": "28",
        "--name": "tiny-digits",
        "--latents": "4",
        "--width": "2",
        "--steps": "12",
        "--batch": "4",
        "--critic-steps": "1",
        "--every": "3",
        "--out": str(tmp_path / "run"),
    } | changes
    return ["train", *(part for pair in options.items() for part in pair)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))
    write_idx(tmp_path / "train-images-idx3-ubyte", pictures(20, 28))
    return tmp_path / "home"


def test_train_ends_with_a_generator_that_recovers(home: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, arguments(tmp_path))
    assert result.exit_code == 0, result.output
    generator = load_generator("tiny-digits")
    assert generator.image_shape == (1, 28, 28)
    with Image.open(tmp_path / "run" / SAMPLES_FILE) as sheet:
        assert sheet.width > 8 * 28
    lines = (tmp_path / "run" / LOSSES_FILE).read_text().splitlines()
    assert len(lines) == 13
    assert lines[0] == "step,distance,penalty"
    assert "tiny-digits" in CliRunner().invoke(main, ["generators"]).output
    again = CliRunner().invoke(main, arguments(tmp_path))
    assert again.exit_code == 2
    assert "tiny-digits" in again.output


def test_training_killed_at_any_moment_ends_with_the_same_numbers(home: Path, tmp_path: Path) -> None:
    whole = CliRunner().invoke(main, arguments(tmp_path, **{"--name": "whole", "--out": str(tmp_path / "whole")}))
    assert whole.exit_code == 0, whole.output
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from cs_lip.cli.main import main; main()", *arguments(tmp_path)]
    # Killed before the first step, then between the losses of a checkpoint and the checkpoint.
    for awaited in (CHECKPOINT_FILE, LOSSES_FILE):
        path = tmp_path / "run" / awaited
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not path.exists() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, other = (load_file(tmp_path / folder / CHECKPOINT_FILE) for folder in ("whole", "run"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    entries = user_generators().entries
    first, second = (load_file(entries[name].path) for name in ("whole", "tiny-digits"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_ctrl_c_ends_after_a_whole_step(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CliRunner().invoke(main, arguments(tmp_path, **{"--name": "whole", "--out": str(tmp_path / "whole")}))
    assert whole.exit_code == 0, whole.output
    improve = Training._improve_generator

    def interrupted(training: Training, rng: torch.Generator) -> None:
        if training.step == 4:
            signal.raise_signal(signal.SIGINT)
        improve(training, rng)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_improve_generator", interrupted)
        stopped = CliRunner().invoke(main, arguments(tmp_path))
    assert stopped.exit_code == 130, stopped.output
    assert "Stopped at step 5 of 12" in stopped.output
    assert signal.getsignal(signal.SIGINT) is before
    done = CliRunner().invoke(main, arguments(tmp_path))
    assert "goes on from step 5" in done.output
    one, other = (load_file(tmp_path / folder / CHECKPOINT_FILE) for folder in ("whole", "run"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_training_that_diverges_keeps_its_last_checkpoint(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    improve = Training._improve_critic

    def diverging(training: Training, rng: torch.Generator) -> Losses:
        losses = improve(training, rng)
        return losses._replace(distance=float("nan")) if training.step == 4 else losses

    monkeypatch.setattr(Training, "_improve_critic", diverging)
    result = CliRunner().invoke(main, arguments(tmp_path))
    assert result.exit_code == 2
    assert "diverged at step 5" in result.output
    assert len(load_file(tmp_path / "run" / CHECKPOINT_FILE)["history"]) == 3
    assert not list(home.rglob("*.safetensors"))


BAD_COMMANDS = {
    "no such folder": ({"--data": "nowhere"}, "there is no folder nowhere"),
    "no MNIST there": ({"--data": "mnist:nowhere"}, "there is no train-images-idx3-ubyte"),
    "a bundled name": ({"--name": "digiface-dcgan"}, "digiface-dcgan"),
    "no steps": ({"--steps": "0"}, "the steps must be at least 1"),
    "a batch of one": ({"--batch": "1"}, "the batch must be at least 2"),
    "no latents": ({"--latents": "0"}, "the latents must be at least 1"),
    "no rate": ({"--learning-rate": "nan"}, "the learning rate must be"),
    "an average that never moves": ({"--averaging": "1"}, "the averaging must be from 0 to 0.99999"),
    "a network beyond all memory": ({"--width": "1000000000000"}, "more memory than is free"),
    "latents beyond this memory": ({"--latents": "1000000000000"}, "more memory than is free"),
    "no checkpoints": ({"--every": "0"}, "every 1 or more steps"),
    "images that are too large": ({"--size": "12"}, "'12' is not one of"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_commands_are_refused_before_any_work(case: str, home: Path, tmp_path: Path) -> None:
    changes, expected = BAD_COMMANDS[case]
    result = CliRunner().invoke(main, arguments(tmp_path, **changes))
    assert result.exit_code == 2, result.output
    assert expected in result.output
    assert not (tmp_path / "run").exists()
    assert not home.exists() or not list(home.rglob("*.safetensors"))


def test_a_folder_with_other_work_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years")
    result = CliRunner().invoke(main, arguments(tmp_path))
    assert result.exit_code == 2
    assert "thesis.tex" in result.output
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
    other = CliRunner().invoke(main, arguments(tmp_path, **{"--out": str(tmp_path / "fine"), "--steps": "3"}))
    assert other.exit_code == 0, other.output
    changed = arguments(tmp_path, **{"--out": str(tmp_path / "fine"), "--steps": "5", "--name": "more"})
    assert "whose steps is 3, not 5" in CliRunner().invoke(main, changed).output


def test_settings_of_every_size_draw_that_size() -> None:
    for size in (28, 32, 64, 128):
        settings = dcgan_settings(size, 3, latents=7, width=2)
        with torch.device("meta"):
            assert DCGAN(settings.widths, first=settings.first).image_shape == (3, size, size)


def test_a_run_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file") as caught:
        open_run(tmp_path / "file", SMALL, pictures())
    assert_one_sentence(caught.value)
