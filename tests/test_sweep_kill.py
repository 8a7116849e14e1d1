"""Sweeps that are killed, doubled or short of room: no row is lost, and none is wrong."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import assert_one_sentence
from sweeps import numbers, run_here, tiny_grid

from cs_lip.evaluation.sweep.collect import collect
from cs_lip.evaluation.sweep.executors import WorkerLost
from cs_lip.evaluation.sweep.executors.local import local
from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.plan import Grid
from cs_lip.evaluation.sweep.sweep import ATTEMPTS, compute, scan
from cs_lip.evaluation.sweep.table import read_rows
from cs_lip.evaluation.sweep.work import Outcome, State, Work

KILLS = 20


def coordinator(folder: Path, grid: Grid) -> int:
    """A process that runs the sweep to its end, without the seconds that a new Python takes to import PyTorch."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            run_here(folder, grid)
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def finished(folder: Path) -> int:
    return len(list(folder.glob("cells/*/*.json")))


def test_twenty_kills_leave_the_numbers_of_an_undisturbed_run(tmp_path: Path) -> None:
    grid = tiny_grid(tmp_path, seeds=5)
    undisturbed = run_here(tmp_path / "whole", grid)
    out, kills, rng = tmp_path / "killed", 0, random.Random(0)
    progress = []
    while kills < KILLS:
        child = coordinator(out, grid)
        before = finished(out)
        # At a random moment around the first cells that it finishes, so that the last kill still finds some to do.
        deadline = time.monotonic() + 60
        while finished(out) < min(before + rng.choice([0, 1, 2]), len(grid.cells) - 1) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        progress.append(finished(out))
    assert progress == sorted(progress)
    child = coordinator(out, grid)
    assert os.waitpid(child, 0)[1] == 0
    assert numbers(read_rows(out)) == numbers(undisturbed)
    assert not scan(out, grid.cells).damaged


def test_two_coordinators_on_one_folder(tmp_path: Path) -> None:
    grid = tiny_grid(tmp_path)
    undisturbed = run_here(tmp_path / "whole", grid)
    out = tmp_path / "both"
    children = [coordinator(out, grid), coordinator(out, grid)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert numbers(read_rows(out)) == numbers(undisturbed)
    assert not list(out.glob("claims/*"))


def test_a_claimed_cell_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = tiny_grid(tmp_path, measurements=(10,), seeds=1)
    out = tmp_path / "out"
    held = SweepFolder(out)
    monkeypatch.setattr("cs_lip.evaluation.sweep.sweep.PAUSE", 0.01)
    outcomes: list[State] = []

    def watched(work: Work, cells: object) -> object:
        for outcome in local(work, cells):  # type: ignore[arg-type]
            outcomes.append(outcome.state)
            yield outcome
            if outcomes.count(State.BUSY) == 3:
                claim.__exit__(None, None, None)
                outcomes.append(State.DIED)  # so that it is let go once

    claim = held.claimed(grid.cells[0].key)
    assert claim.__enter__()
    assert compute(out, scan(out, grid.cells).unfinished, watched, lambda outcome: None) == {}  # type: ignore[arg-type]
    assert outcomes.count(State.BUSY) == 3
    assert outcomes.count(State.FINISHED) == 2


def test_a_claim_dies_with_its_owner(tmp_path: Path) -> None:
    held = SweepFolder(tmp_path)
    child = os.fork()
    if child == 0:
        claim = held.claimed("ab")
        claim.__enter__()
        (tmp_path / "claimed").touch()
        time.sleep(60)
        os._exit(0)
    while not (tmp_path / "claimed").exists():
        time.sleep(0.005)
    with held.claimed("ab") as mine:
        assert not mine
    assert not held.abandoned("ab")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert held.abandoned("ab")
    with held.claimed("ab") as mine:
        assert mine


def dying(deadly: set[str], held: SweepFolder) -> object:
    """An executor that dies with some cells, and leaves the claim of a neighbour behind as well."""

    def run(work: Work, cells: list[object]) -> object:
        for place, cell in enumerate(cells):
            if cell.key in deadly:  # type: ignore[attr-defined]
                for beside in cells[place : place + 2]:
                    held.claim_file(beside.key).parent.mkdir(parents=True, exist_ok=True)  # type: ignore[attr-defined]
                    held.claim_file(beside.key).touch()  # type: ignore[attr-defined]
                raise WorkerLost("killed by SIGKILL")
            yield work(cell)  # type: ignore[arg-type]

    return run


def test_a_cell_that_kills_its_workers_is_given_up_and_said_and_no_other(tmp_path: Path) -> None:
    grid = tiny_grid(tmp_path)
    out, deadly = tmp_path / "out", grid.cells[3].key
    ended: list[Outcome] = []
    failures = compute(out, scan(out, grid.cells).unfinished, dying({deadly}, SweepFolder(out)), ended.append)  # type: ignore[arg-type]
    assert list(failures) == [deadly]
    assert f"died {ATTEMPTS} times" in failures[deadly]
    assert "SIGKILL" in failures[deadly]
    assert len(ended) == len(grid.cells)
    assert list(collect(out, grid.cells, {}).unfinished) == [deadly]


def test_a_worker_that_dies_without_a_claim_does_not_go_on_for_ever(tmp_path: Path) -> None:
    grid = tiny_grid(tmp_path, measurements=(10,), seeds=1)

    def dead(work: Work, cells: object) -> object:
        raise WorkerLost("no memory")
        yield

    failures = compute(tmp_path / "out", scan(tmp_path, grid.cells).unfinished, dead, lambda outcome: None)  # type: ignore[arg-type]
    assert failures.keys() == {cell.key for cell in grid.cells}


def test_a_cell_that_raises_is_said_and_the_others_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = tiny_grid(tmp_path)
    from cs_lip.evaluation.sweep import work

    whole = work.run_cell

    def fragile(cell: object) -> object:
        if cell == grid.cells[2]:
            raise RuntimeError("the sky\nfell")
        return whole(cell)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "run_cell", fragile)
    out = tmp_path / "out"
    failures = compute(out, scan(out, grid.cells).unfinished, local, lambda outcome: None)
    assert failures == {grid.cells[2].key: "RuntimeError: the sky fell"}
    assert len(scan(out, grid.cells).rows) == len(grid.cells) - 1


@pytest.mark.parametrize("where", ["images", "rows"])
def test_a_full_disk_ends_with_a_sentence_and_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    grid = tiny_grid(tmp_path)
    out, whole, written = tmp_path / "out", os.fsync, []

    def full(handle: int) -> None:
        written.append(handle)
        # every cell writes its images and then its rows
        if len(written) == (7 if where == "images" else 8):
            raise OSError(28, "No space left on device", str(out / "cells"))
        whole(handle)

    monkeypatch.setattr("cs_lip.files.os.fsync", full)
    with pytest.raises(ValueError, match="No space left on device") as caught:
        compute(out, scan(out, grid.cells).unfinished, local, lambda outcome: None)
    assert_one_sentence(caught.value)
    monkeypatch.undo()
    kept = scan(out, grid.cells)
    assert len(kept.rows) == 3
    assert not kept.damaged
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    assert numbers(run_here(out, grid)) == numbers(run_here(tmp_path / "whole", grid))
