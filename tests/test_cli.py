"""The commands as a user types them: what they write, what they print, and what they say to bad input."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file

from cs_lip.cli.main import main
from cs_lip.cli.recovering import dense_generator
from cs_lip.evaluation.acquisition import acquire
from cs_lip.evaluation.measured_spectrum import run_spectra
from cs_lip.evaluation.run import Measurements
from cs_lip.evaluation.store import load_measurements, load_run, save_measurements
from cs_lip.operators import Gaussian, LinearOperator, check_response, operator_from_recipe
from cs_lip.priors import DCGAN, DEFAULT_GENERATOR, add_generator, find_entry, load_generator
from cs_lip.priors.catalogue import pretrained_folder
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.report.commands import run_command
from cs_lip.seeding import stream

SIDE = 32
SEARCH = ["--solver", "latent-search"]
"""The default goes on from there, which takes its time and is told in tests/test_auto.py."""

QUICK = ["--measurements", "64", "--restarts", "2", *SEARCH]
QUICKER = ["--measurements", "64", "--restarts", "1", "--image", "camera", *SEARCH]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weight file of an untrained generator of 32x32 images from 8 latents: quick to recover from."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = DCGAN((8, 16, 16, 8, 3)).state_dict()
    # untrained weights draw grey: louder ones give pictures with something in them
    loud = {name: value * 6 if value.dim() == 4 else value for name, value in state.items()}
    save_file({name: value for name, value in loud.items() if "num_batches" not in name}, path)
    return str(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, even where the tests run as a job in the background, which ignores it as its children do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_refused(here: Path, *arguments: str, says: str) -> None:
    """Exit code 2, one sentence that names the trouble and a way out, and not a byte changed on the disk."""
    before = files_in(here)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: "), result.stderr
    assert says in last
    assert "Traceback" not in result.stderr
    assert files_in(here) == before


def save_picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 40)) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        picture = picture.convert(mode)
    picture.save(path)
    return str(path)


# --- what it does -----------------------------------------------------------------------------------------------------


def test_recover_writes_a_run_that_can_be_shown_again(here: Path, tiny: str) -> None:
    result = run("recover", *QUICK, "--generator", tiny, "--out", "run")
    assert result.exit_code == 0, result.output
    assert "run/recovery.png" in result.stdout

    summary = json.loads((here / "run/summary.json").read_text())
    assert set(summary) == {"config", "versions", "images"}
    sources = [row["source"] for row in summary["images"]]
    assert "in-range" in sources
    assert "photograph" in sources
    assert "astronaut" in " ".join(row["name"] for row in summary["images"])
    for row in summary["images"]:
        assert set(row) == {
            "name",
            "source",
            "psnr_db",
            "ssim",
            "mse",
            "relative_residual",
            "status",
            "solver",
            "seconds",
            "note",
        }
        if row["source"] == "in-range":
            assert row["status"] == "converged"
            assert row["mse"] < 1e-6
        else:
            assert row["status"] != "converged"
            assert row["mse"] > 1e-3

    with Image.open(here / "run/recovery.png") as picture:
        assert picture.size[0] > 400

    shown = run("show", "run")
    assert shown.exit_code == 0
    for row in summary["images"]:
        assert row["name"] in shown.stdout
    assert json.loads(run("show", "run", "--json").stdout) == summary


def test_a_stored_run_rebuilds_its_operator_and_its_image(here: Path, tiny: str) -> None:
    assert run("recover", *QUICK, "--generator", tiny, "--out", "run").exit_code == 0
    stored = load_run(here / "run/recovery.h5")
    operator = operator_from_recipe(stored.measurements.recipe)
    assert check_response(operator, stored.measurements.response, "recovery.h5")
    assert stored.truth is not None
    assert torch.equal(operator(stored.truth), stored.measurements.values)
    residual = (operator(stored.recovery.images) - stored.measurements.values).norm(dim=1)
    relative = residual / stored.measurements.values.norm(dim=1)
    assert torch.allclose(relative, torch.tensor(stored.recovery.relative_residual), atol=1e-5)
    assert stored.recovery.history[0].iteration == 1
    assert stored.config["solver"] == "latent-search"
    assert "torch" in stored.versions


def test_json_prints_the_summary_and_nothing_else(here: Path, tiny: str) -> None:
    result = run("recover", *QUICKER, "--generator", tiny, "--json")
    assert json.loads(result.stdout) == json.loads((here / "recovery/summary.json").read_text())


def test_same_seed_same_numbers_other_seed_others(here: Path, tiny: str) -> None:
    def stored(seed: str, out: str) -> tuple[torch.Tensor, torch.Tensor]:
        arguments = [*QUICKER, "--noise", "0.01", "--generator", tiny, "--seed", seed, "--out", out]
        assert run("recover", *arguments).exit_code == 0
        found = load_run(here / out / "recovery.h5")
        return found.measurements.values, found.recovery.latents

    first, again, other = stored("3", "a"), stored("3", "b"), stored("4", "c")
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.allclose(first[0], other[0])


def test_the_default_says_what_it_chose_and_why(here: Path, tiny: str) -> None:
    generator = load_generator(tiny)
    with torch.no_grad():
        pixels = generator(generator.sample_latents(1, generator=stream(1, "picture")))[0]
    Image.fromarray((255 * pixels).round().byte().movedim(0, 2).numpy()).save(here / "drawn.png")
    arguments = ["--measurements", "200", "--noise", "0.02", "--image", "drawn.png", "--generator", tiny]
    result = run("recover", *arguments, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["images"]
    assert (row["solver"], row["status"]) == ("latent-search", "converged")
    assert "down to the noise" in row["note"]["reason"]
    assert load_run(here / "recovery/recovery.h5").config["solver"] == "auto"
    assert "latent-search" in run("show", "recovery").stdout


@pytest.mark.parametrize("operator", ["gaussian", "fourier"])
def test_measure_then_recover_from_the_file(here: Path, tiny: str, operator: str) -> None:
    picture = save_picture(here / "face.png")
    arguments = ["--measurements", "64", "--operator", operator, "--noise", "0.02", "--generator", tiny]
    assert run("measure", *arguments, "--image", picture, "--out", "y.h5").exit_code == 0
    stored = load_measurements(here / "y.h5")
    assert stored.noise == 0.02
    assert stored.names == ("face.png",)
    assert stored.values.is_complex() == (operator == "fourier")

    result = run("recover", "--from", "y.h5", "--generator", tiny, *SEARCH, "--restarts", "1", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["images"]
    assert row["psnr_db"] is None
    assert row["mse"] is None
    assert row["source"] == "file"
    assert 0 < row["relative_residual"] < 1
    with Image.open(here / "recovery/recovery.png") as drawn:
        assert drawn.size[0] > 200


def test_recover_sees_the_same_measurements_as_measure(here: Path, tiny: str) -> None:
    arguments = ["--measurements", "64", "--noise", "0.1", "--generator", tiny, "--seed", "5"]
    assert run("measure", *arguments).exit_code == 0
    assert run("recover", *arguments, *SEARCH, "--restarts", "1").exit_code == 0
    kept = load_run(here / "recovery/recovery.h5").measurements
    assert torch.equal(load_measurements(here / "y.h5").values, kept.values)
    assert "noise 0.1 (SNR " in run("show", "recovery").stdout


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "RGBA", "L", "LA", "P", "1"])
def test_pictures_of_every_mode_work(here: Path, tiny: str, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    picture = save_picture(here / f"face.{suffix}", mode)
    result = run("measure", "--measurements", "64", "--generator", tiny, "--image", picture)
    assert result.exit_code == 0, result.output
    assert torch.isfinite(load_measurements(here / "y.h5").values).all()


@pytest.mark.parametrize("size", [(1, 1), (2500, 2000), (3, 900)])
def test_pictures_of_odd_sizes_work(here: Path, tiny: str, size: tuple[int, int]) -> None:
    picture = save_picture(here / "face.png", size=size)
    result = run("measure", "--measurements", "64", "--generator", tiny, "--image", picture)
    assert result.exit_code == 0, result.output


def test_without_out_an_earlier_run_is_never_touched(here: Path, tiny: str) -> None:
    arguments = ["recover", *QUICKER, "--generator", tiny]
    assert run(*arguments).exit_code == 0
    before = files_in(here / "recovery")
    assert run(*arguments).exit_code == 0
    assert files_in(here / "recovery") == before
    assert (here / "recovery-2/summary.json").is_file()


def test_overwrite_replaces_an_earlier_run(here: Path, tiny: str) -> None:
    arguments = ["recover", *QUICKER, "--generator", tiny, "--out", "run"]
    assert run(*arguments).exit_code == 0
    assert_refused(here, *arguments, says="holds an earlier run")
    (here / "run/report.html").write_text("the page of the earlier run")
    assert run(*arguments, "--overwrite", "--seed", "9").exit_code == 0
    assert json.loads((here / "run/summary.json").read_text())["config"]["seed"] == 9
    assert not (here / "run/report.html").exists()


def test_what_a_killed_write_left_is_no_other_work(here: Path, tiny: str) -> None:
    arguments = ["recover", *QUICKER, "--generator", tiny, "--out", "run"]
    (here / "run").mkdir()
    (here / "run/.recovery-abc.h5").write_bytes(b"half")
    assert run(*arguments).exit_code == 0
    assert run(*arguments, "--overwrite").exit_code == 0
    assert_refused(here, *arguments, says="holds an earlier run")


def test_other_weights_of_the_same_name_are_not_those_of_a_run(
    here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CS_LIP_HOME", str(here / "home"))
    add_generator(Path(tiny), "mine")
    assert run("recover", *QUICKER, "--generator", "mine", "--out", "run").exit_code == 0
    stored = load_run(here / "run/recovery.h5")
    assert stored.config["generator_sha256"] == find_entry("mine").sha256
    assert run_spectra(stored) is not None

    save_file({name: 2 * value for name, value in load_file(tiny).items()}, here / "louder.safetensors")
    add_generator(here / "louder.safetensors", "mine", overwrite=True)
    assert run_spectra(stored) is None
    before = {name: value for name, value in stored.config.items() if name != "generator_sha256"}
    assert run_spectra(replace(stored, config=before)) is not None  # older runs do not say


def test_a_run_says_which_weights_and_which_learned_start_it_had(
    here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CS_LIP_HOME", str(here / "home"))
    entry = find_entry(DEFAULT_GENERATOR)
    told = {"generator": entry.name, "generator_sha256": entry.sha256, "start_sha256": entry.start_sha256}
    assert dense_generator(None)[2] == told
    assert dense_generator(tiny)[2] == {"generator": tiny, "generator_sha256": sha256_of(Path(tiny))}


def test_a_run_with_uncertainty_is_made_again_with_it(here: Path, tiny: str) -> None:
    arguments = ["recover", *QUICKER, "--noise", "0.05", "--generator", tiny]
    assert run(*arguments, "--uncertainty", "--out", "with").exit_code == 0
    assert run(*arguments, "--out", "without").exit_code == 0
    found, plain = (load_run(here / out / "recovery.h5") for out in ("with", "without"))
    assert found.sd is not None
    assert plain.sd is None
    assert "--uncertainty" in run_command(found.config).split()
    assert "--uncertainty" not in run_command(plain.config).split()


def test_a_run_that_is_stopped_in_its_uncertainty_is_kept(
    here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cs_lip.cli.recover.estimate_uncertainty", stopped)
    halted = run("recover", *QUICKER, "--noise", "0.05", "--generator", tiny, "--uncertainty", "--out", "halted")
    assert halted.exit_code != 0
    kept = load_run(here / "halted" / "recovery.h5")
    assert kept.sd is None
    assert run("show", "halted").exit_code == 0


@pytest.mark.parametrize("option", [("--uncertainty", "--noise", "0.1"), ("--restarts", "3")])
def test_options_that_say_nothing_to_a_solver_are_refused(here: Path, tiny: str, option: tuple[str, ...]) -> None:
    for solver in ("tv", "linear-estimate"):
        refused = run("recover", "-m", "100", "--generator", tiny, "--solver", solver, *option)
        assert refused.exit_code == 2
        assert solver in refused.stderr and option[0] in refused.stderr
    assert not list(here.glob("recovery*"))


def test_generators_lists_both_terms() -> None:
    result = run("generators")
    assert result.exit_code == 0
    assert "digiface-dcgan" in result.stdout
    assert "MIT" in result.stdout
    assert "non-commercial" in result.stdout


@pytest.mark.parametrize("command", ["recover", "measure", "show", "generators"])
def test_help_has_an_example(command: str) -> None:
    assert f"cs-lip {command}" in run(command, "--help").stdout.split("Example")[1]


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["recover", "measure"])
@pytest.mark.parametrize("operator", ["gaussian", "fourier"])
@pytest.mark.parametrize("count", ["0", "-5", str(3 * SIDE * SIDE + 2)])
def test_impossible_numbers_of_measurements(here: Path, tiny: str, command: str, operator: str, count: str) -> None:
    arguments = [command, "--measurements", count, "--operator", operator, "--generator", tiny]
    assert_refused(here, *arguments, says=count)


def test_odd_number_of_fourier_measurements(here: Path, tiny: str) -> None:
    arguments = ["recover", "--measurements", "63", "--operator", "fourier", "--generator", tiny]
    assert_refused(here, *arguments, says="62")


def test_missing_measurements(here: Path, tiny: str) -> None:
    assert_refused(here, "recover", "--generator", tiny, says="--measurements 500")


def test_pictures_that_are_none(here: Path, tiny: str) -> None:
    (here / "note.png").write_text("not a picture")
    whole = Path(save_picture(here / "whole.png")).read_bytes()
    (here / "half.png").write_bytes(whole[: len(whole) // 2])
    for name in ("missing.png", "note.png", "half.png", str(here)):
        assert_refused(here, "recover", *QUICK, "--generator", tiny, "--image", name, says=name)


def test_measurement_files_that_are_none(here: Path, tiny: str) -> None:
    assert run("measure", "--measurements", "64", "--generator", tiny, "--out", "y.h5").exit_code == 0
    whole = (here / "y.h5").read_bytes()
    (here / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (here / "text.h5").write_text("not HDF5")
    with h5py.File(here / "other.h5", "w") as file:
        file["data"] = [1, 2, 3]
    for name, says in (
        ("missing.h5", "no file"),
        ("cut.h5", "cut.h5"),
        ("text.h5", "text.h5"),
        ("other.h5", "some other program"),
    ):
        assert_refused(here, "recover", "--from", name, "--generator", tiny, says=says)


def edited(here: Path, tiny: str, edit: str) -> str:
    """A file of measurements with one thing wrong."""
    assert run("measure", "--measurements", "64", "--generator", tiny, "--out", "y.h5").exit_code == 0
    with h5py.File(here / "y.h5", "r+") as file:
        if edit == "newer":
            file.attrs["format"] = 99
        elif edit == "kind":
            recipe = json.loads(file.attrs["operator"])
            file.attrs["operator"] = json.dumps(recipe | {"kind": "telepathy"})
        elif edit == "response":
            response = json.loads(file.attrs["operator_response"])
            file.attrs["operator_response"] = json.dumps(response | {"norm": 1.5 * response["norm"]})
        elif edit == "shape":
            del file["measurements"]
            file["measurements"] = np.zeros((5, 7), dtype=np.float32)
        elif edit == "missing":
            del file["names"]
        else:
            file["measurements"][0, 0] = {"nan": np.nan, "infinity": np.inf}[edit]
    return "y.h5"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("nan", "NaN"),
        ("infinity", "infinite"),
        ("newer", "format 99"),
        ("kind", "telepathy"),
        ("response", "y.h5 describes an operator that answers otherwise"),
        ("shape", "(5, 7)"),
        ("missing", "y.h5"),
    ],
)
def test_measurements_that_cannot_be_used(here: Path, tiny: str, edit: str, says: str) -> None:
    name = edited(here, tiny, edit)
    assert_refused(here, "recover", "--from", name, "--generator", tiny, says=says)


def test_measurements_of_before_the_operators_had_a_checksum(here: Path, tiny: str) -> None:
    assert run("measure", "--measurements", "64", "--generator", tiny, "--out", "y.h5").exit_code == 0
    with h5py.File("y.h5", "r+") as file:
        del file.attrs["operator_response"]
    assert load_measurements(here / "y.h5").response is None
    assert run("recover", *QUICK[2:], "--from", "y.h5", "--generator", tiny, "--out", "run").exit_code == 0
    assert load_run(here / "run/recovery.h5").measurements.response is None


def test_measurements_of_another_image_shape(here: Path, tiny: str) -> None:
    assert run("measure", "--measurements", "64", "--generator", tiny).exit_code == 0
    assert_refused(here, "recover", "--from", "y.h5", says="[3, 64, 64]")


def sensed(here: Path, operator: LinearOperator) -> None:
    """A file of measurements of one random image, with noise 0.02, as a sensor's owner writes it."""
    image = torch.rand(1, *operator.in_shape, generator=stream(0, "image"))
    values = acquire(operator, image, noise=0.02, seed=0)
    save_measurements(here / "y.h5", Measurements(values, operator.recipe(), 0.02, ("one",), ("sensor",)))


