"""`cs-lip restore` as a user types it."""

import json
import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import cs_lip.cli.restore
from cs_lip.cli.interrupt import interruptible
from cs_lip.cli.main import main
from cs_lip.cli.progress import ProgressBar
from cs_lip.evaluation.oracle import Peak
from cs_lip.evaluation.store import load_run, save_run, summary_json
from cs_lip.evaluation.sweep.methods import PRIORS
from cs_lip.operators import operator_from_recipe
from cs_lip.recovery import Record

FILES = {"restored.png", "recovery.png", "recovery.h5", "summary.json"}
SMALL = ("--prior", "deep-decoder", "--iterations", "8", "--stop", "last")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def restore(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["restore", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def restored(*arguments: str) -> dict[str, object]:
    result = restore(*arguments, "--json")
    assert result.exit_code == 0, result.output
    summary: dict[str, object] = json.loads(result.stdout)
    return summary


def saved(path: str, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> str:
    """A smooth picture file of width and height ``size``."""
    x, y = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 5, size[1]))
    waves = [127 + 120 * np.sin(x + shift) * np.cos(y) for shift in (0, 1, 2)]
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).convert(mode).save(path)
    return path


def masked(path: str, size: tuple[int, int] = (48, 40), box: tuple[int, int, int, int] = (10, 10, 20, 25)) -> str:
    mask = Image.new("L", size, 255)
    mask.paste(0, box)
    mask.save(path)
    return path


