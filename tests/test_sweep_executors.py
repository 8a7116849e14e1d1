"""The same numbers from every executor, and what each does when a worker dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import assert_one_sentence
from sweeps import numbers, run_here, tiny_grid

from cs_lip.evaluation.sweep.cells import Cell
from cs_lip.evaluation.sweep.collect import collect
from cs_lip.evaluation.sweep.executors import NAMES, Executor, find_executor
from cs_lip.evaluation.sweep.executors.processes import Processes
from cs_lip.evaluation.sweep.executors.slurm import Requeued, Slurm
from cs_lip.evaluation.sweep.plan import Grid
from cs_lip.evaluation.sweep.sweep import compute, scan
from cs_lip.evaluation.sweep.table import Row, read_rows
from cs_lip.evaluation.sweep.work import Outcome, State, Work


def run_by(executor: Executor, folder: Path, grid: Grid) -> list[Row]:
    ended: list[Outcome] = []
    assert compute(folder, scan(folder, grid.cells).unfinished, executor, ended.append) == {}
    assert sorted(outcome.key for outcome in ended) == sorted(cell.key for cell in grid.cells)
    collect(folder, grid.cells, {})
    return read_rows(folder)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return tiny_grid(tmp_path_factory.mktemp("grid"), measurements=(10, 20))


@pytest.fixture(scope="module")
def expected(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return numbers(run_here(tmp_path_factory.mktemp("expected"), grid))


def test_processes_whatever_their_number_and_one_that_dies(tmp_path: Path, grid: Grid, expected: list[str]) -> None:
    assert numbers(run_by(Processes(1), tmp_path / "one", grid)) == expected
    folder = tmp_path / "two"
    killer = threading.Thread(target=kill_a_worker, args=(folder,))
    killer.start()
    rows = run_by(Processes(2), folder, grid)
    killer.join()
    assert numbers(rows) == expected


def kill_a_worker(folder: Path) -> None:
    """The first worker of joblib that is found once a cell is claimed or finished."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(folder.glob("c*/*")):
            for worker in children():
                os.kill(worker, signal.SIGKILL)
                return
        time.sleep(0.005)


def children() -> list[int]:
    listed = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "loky"], capture_output=True, text=True, check=False
    ).stdout.split()
    return [int(each) for each in listed if "resource_tracker" not in command(int(each))]


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return "resource_tracker"


# --- dask -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dask scheduler in a process of its own, with two workers in two others."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed; pip install 'cs-lip[dask]'")
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    common = ["--scheduler-file", str(file)]
    commands = [
        ["scheduler", *common, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        *(
            [["worker", *common, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", str(folder)]]
            * 2
        ),
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + each[0], *each[1:]],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in commands
    ]
    try:
        deadline = time.monotonic() + 120
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        import json

        yield json.loads(file.read_text())["address"]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_dask(tmp_path: Path, grid: Grid, expected: list[str], scheduler: str) -> None:
    engine = find_executor("dask", 1, scheduler, tmp_path)
    engine.client.wait_for_workers(2, timeout=120)  # type: ignore[attr-defined]
    assert numbers(run_by(engine, tmp_path / "out", grid)) == expected
    (workers,) = [engine.client.scheduler_info(n_workers=-1)["workers"]]  # type: ignore[attr-defined]
    assert len(workers) == 2
    # one of the two dies in the middle of a sweep: the other takes its cells
    first = engine.client.submit(os.getpid, pure=False).result()  # type: ignore[attr-defined]
    folder = tmp_path / "dying"
    killer = threading.Thread(target=kill_when_begun, args=(folder, first))
    killer.start()
    rows = run_by(engine, folder, grid)
    killer.join()
    assert numbers(rows) == expected
    engine.client.close()  # type: ignore[attr-defined]


def kill_when_begun(folder: Path, process: int) -> None:
    deadline = time.monotonic() + 60
    while not any(folder.glob("c*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)


def test_a_scheduler_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed; pip install 'cs-lip[dask]'")
    monkeypatch.setattr("cs_lip.evaluation.sweep.executors.dask.PATIENCE", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(ValueError, match="no dask scheduler") as caught:
            find_executor("dask", 1, address, tmp_path)
        assert_one_sentence(caught.value)
        assert address in str(caught.value)


# --- slurm ------------------------------------------------------------------------------------------------------------


def test_submitit_with_its_local_executor(tmp_path: Path, grid: Grid, expected: list[str]) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed; pip install 'cs-lip[slurm]'")
    few = Grid(grid.plan, grid.image_shape, grid.images, grid.cells[:2], ())
    rows = run_by(Slurm(tmp_path / "jobs", 2, "local"), tmp_path / "out", few)
    assert numbers(rows) == expected[: len(rows)]


def test_a_job_that_runs_out_of_time_is_queued_again_from_the_start(grid: Grid) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed; pip install 'cs-lip[slurm]'")
    work = Requeued(Work(Path("nowhere")))
    again = work.checkpoint(grid.cells[0])
    assert (again.function, again.args) == (work, (grid.cells[0],))


class Deadly:
    """Work that ends its process."""

    def __call__(self, cell: Cell) -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_job_that_dies_is_told(tmp_path: Path, grid: Grid) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed; pip install 'cs-lip[slurm]'")
    (outcome,) = Slurm(tmp_path / "jobs", 1, "local")(Deadly(), grid.cells[:1])
    assert (outcome.key, outcome.state) == (grid.cells[0].key, State.DIED)
    assert outcome.message


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "workers", "address", "says"),
    [
        ("proceses", 1, None, ", ".join(NAMES)),
        ("local", 0, None, "at least 1"),
        ("local", 1, "tcp://x:1", "takes no --scheduler"),
        ("dask", 1, None, "needs --scheduler"),
    ],
)
def test_executors_that_are_refused(tmp_path: Path, name: str, workers: int, address: str | None, says: str) -> None:
    with pytest.raises(ValueError, match="try ") as caught:
        find_executor(name, workers, address, tmp_path)
    assert says in str(caught.value)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "address"), [("dask", "distributed", "tcp://x:1"), ("slurm", "submitit", None)]
)
def test_engines_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, address: str | None
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"pip install 'cs-lip\[{name}\]'") as caught:
        find_executor(name, 1, address, tmp_path)
    assert_one_sentence(caught.value)
