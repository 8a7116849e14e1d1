"""``cs-lip sweep`` as a user types it."""

import json
import tomllib
from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner, Result
from PIL import Image
from sweeps import numbers, tiny_plan, tiny_weights

from cs_lip.cli.exit_codes import INTERRUPTED
from cs_lip.cli.main import main
from cs_lip.evaluation.sweep.claims import read_verdicts
from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.plan import expand
from cs_lip.evaluation.sweep.plan_file import plan_text
from cs_lip.evaluation.sweep.table import read_rows


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a weight file and a plan in it."""
    monkeypatch.chdir(tmp_path)
    plan = tiny_plan(tiny_weights(tmp_path), measurements=(10, 20), seeds=1)
    Path("plan.toml").write_text(plan_text(plan) + "\n[quick]\nmeasurements = [10]\n")
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["sweep", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_refused(here: Path, *arguments: str, says: str) -> None:
    before = files_in(here)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert "try " in last
    assert files_in(here) == before


def test_a_plan_in_a_file(here: Path) -> None:
    result = run("plan.toml", "--out", "out", "--executor", "local")
    assert result.exit_code == 0, result.output
    assert "4 of 4 cells are finished; the 6 rows are in out." in result.stdout
    assert "in-range, gaussian, m = 10, noise 0.01" in result.stdout
    assert " dB (" in result.stdout
    rows = read_rows(Path("out"))
    assert {row.image for row in rows} == {"draw-1", "draw-2", "astronaut"}
    held = {path.relative_to("out").parts[0] for path in Path("out").rglob("*")}
    assert held == {"plan.toml", "sweep.h5", "rows.csv", "cells", "images", "truth", "claims"}
    assert {path.stem for path in Path("out/truth").glob("*.png")} == {"draw-1", "draw-2", "astronaut"}
    told = tomllib.loads(Path("out/plan.toml").read_text())
    assert told["measurements"] == [10, 20]
    assert "quick" not in told

    before = files_in(here / "out/cells")
    again = run("plan.toml", "--out", "out", "--executor", "local")
    assert again.stdout == result.stdout
    assert files_in(here / "out/cells") == before
    assert numbers(read_rows(Path("out"))) == numbers(rows)
    # the plan as it was run is a plan
    assert run("out/plan.toml", "--out", "copy", "--executor", "local").exit_code == 0
    assert numbers(read_rows(Path("copy"))) == numbers(rows)


def test_claims_get_verdicts_and_stored_results_are_told(here: Path) -> None:
    claim = {"says": "pursuit is no worse than itself", "source": "logic", "operator": "gaussian"}
    plan = tomllib.loads(Path("plan.toml").read_text()) | {"results": "stored"}
    plan["claim"] = [claim | {"ours": "omp", "rival": "omp"}, claim | {"ours": "omp", "rival": "tv"}]
    Path("claims.toml").write_text(tomli_w.dumps(plan))
    Path("stored").mkdir()
    stored = {"claim": "water is wet", "asked": "touch", "measured": "wet", "holds": True}
    Path("stored/water.json").write_text(json.dumps({"verdicts": [stored]}))
    result = run("claims.toml", "--out", "out", "--executor", "local")
    assert result.exit_code == 0, result.output
    assert "Holds: pursuit is no worse than itself (logic). Asked: omp over omp" in result.stdout
    assert "Not measured: pursuit" in result.stdout
    assert "Holds: water is wet. Asked: touch.\n  wet, by water.json" in result.stdout
    assert "'tv'" in result.stderr
    assert [verdict.holds for verdict in read_verdicts(Path("out"))] == [True, None, True]
    page = CliRunner().invoke(main, ["report", "out"])
    assert page.exit_code == 0, page.output
    assert "water is wet" in Path("out/report.html").read_text()


def test_quick_and_then_the_whole_in_one_folder(here: Path) -> None:
    assert run("plan.toml", "--quick", "--out", "out", "--executor", "local").exit_code == 0
    small = files_in(here / "out/cells")
    assert run("plan.toml", "--out", "out", "--executor", "local").exit_code == 0
    assert small.items() < files_in(here / "out/cells").items()


def test_a_grid_of_options(here: Path) -> None:
    arguments = ["-m", "10,20", "--noise", "0,0.1", "--solver", "omp", "--images", "in-range:1", "--seeds", "2"]
    generator = ["--generator", "tiny.safetensors", "--executor", "local", "--out", "out"]
    assert run(*arguments, *generator).exit_code == 0
    rows = read_rows(Path("out"))
    assert [(row.m, row.sigma, row.seed) for row in rows] == [
        (m, sigma, seed) for m in (10, 20) for sigma in (0, 0.1) for seed in (0, 1)
    ]


def test_a_dry_run_writes_nothing_and_tells_cells_and_time(here: Path) -> None:
    before = files_in(here)
    result = run("plan.toml", "--out", "out", "--dry-run", "--workers", "2")
    assert result.exit_code == 0, result.output
    assert "4 cells of 3 images, 0 finished." in result.stdout
    assert "The 4 others take about" in result.stdout
    assert "Timing omp" in result.stderr
    assert files_in(here) == before
    assert run("plan.toml", "--quick", "--out", "out", "--executor", "local").exit_code == 0
    result = run("plan.toml", "--out", "out", "--dry-run")
    assert "2 finished" in result.stdout
    assert "Timing" not in result.stderr


def test_a_dry_run_goes_on_where_a_method_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(cell: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("cs_lip.evaluation.sweep.estimate.run_cell", failing)
    result = run("plan.toml", "--out", "out", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "It fails: no such luck" in result.output
    assert "cells whose time nobody knows" in result.output


def test_a_dry_run_looks_where_the_sweep_would_go(here: Path) -> None:
    assert run("plan.toml", "--executor", "local").exit_code == 0
    assert "4 finished" in run("plan.toml", "--dry-run").stdout


@pytest.mark.parametrize("workers", ["0", "-3"])
def test_workers_that_cannot_be(here: Path, workers: str) -> None:
    for also in ((), ("--dry-run",)):
        assert_refused(here, "plan.toml", "--out", "out", "--workers", workers, *also, says="at least 1 worker")


def test_another_plan_in_a_folder_is_told(here: Path) -> None:
    options = ("--solver", "omp", "--images", "in-range:1", "--generator", "tiny.safetensors", "--executor", "local")
    assert run("-m", "10", *options, "--out", "out").stderr == ""
    Path("out/report.html").write_text("of these rows")
    assert run("-m", "10", *options, "--out", "out").stderr == ""
    assert Path("out/report.html").is_file(), "nothing has changed, but the page is gone"
    told = run("-m", "20", *options, "--out", "out").stderr
    assert "Cells of other plans stay in out, but not in its tables: 1." in told
    assert not Path("out/report.html").exists()
    assert {row.m for row in read_rows(Path("out"))} == {20}


def test_a_picture_that_has_changed_is_swept_and_shown_anew(here: Path) -> None:
    options = ("-m", "10", "--solver", "omp", "--images", "x.png", "--generator", "tiny.safetensors")
    for grey in (200, 50):
        Image.new("RGB", (16, 16), (grey, grey, grey)).save("x.png")
        assert run(*options, "--out", "out", "--executor", "local").exit_code == 0
        assert Image.open(SweepFolder(Path("out")).truth_file("x.png")).getpixel((3, 3)) == (grey, grey, grey)


def test_the_plan_as_it_was_run_goes_from_any_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (16, 16), (9, 99, 199)).save("x.png")
    options = ("-m", "10", "--solver", "omp", "--images", "x.png,in-range:2,coffee", "--generator", "tiny.safetensors")
    assert run(*options, "--out", "out", "--executor", "local").exit_code == 0
    monkeypatch.chdir(here / "out")
    assert run("plan.toml", "--out", "../again", "--executor", "local").exit_code == 0
    assert numbers(read_rows(here / "again")) == numbers(read_rows(here / "out"))


def test_ctrl_c_keeps_the_rows(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cs_lip.evaluation.sweep import work

    whole, computed = work.run_cell, []

    def pressed(cell: object) -> object:
        computed.append(cell)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return whole(cell)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "run_cell", pressed)
    result = run("plan.toml", "--out", "out", "--executor", "local")
    assert result.exit_code == INTERRUPTED
    assert "2 of 4 cells are finished" in result.stdout
    assert "Interrupted" in result.stderr
    assert len({row.cell for row in read_rows(Path("out"))}) == 2
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run("plan.toml", "--out", "out", "--executor", "local").exit_code == 0


def test_a_cell_that_fails_is_told_and_the_exit_code_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cs_lip.evaluation.sweep import work

    def broken(cell: object) -> object:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(work, "run_cell", broken)
    result = run("plan.toml", "--out", "out", "--executor", "local")
    assert result.exit_code == 1
    assert "failed: ZeroDivisionError: by nought" in result.stderr
    assert "0 of 4 cells" in result.stdout


def test_a_damaged_file_is_said(here: Path) -> None:
    assert run("plan.toml", "--out", "out", "--executor", "local").exit_code == 0
    path = next(Path("out/cells").rglob("*.json"))
    path.write_text(path.read_text()[:50])
    result = run("plan.toml", "--out", "out", "--executor", "local")
    assert result.exit_code == 0
    assert f"{path} are damaged" in result.stderr
    assert "computed again" in result.stderr
    assert json.loads(path.read_text())["rows"]


def test_what_is_refused(here: Path) -> None:
    Path("work").mkdir()
    Path("work/thesis.txt").write_text("years of it")
    Path("file").write_text("a file")
    Path("bad.toml").write_text("sedes = 3\n")
    assert_refused(here, says="needs one plan")
    assert_refused(here, "plan.toml", "--plan", "measurements", says="more than one")
    assert_refused(here, "--quick", "-m", "10", says="--quick")
    assert_refused(here, "nowhere.toml", says="nowhere.toml")
    assert_refused(here, "bad.toml", says="'seeds'")
    assert_refused(here, "--plan", "measurement", says="'measurements'")
    assert_refused(here, "plan.toml", "--quick", "--out", "work", says="thesis.txt")
    assert_refused(here, "plan.toml", "--out", "file", says="is a file")
    assert_refused(here, "plan.toml", "--out", ".", says="other work")
    assert_refused(here, "-m", "10,x", says="'x'")
    assert_refused(here, "-m", "10", "--ticket", "nothing", says="nothing")
    assert_refused(here, "-m", "10", "--images", "no-folder", says="no-folder")
    assert_refused(here, "plan.toml", "--executor", "slrum", "--out", "out", says="slurm")
    assert_refused(here, "plan.toml", "--workers", "0", "--out", "out", says="at least 1")


def test_a_folder_that_cannot_be_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object, **others: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert_refused(here, "plan.toml", "--out", "out", "--executor", "local", says="Permission denied")


def test_the_plan_of_the_file_is_the_plan_that_is_run(here: Path) -> None:
    assert run("plan.toml", "--out", "out", "--executor", "local").exit_code == 0
    rows = read_rows(Path("out"))
    cells = expand(tiny_plan(str(here / "tiny.safetensors"), measurements=(10, 20), seeds=1)).cells
    assert list(dict.fromkeys(row.cell for row in rows)) == [cell.key for cell in cells]