def refused(here: Path, *arguments: str, says: str) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    result = restore(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and says in last and len(last) < 500, last
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


TASKS = {
    "denoise": (["--task", "denoise"], "identity"),
    "inpaint": (["--task", "inpaint", "--fraction", "0.6"], "mask"),
    "super-resolve": (["--task", "super-resolve", "--factor", "2"], "downsample"),
    "sense": (["--task", "sense", "--measurements", "300"], "gaussian"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_damage_that_is_simulated(task: str, here: Path) -> None:
    options, kind = TASKS[task]
    summary = restored("camera", *options, "--simulate", "--size", "40", *SMALL, "--out", "run")
    assert {path.name for path in (here / "run").iterdir()} == FILES
    run = load_run(here / "run" / "recovery.h5")
    assert run.measurements.recipe["kind"] == kind and run.config["operator"] == kind
    assert run.truth is not None and run.truth.shape == run.recovery.images.shape == (1, 1, 40, 40)
    assert json.loads((here / "run" / "summary.json").read_text()) == summary
    shown = CliRunner().invoke(main, ["show", "run", "--json"])
    assert shown.exit_code == 0 and json.loads(shown.stdout) == summary
    row, peak = summary["images"][0], summary["oracle_peak"]
    assert row["psnr_db"] <= peak["psnr_db"] + 1e-6 and 1 <= peak["iteration"] <= 8
    assert row["note"]["stop"] == "last" and row["note"]["iteration"] == 8
    picture = np.asarray(Image.open(here / "run" / "restored.png"))
    np.testing.assert_allclose(picture / 255, run.recovery.images[0, 0].numpy(), atol=0.51 / 255)
    measured = operator_from_recipe(run.measurements.recipe)(run.truth)
    noise = (run.measurements.values - measured).std()
    assert float(noise) == pytest.approx(25 / 255 if task == "denoise" else 0, rel=0.1, abs=1e-6)


def test_an_exact_oracle_peak_is_stored_as_strict_json(here: Path) -> None:
    restored("camera", *TASKS["denoise"][0], "--simulate", "--size", "40", *SMALL, "--out", "run")
    path = here / "run" / "recovery.h5"
    exact = replace(load_run(path), oracle_peak=Peak(math.inf, 3))
    save_run(path, exact)
    assert load_run(path).oracle_peak == exact.oracle_peak
    assert json.loads(summary_json(exact))["oracle_peak"] == {"psnr_db": None, "iteration": 3}


def test_a_noisy_picture_keeps_its_size_and_its_pixels(here: Path) -> None:
    saved("noisy.png")
    summary = restored("noisy.png", "--task", "denoise", *SMALL, "--noise", "0.1", "--out", "run")
    run = load_run(here / "run" / "recovery.h5")
    assert run.truth is None and "oracle_peak" not in summary and summary["images"][0]["psnr_db"] is None
    pixels = torch.from_numpy(np.asarray(Image.open("noisy.png"), dtype=np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(run.measurements.values[0], pixels, rtol=0, atol=1e-6)
    assert run.measurements.noise == 0.1
    assert Image.open("run/restored.png").size == (48, 40)


@pytest.mark.parametrize("size", [None, 24])
def test_a_mask_says_which_pixels_are_missing(size: int | None, here: Path) -> None:
    saved("torn.png", mode="L"), masked("mask.png")
    extra = [] if size is None else ["--size", str(size)]
    options = ("--mask", "mask.png", *SMALL[2:], *extra, "--prior", "conv-decoder", "--out", "run")
    summary = restored("torn.png", "--task", "inpaint", *options)
    mask = operator_from_recipe(summary["config"]["operator_recipe"]).mask
    assert mask.shape == ((1, 40, 48) if size is None else (1, 20, 24))
    assert not (mask[0, 10:25, 10:20] if size is None else mask[0, 5:12, 5:10]).any()
    assert int((~mask).sum()) == 150 if size is None else 5 * 7 <= int((~mask).sum()) <= 7 * 9


def test_a_small_picture_grows(here: Path) -> None:
    saved("small.png", (24, 20))
    restored("small.png", "--task", "super-resolve", "--factor", "2", *SMALL, "--out", "run")
    assert Image.open("run/restored.png").size == (48, 40)


def test_an_upright_photograph(here: Path) -> None:
    saved("turned.png", (48, 40))
    image, exif = Image.open("turned.png"), Image.Exif()
    exif[0x0112] = 6
    image.save("turned.jpg", exif=exif)
    restored("turned.jpg", "--task", "denoise", *SMALL, "--out", "run")
    assert Image.open("run/restored.png").size == (40, 48)


def test_what_is_printed(here: Path) -> None:
    result = restore("camera", "--task", "denoise", "--simulate", "--size", "40", *SMALL)
    assert result.exit_code == 0 and (here / "restored" / "restored.png").is_file()
    assert "Iteration 8 of 8 was chosen by last (the best by the truth: " in result.stdout
    again = restore("camera", "--task", "denoise", "--simulate", "--size", "40", *SMALL)
    assert "restored-2" in again.stdout.replace("\n", "")
    shown = CliRunner().invoke(main, ["show", "restored"])
    assert shown.exit_code == 0 and "none (untrained deep-decoder), solver untrained, seed 0" in shown.stdout
    assert "UntrainedFit" not in result.stdout + shown.stdout


def test_the_same_seed_gives_the_same_files(here: Path) -> None:
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        restored("camera", "--task", "denoise", "--simulate", "--size", "40", *SMALL, "--seed", seed, "--out", folder)
    one, same, other = (Path(folder, "restored.png").read_bytes() for folder in "abc")
    assert one == same != other


def test_overwriting_an_earlier_run_and_nothing_else(here: Path) -> None:
    common = ("camera", "--task", "denoise", "--simulate", "--size", "40", *SMALL, "--out", "run")
    restored(*common)
    refused(here, *common, says="holds an earlier run")
    restored(*common, "--overwrite")
    (here / "run" / "notes.txt").write_text("mine")
    refused(here, *common, "--overwrite", says="holds other work (notes.txt)")


def test_the_first_interrupt_asks_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as cancel:
        assert not cancel()
        os.kill(os.getpid(), signal.SIGINT)
        assert cancel()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_writes_the_best_so_far(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(bar: ProgressBar, record: Record) -> None:
        if record.iteration == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "update", press)
    options = ("--simulate", "--size", "40", "--prior", "deep-decoder", "--out", "run")
    result = restore("camera", "--task", "denoise", *options)
    assert result.exit_code == 130
    assert "interrupted" in result.stdout and "Interrupted: what was found so far is kept" in result.stderr
    assert {path.name for path in (here / "run").iterdir()} == FILES
    summary = json.loads(Path("run/summary.json").read_text())
    row = summary["images"][0]
    assert row["status"] == "interrupted" and row["note"]["iterations"] == 3


def test_too_large_a_picture_is_told_how_large_it_may_be(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("large.png", (400, 300))
    monkeypatch.setattr(cs_lip.cli.restore, "free_bytes", lambda device: 200 * 2**20)
    refused(here, "large.png", "--task", "denoise", says="pixels a side; try --size 1")
    refused(here, "camera", "--task", "sense", "-m", "5000", "--size", "512", says="GiB of memory")
    summary = restored("large.png", "--task", "denoise", "--size", "60", *SMALL)
    assert summary["config"]["size"] == 60


BAD = {
    "unknown picture": (["nowhere"], "there is no bundled picture 'nowhere'"),
    "no such file": (["nowhere.png"], "there is no picture nowhere.png"),
    "unknown prior": (["camera", "--prior", "resnet"], "there is no prior 'resnet'"),
    "mask to denoise": (["camera", "--mask", "m.png"], "--mask goes with --task inpaint"),
    "factor to denoise": (["camera", "--factor", "2"], "--factor goes with --task super-resolve"),
    "measurements to denoise": (["camera", "-m", "5"], "--measurements goes with --task sense"),
    "operator to denoise": (["camera", "--operator", "gaussian"], "--operator goes with --task sense"),
    "no measurements": (["camera", "--task", "sense"], "needs a number of --measurements"),
    "too many measurements": (["camera", "--task", "sense", "-m", "9999", "--size", "40"], "number of measurements m"),
    "too many to hold": (["camera", "--task", "sense", "-m", "99999999"], "number of measurements m"),
    "few to hold out": (
        ["camera", "--task", "sense", "-m", "15", "--size", "40", "--stop", "held-out", "--prior", "deep-decoder"],
        "splits 15 measurements into 7 and 8, expected at least 10",
    ),
    "no mask": (["camera", "--task", "inpaint"], "needs a --mask"),
    "fraction of a mask": (["camera", "--task", "inpaint", "--fraction", "0.5"], "--fraction needs --simulate"),
    "fraction": (["camera", "--task", "inpaint", "--simulate", "--fraction", "2", "--size", "40"], "at most 1, got 2"),
    "keeps nothing": (
        ["camera", "--task", "inpaint", "--simulate", "--fraction", "0"],
        "must be above 0 and at most 1",
    ),
    "keeps nothing by chance": (
        ["camera", "--task", "inpaint", "--simulate", "--fraction", "1e-9", "--size", "40"],
        "kept none of 40x40 pixels, expected at least one; try a larger --fraction",
    ),
    "no factor": (["camera", "--task", "super-resolve", "--factor", "1"], "--factor must be a whole number from 2"),
    "factor too large": (
        ["camera", "--task", "super-resolve", "--simulate", "--size", "40", "--factor", "99"],
        "cannot be shrunk 99 times",
    ),
    "no size": (["camera", "--size", "0"], "--size must be at least 1"),
    "too small": (["camera", "--size", "20"], "20x20 pixels leave"),
    "no iterations": (["camera", "--iterations", "0"], "iterations must be a whole number from 1"),
    "negative noise": (["camera", "--simulate", "--size", "40", "--noise", "-1"], "noise must be"),
    "discrepancy without noise": (["camera", "--size", "40", "--stop", "discrepancy"], "needs the noise"),
    "no device": (["camera", "--device", "abacus"], "the device 'abacus' is not available"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence(case: str, here: Path) -> None:
    options, says = BAD[case]
    task = [] if "--task" in options else ["--task", "denoise"]
    refused(here, *options, *task, says=says)


def test_a_bundled_picture_whose_package_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refused(here, "ct", "--task", "denoise", says="lies in pydicom, which is not installed")


@pytest.mark.parametrize("prior", PRIORS)
def test_every_untrained_network_of_a_sweep_can_restore(prior: str, here: Path) -> None:
    options = ("--simulate", "--size", "64", "--iterations", "1", "--stop", "last", "--prior", prior)
    restored("camera", "--task", "denoise", *options)
    assert load_run(here / "restored" / "recovery.h5").config["prior"] == prior


def test_bad_files_are_refused_in_one_sentence(here: Path) -> None:
    saved("a.png"), masked("other.png", (30, 40)), masked("black.png", box=(0, 0, 48, 40))
    Path("text.png").write_text("no picture")
    inpaint = ("a.png", "--task", "inpaint", "--mask")
    refused(here, *inpaint, "other.png", says="has 40x30 pixels and the picture 40x48")
    small = ("--size", "24", "--prior", "conv-decoder")
    for extra in ((), small):
        refused(here, *inpaint, "black.png", *extra, says="keeps no pixel, expected white")
    striped = np.full((40, 48), 255, dtype=np.uint8)
    striped[:, ::2] = 0
    Image.fromarray(striped).save("striped.png")
    refused(here, *inpaint, "striped.png", *small, says="shrunk to 20x24")
    refused(here, *inpaint, "striped.png", *small, says="try a larger --size")
    refused(here, *inpaint, "text.png", says="not a picture in a format that is read")
    refused(here, "text.png", "--task", "denoise", says="not a picture in a format that is read")
    refused(here, "a.png", "--task", "denoise", "--out", "text.png", says="is a file, expected a folder")
