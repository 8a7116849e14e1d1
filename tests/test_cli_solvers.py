"""The settings of solvers on the command line: what is refused, in one sentence and before anything is written."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import assert_one_sentence

from cs_lip.cli.main import main
from cs_lip.cli.solvers import CHOICES, asked_solver
from cs_lip.recovery import SOLVERS, Auto, ImageAdaptive, IntermediateLayers

REFUSED = {
    "too few held out": ("--held-out 0.01", "splits 500 measurements into 495 and 5"),
    "too few left": ("--held-out 0.99", "into 5 and 495"),
    "a fraction above one": ("--held-out 1.5", "must be between 0 and 1, got 1.5"),
    "no number": ("--held-out nan", "must be between 0 and 1, got nan"),
    "a ball without a radius": ("--solver intermediate-layers --radius 0", "radius must be a number above 0, got 0"),
    "a negative radius": ("--solver intermediate-layers --radius -1", "radius must be a number above 0, got -1"),
    "a radius without a ball": ("--radius 0.5", "--radius 0.5 says nothing to auto"),
    "nothing to hold out for": ("--solver csgm --held-out 0.1", "--held-out 0.1 says nothing to csgm"),
    "starts of what starts nowhere": ("--solver omp --restarts 5", "--restarts 5 says nothing to omp"),
    "a robust baseline": ("--solver tv --fidelity huber", "expect least squares, got the fidelity Huber"),
    "a network that is not there": ("--solver untrained", "is not one of 'auto'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    options, expected = REFUSED[case]
    out = tmp_path / "run"
    result = CliRunner().invoke(main, ["recover", "-m", "500", *options.split(), "--out", str(out)])
    assert result.exit_code == 2
    assert expected in result.stderr
    if "Usage" not in result.stderr:
        assert_one_sentence(result.stderr.removeprefix("Error: ").strip())
    assert not out.exists()


def test_settings_reach_the_solver() -> None:
    auto, tuned = (asked_solver(name, 0.2, None) for name in ("auto", "image-adaptive"))
    assert isinstance(auto, Auto) and auto.beyond.tuning.held_out == 0.2
    assert isinstance(tuned, ImageAdaptive) and tuned.tuning.held_out == 0.2
    layers = asked_solver("intermediate-layers", 0.2, 0.25)
    assert isinstance(layers, IntermediateLayers) and (layers.radius, layers.tuning.held_out) == (0.25, 0.2)


@pytest.mark.parametrize("name", CHOICES)
def test_without_settings_it_is_the_registered_one(name: str) -> None:
    assert asked_solver(name, None, None) == SOLVERS[name]()
