"""Where results go is looked at before anything is computed, and what is said of it can be typed again."""

import shlex
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import assert_one_sentence
from torchvision.utils import save_image

from cs_lip.cli import recover, restore
from cs_lip.cli.inputs import claim_folder
from cs_lip.cli.main import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def assert_refused(result: Result, says: str) -> None:
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert_one_sentence(result.stderr.removeprefix("Error: ").strip())


COMMANDS = {
    "recover": ("recover", "-m", "500"),
    "restore": ("restore", "camera", "--task=denoise", "--simulate"),
    "measure": ("measure", "-m", "500"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_below_a_file_nothing_can_be_written(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: object, **__: object) -> None:
        raise AssertionError("it computed first")

    monkeypatch.setattr(recover, "recover_images", computed)
    monkeypatch.setattr(restore, "recover_images", computed)
    (tmp_path / "file").write_text("in the way")
    refused = run(*COMMANDS[command], "--out", tmp_path / "file" / "below" / "it")
    assert_refused(refused, f"{tmp_path / 'file'} is a file, expected a folder for 'it'")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    "command",
    [
        COMMANDS["measure"],
        ("generators", "inspect", "mnist-dcgan-28"),
        ("tickets", "import", "masks.pt", "--prior", "skip"),
    ],
)
def test_a_folder_is_no_file_and_an_existing_file_stays(command: tuple[str, ...], tmp_path: Path) -> None:
    for also in ((), ("--overwrite",)):
        assert_refused(run(*command, "--out", tmp_path, *also), f"{tmp_path} is a folder, expected a file; try a name")
    (tmp_path / "mine").write_text("mine")
    assert_refused(run(*command, "--out", tmp_path / "mine"), "mine exists already, nothing was written; try another")
    assert_refused(run(*command, "--overwrite", "--out", tmp_path / "mine" / "x"), "mine is a file, expected a folder")
    assert (tmp_path / "mine").read_text() == "mine"


def test_noise_that_no_recovery_takes_is_not_measured(tmp_path: Path) -> None:
    out = tmp_path / "y.h5"
    assert_refused(run(*COMMANDS["measure"], "--noise", "1e300", "--out", out), "at most 1e+12")
    assert not out.exists()


def test_the_command_that_measure_tells_recovers(tmp_path: Path) -> None:
    out = tmp_path / "my measurements" / "y ü.h5"
    told = run("measure", "-m", "60", "--generator", "mnist-dcgan-28", "--out", out)
    assert told.exit_code == 0, told.output
    program, *command = shlex.split(told.stdout.strip().partition("recover with: ")[2])
    assert program == "cs-lip"
    recovered = run(*command, "--solver=lasso-dct", "--out", tmp_path / "run")
    assert recovered.exit_code == 0, recovered.output


def test_two_commands_at_once_take_two_folders_and_leave_none_that_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with click.Context(click.Command("one")):
        first = claim_folder(None, False, "recovery")
        with click.Context(click.Command("other")):
            second = claim_folder(None, False, "recovery")
            assert (first, second) == (Path("recovery"), Path("recovery-2"))
        assert not second.exists()
        (first / "recovery.h5").write_bytes(b"")
    assert first.exists()
    with click.Context(click.Command("third")):
        asked = claim_folder(Path("a/b"), False, "recovery")
        assert asked.is_dir()
    assert not asked.exists()


def test_links_to_nothing_and_names_that_are_no_text_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dangling").symlink_to("/nonexistent/scratch")
    restoring = ("restore", "camera", "--task", "denoise", "--simulate", "--size", "48", "--prior", "deep-decoder")
    assert_refused(run(*restoring, "--out", "dangling"), "is a link to nothing")
    assert_refused(run("restore", "caf\udce9.png", "--task", "denoise"), r"the name caf\xe9.png is not UTF-8")
    assert_refused(run("recover", "--from", "caf\udce9.h5"), r"the name caf\xe9.h5 is not UTF-8")
    assert_refused(run("measure", "-m", "20", "--out", f"{300 * 'a'}.h5"), "name too long")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling"]


def test_pictures_named_with_dollars_are_drawn_and_a_failure_leaves_nothing_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(torch.zeros(1, 28, 28), "$a_$.png")
    asked = ("-m", "60", "--generator", "mnist-dcgan-28", "--solver", "omp", "--image", "$a_$.png")
    recovering = ("recover", *asked, "--out", "found")
    done = run(*recovering)
    assert done.exit_code == 0, done.output
    assert "exact" in done.output  # no atom is needed for black
    assert {path.name for path in Path("found").iterdir()} == {"recovery.h5", "recovery.png", "summary.json"}

    def broken(*_: object) -> None:
        raise ValueError("no figure; try another")

    monkeypatch.setattr(recover, "save_recovery_figure", broken)
    assert_refused(run(*recovering, "--overwrite"), "no figure")
    assert {path.name for path in Path("found").iterdir()} == {"recovery.h5"}


def test_a_training_is_not_kept_among_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))
    save_image(torch.zeros(3, 32, 32), "a.png")
    assert_refused(run("train", "--data", ".", "--size", "32", "--name", "mine"), "among the pictures")
    assert not Path("training-mine").exists()