@pytest.mark.parametrize("solver", ["tv", "lasso-dct", "omp"])
def test_a_classical_solver_takes_measurements_of_images_that_no_generator_draws(here: Path, solver: str) -> None:
    sensed(here, Gaussian((1, 12, 20), 120, seed=1))
    result = run("recover", "--from", "y.h5", "--solver", solver)
    assert result.exit_code == 0, result.output
    stored = load_run(here / "recovery/recovery.h5")
    assert stored.recovery.images.shape == (1, 1, 12, 20)
    assert "generator" not in stored.config
    assert run_command(stored.config).startswith("cs-lip recover --from y.h5 --noise 0.02")
    assert "noise 0.02" in run("show", "recovery").stdout
    assert run("report", "recovery").exit_code == 0


def test_images_of_a_file_that_are_no_pictures_are_refused(here: Path) -> None:
    sensed(here, Gaussian((2, 8, 8), 64, seed=1))
    assert_refused(here, "recover", "--from", "y.h5", "--solver", "tv", says="1 or 3 channels")
    assert_refused(here, "recover", "--from", "y.h5", says="such as tv")


def test_a_noise_that_replaces_the_files_is_told(here: Path) -> None:
    sensed(here, Gaussian((1, 12, 20), 120, seed=1))
    result = run("recover", "--from", "y.h5", "--solver", "tv", "--noise", "0.5")
    assert "taken to be 0.5, as asked; y.h5 says 0.02" in result.stderr
    assert load_run(here / "recovery/recovery.h5").config["noise"] == 0.5
    assert "taken to be" not in run("recover", "--from", "y.h5", "--solver", "tv", "--noise", "0.02").output


