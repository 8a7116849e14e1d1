"""The rows of a benchmark: none is measured twice, by however many processes, and none is lost by one that dies."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

WORKER = """
import sys, time
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from results_files import measured_rows

folder, name, seconds = Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])

def measure(cell):
    (folder / f"{name}-began-{cell}").touch()
    time.sleep(seconds)
    return {"by": name}

measured_rows(folder / "bench.jsonl", {"seed": 1}, {str(cell): partial(measure, str(cell)) for cell in range(6)})
"""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results_files

    return results_files


def worker(folder: Path, name: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(BENCHMARKS), str(folder), name, str(seconds)])


def lines(folder: Path) -> dict[str, list[str]]:
    """Who measured each cell, as the log has it."""
    by: dict[str, list[str]] = {}
    for line in (folder / "bench.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        by.setdefault(entry["cell"], []).append(entry["row"]["by"])
    return by


def test_rows_are_measured_once_in_their_order_and_shown(files: ModuleType, tmp_path: Path) -> None:
    log, measured, shown = tmp_path / "out" / "bench.jsonl", [], []

    def cell(name: str) -> dict[str, str]:
        measured.append(name)
        return {"value": name}

    todo = {name: lambda name=name: cell(name) for name in "ba"}
    for _ in range(2):
        rows = files.measured_rows(log, {"seed": 1}, todo, {"machine": "this"}, lambda rows: shown.append(list(rows)))
        assert list(rows.items()) == [(name, {"value": name, "machine": "this"}) for name in "ba"]
    assert (measured, shown) == (["b", "a"], [["b"], ["b", "a"]])
    files.measured_rows(log, {"seed": 2}, todo)
    assert measured == ["b", "a", "b", "a"], "rows of another configuration were taken over"


def test_a_line_that_a_crash_cut_short_costs_its_own_cell_alone(files: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "bench.jsonl"
    todo = {name: lambda name=name: {"value": name} for name in "abc"}
    files.measured_rows(log, {}, todo)
    log.write_bytes(log.read_bytes()[:-5])
    assert files.measured_rows(log, {}, todo) == {name: {"value": name} for name in "abc"}
    assert set(files.stored_rows(log, {})) == {"a", "b", "c"}


def test_two_processes_share_the_cells(tmp_path: Path) -> None:
    workers = [worker(tmp_path, name, 0.2) for name in "xy"]
    assert [each.wait(60) for each in workers] == [0, 0]
    assert {cell: len(by) for cell, by in lines(tmp_path).items()} == {str(cell): 1 for cell in range(6)}


def test_a_cell_whose_process_died_is_open_again(tmp_path: Path) -> None:
    dying = worker(tmp_path, "dying", 600)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("dying-began-*")):
        assert time.monotonic() < deadline, "the first process did not begin"
        time.sleep(0.05)
    other = worker(tmp_path, "other", 0.0)
    while len(list(tmp_path.glob("other-began-*"))) < 5:
        assert time.monotonic() < deadline, "the second process did not take the other cells"
        time.sleep(0.05)
    assert other.poll() is None, "it did not wait for the cell of the first process"
    dying.kill()
    dying.wait()
    assert other.wait(60) == 0
    assert lines(tmp_path) == {str(cell): ["other"] for cell in range(6)}


# The command line


@pytest.fixture
def letters(files: ModuleType, tmp_path: Path) -> Callable[..., Result]:
    """Runs a benchmark of the cells a, b, ab."""
    import resumable

    todo = {name: lambda name=name: {"value": name} for name in ("a", "b", "ab")}

    @resumable.resumable("Letters.", full="More letters.")
    def main(full: bool, quick: bool, figure_only: bool, only: str | None, seed: int, out: Path) -> None:
        def write(rows: dict[str, dict[str, str]], command: str) -> str:
            return f"{' '.join(rows)} by {command}"

        resumable.measure_cells(out / "letters.jsonl", {"seed": seed}, todo, only, write)

    return lambda *words: CliRunner().invoke(main, [*words, "--out", str(tmp_path)])


def test_some_cells_are_measured_alone_and_the_table_has_what_is_stored(
    letters: Callable[..., Result], tmp_path: Path
) -> None:
    command = f"by python benchmarks/letters.py --out {tmp_path}\n"
    assert letters("--only", "ab").stdout == f"ab {command}", "a pattern is that of the whole name"
    assert letters("--only", "a|x").stdout == f"a ab {command}"
    assert (
        letters("--only", "b", "--seed", "7").stdout == f"b by python benchmarks/letters.py --seed 7 --out {tmp_path}\n"
    )
    assert letters().stdout == f"a b ab {command}"
    stored = (tmp_path / "letters.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["cell"] for line in stored] == ["ab", "a", "b", "b"]


@pytest.mark.parametrize(
    ("pattern", "says"), [("c", "no cell of the 3 matches 'c'"), ("(", "is no regular expression")]
)
def test_patterns_of_no_cell_are_refused(
    pattern: str, says: str, letters: Callable[..., Result], tmp_path: Path
) -> None:
    result = letters("--only", pattern)
    assert result.exit_code == 2 and says in result.stderr
    assert not any(tmp_path.iterdir())


# Rows of earlier code


@pytest.fixture
def carrying(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import carry_over

    return carry_over


@pytest.mark.parametrize(
    ("benchmark", "cell", "method"),
    [
        ("tickets", "dense", "dense"),
        ("tickets", "magnitude-global/0.05/0", "magnitude-global"),
        ("tickets", "speed/0.1", "channels"),
        ("lip", "denoise/astronaut/from-inpaint/7", "from"),
        ("ticket_tuning", "500/0.05/search-own-0.2", "search-own"),
        ("ticket_tuning", "500/0.05/layer-2", "layer"),
    ],
)
def test_a_cell_tells_its_method(carrying: ModuleType, benchmark: str, cell: str, method: str) -> None:
    assert carrying.method_of(benchmark, cell) == method


def test_rows_are_carried_over_where_both_versions_give_the_same_numbers(carrying: ModuleType, tmp_path: Path) -> None:
    then = {
        "configuration": {"code": "a", "seed": 1},
        "rows": {"snip/0.2/0": {"psnr": 1.0, "seconds": 3.0}, "grasp/0.2/0": {"psnr": 1.0}},
    }
    now = {
        "configuration": {"code": "b", "seed": 1},
        "rows": {"snip/0.2/0": {"psnr": 1.0, "seconds": 4.0}, "grasp/0.2/0": {"psnr": 1.5}, "new/0.2/0": {"psnr": 2.0}},
    }
    stored = [
        ("snip/0.5/0", "a", {"psnr": 20.0}),
        ("grasp/0.5/0", "a", {"psnr": 21.0}),
        ("snip/0.2/0", "a", {"psnr": 22.0}),
        ("snip/0.2/0", "b", {"psnr": 22.0}),
        ("snip/0.1/0", "older", {"psnr": 23.0}),
        ("snip/0.05/0", "a", {"psnr": 24.0, "code": "first"}),
        ("taylor/0.2/0", "a", {"psnr": 25.0}),
    ]
    log = tmp_path / "tickets.jsonl"
    lines = [
        json.dumps({"configuration": {"code": code, "seed": 1}, "cell": cell, "row": row}) for cell, code, row in stored
    ]
    log.write_text("\n".join(lines) + "\n" + lines[0][:20], encoding="utf-8")
    assert carrying.compared("tickets", then, now) == {"snip": True, "grasp": False, "new": False}
    assert carrying.carry(log, "tickets", then, now) == 2
    after = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [entry["configuration"]["code"] for entry in after] == ["b", "a", "a", "b", "older", "b", "a"]
    assert after[0]["row"] == {"psnr": 20.0, "code": "a"}
    assert after[5]["row"] == {"psnr": 24.0, "code": "first"}
    now["configuration"]["seed"] = 2
    with pytest.raises(click.ClickException, match="another seed"):
        carrying.carry(log, "tickets", then, now)
