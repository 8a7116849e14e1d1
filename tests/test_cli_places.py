"""Where results go is looked at before anything is computed, and what is said of it can be typed again."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import assert_one_sentence

from cs_lip.cli import recover, restore
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


def test_a_folder_is_no_file_of_measurements(tmp_path: Path) -> None:
    for also in ((), ("--overwrite",)):
        assert_refused(run(*COMMANDS["measure"], "--out", tmp_path, *also), f"{tmp_path} is a folder, expected a file")


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