def test_from_goes_with_no_other_source(here: Path, tiny: str) -> None:
    assert run("measure", "--measurements", "64", "--generator", tiny).exit_code == 0
    assert_refused(here, "recover", "--from", "y.h5", "--measurements", "64", says="--from")


def test_weight_files_that_cannot_be_used(here: Path, tiny: str) -> None:
    state = load_file(tiny)
    save_file({**state, "main.0.weight": torch.zeros(8, 17, 4, 4)}, here / "shapes.safetensors")
    save_file({f"net.{name}": value for name, value in state.items()}, here / "keys.safetensors")
    (here / "cut.safetensors").write_bytes(Path(tiny).read_bytes()[:1000])
    for name, says in (
        ("shapes.safetensors", "shape"),
        ("keys.safetensors", "keys"),
        ("cut.safetensors", "safetensors"),
        ("nothing.safetensors", "there is no file"),
        ("no-such-name", "digiface-dcgan"),
    ):
        assert_refused(here, "recover", *QUICK, "--generator", name, says=says)


def test_a_swapped_bundled_file_is_refused_by_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "catalogue.toml").write_bytes((pretrained_folder() / "catalogue.toml").read_bytes())
    damaged = bytearray((pretrained_folder() / "digiface-dcgan.safetensors").read_bytes())
    damaged[-1] ^= 1
    (here / "digiface-dcgan.safetensors").write_bytes(damaged)
    monkeypatch.setattr("cs_lip.priors.catalogue.pretrained_folder", lambda: here)
    assert_refused(here, "recover", *QUICK, says="SHA-256")


def test_folders_that_hold_other_work(here: Path, tiny: str) -> None:
    (here / "work").mkdir()
    (here / "work/thesis.txt").write_text("years of it")
    (here / "file").write_text("a file")
    for out, says in (("work", "thesis.txt"), ("file", "is a file")):
        assert_refused(here, "recover", *QUICK, "--generator", tiny, "--out", out, "--overwrite", says=says)
    (here / "y.h5").write_text("precious")
    assert_refused(here, "measure", "--measurements", "64", "--generator", tiny, says="y.h5")


@pytest.mark.parametrize("device", ["cuda:7", "abacus", "meta"])
def test_devices_that_are_not_there(here: Path, tiny: str, device: str) -> None:
    assert_refused(here, "recover", *QUICK, "--generator", tiny, "--device", device, says=device)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--noise", "-1"), ("--noise", "nan"), ("--restarts", "0"), ("--seed", "-1"), ("--solver", "prayer")],
)
def test_values_out_of_range(here: Path, tiny: str, option: str, value: str) -> None:
    assert_refused(here, "recover", "--measurements", "64", "--generator", tiny, option, value, says=value)


def test_show_of_what_is_no_run(here: Path) -> None:
    assert_refused(here, "show", "nowhere", says="nowhere")
    for folder, file in (("empty", None), ("swept", "plan.toml"), ("joined", "sweep.h5")):
        (here / folder).mkdir()
        if file is not None:
            (here / folder / file).touch()
    assert_refused(here, "show", "empty", says="holds no recovery.h5")
    assert_refused(here, "show", "swept", says="try cs-lip report swept")
    assert_refused(here, "show", "joined", says="try cs-lip report joined")
    assert_refused(here, "recover", "--from", "empty", says="empty is a folder, expected a file; try")


def test_show_of_measurements_says_how_to_recover_them(here: Path, tiny: str) -> None:
    assert run("measure", "--measurements", "64", "--generator", tiny, "--out", "y.h5").exit_code == 0
    assert_refused(here, "show", "y.h5", says="of kind 'cs-lip measurements', expected cs-lip recovery; try a run of")


STOPPED = {
    "measure": (("measure", "-m", "64", "--out", "y.h5"), "cs_lip.cli.measure.load_generator"),
    "report": (("report", "run"), "cs_lip.cli.report.write_report"),
    "a dry run": (("sweep", "-m", "64", "--dry-run"), "cs_lip.cli.sweep.expand"),
}


def test_noise_that_drowns_the_measurements_is_told(here: Path, tiny: str) -> None:
    arguments = ["measure", "--measurements", "64", "--generator", tiny, "--image", "camera"]
    loud = run(*arguments, "--noise", "25", "--out", "loud.h5")
    assert loud.exit_code == 0
    assert "The noise of 25 drowns measurements of" in loud.stderr
    quiet = run(*arguments, "--noise", "0.05", "--out", "quiet.h5")
    assert quiet.exit_code == 0
    assert "drowns" not in quiet.stderr


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("case", STOPPED)
def test_ctrl_c_ends_every_command_with_130(case: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    arguments, slow = STOPPED[case]
    monkeypatch.setattr(slow, press)
    stopped = run(*arguments)
    assert (stopped.exit_code, stopped.stdout, stopped.stderr.strip()) == (130, "", "")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_quiet_while_pytorch_is_imported(here: Path) -> None:
    slow = "import time; print('importing', flush=True); time.sleep(60)"
    (here / "torch.py").write_text(slow)
    command = [sys.executable, "-c", "from cs_lip.cli.entry import run; run()", "recover"]
    paths = os.pathsep.join([str(here), *sys.path])
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "importing\n"
        program.send_signal(signal.SIGINT)
        assert program.communicate(timeout=30) == ("", "")
    assert program.returncode == 130


def test_images_too_small_for_ssim_are_recovered_without_it(here: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = DCGAN((4, 6, 3)).state_dict()  # images of 8x8
    save_file(state, "small.safetensors")
    result = run(
        "recover", "--generator", "small.safetensors", "--measurements", "30", "--restarts", "1", "--out", "run"
    )
    assert result.exit_code == 0, result.output
    rows = json.loads((here / "run" / "summary.json").read_text())["images"]
    assert {row["ssim"] for row in rows} == {None}
    assert all(row["psnr_db"] > 0 for row in rows)


def test_a_reader_that_leaves_early_is_no_bad_input(here: Path, tiny: str) -> None:
    assert run("recover", *QUICKER, "--generator", tiny, "--out", "run").exit_code == 0
    code = "import sys; from cs_lip.cli.entry import run; sys.argv = ['cs-lip', 'show', 'run']; run()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
