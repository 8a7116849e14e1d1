"""From a plan to cells, from cells to rows, from rows to the table."""

import csv
import dataclasses
import json
import math
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from sweeps import numbers, run_here, tiny_grid, tiny_plan, tiny_weights

from cs_lip.evaluation.acquisition import acquire, build_operator
from cs_lip.evaluation.metrics import mse, psnr, ssim
from cs_lip.evaluation.sweep.cells import Cell, Target, cell_from_json
from cs_lip.evaluation.sweep.claims import Claim, Verdict, judge, read_verdicts, stored_verdicts, write_verdicts
from cs_lip.evaluation.sweep.collect import collect
from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.methods import Method
from cs_lip.evaluation.sweep.plan import IMAGES_AT_ONCE, Plan, expand, plan_to_table
from cs_lip.evaluation.sweep.plan_file import plan_from_table, plan_text, read_plan, ready_plan, ready_plans
from cs_lip.evaluation.sweep.run_cell import run_cell
from cs_lip.evaluation.sweep.summary import summarise
from cs_lip.evaluation.sweep.sweep import scan
from cs_lip.evaluation.sweep.table import COLUMNS, Row, read_configuration, read_rows, row_from_json, row_to_json
from cs_lip.evaluation.sweep.targets import pixels, targets
from cs_lip.priors import load_generator, untrained_network
from cs_lip.priors.catalogue import find_entry
from cs_lip.recovery import SOLVERS, Adam, recover
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import derive_seed
from cs_lip.tickets import Mask, Ticket, write_ticket
from cs_lip.tickets.transfer import about_generator, about_untrained


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def large_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As `weights`, of images (3, 64, 64): untrained networks halve them five times."""
    return tiny_weights(tmp_path_factory.mktemp("large"), (4, 4, 4, 4, 4, 3))


@pytest.fixture
def short_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that is over soon."""
    monkeypatch.setitem(SOLVERS, "adam", lambda: Adam(steps=20, restarts=2))


# --- cells ------------------------------------------------------------------------------------------------------------


def test_every_part_of_a_cell_is_in_its_hash(weights: str) -> None:
    cell = expand(tiny_plan(weights)).cells[0]
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        other = value + 1 if isinstance(value, int | float) else value[:-1] if value else "x"
        assert dataclasses.replace(cell, **{field.name: other}).key != cell.key, field.name
    assert cell_from_json(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell


def test_the_hash_is_the_same_on_every_machine() -> None:
    images = (Target("draw-1", "in-range", "1"),)
    cell = Cell("digiface-dcgan", "ab", images, "gaussian", 10, 0.01, 0.0, "", "", "", "", "omp", "least-squares", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cs_lip.evaluation.sweep.cells.__version__", "0.1.0")
        first = cell.key
        patch.setattr("cs_lip.evaluation.sweep.cells.__version__", "0.2.0")
        assert replace(cell).key != first
    assert first == "89be251b5c62e40a3231780840cbd0d1c1a16ad077f058ae917b23b9efa41ba0"


def test_a_plan_makes_every_combination_once(weights: str) -> None:
    grid = expand(tiny_plan(weights, methods=(Method("omp"), Method("latent-search")), noise=(0.0, 0.1)))
    # two kinds of images, so two batches
    assert len(grid.cells) == 2 * 2 * 3 * 2 * 2
    assert len({cell.key for cell in grid.cells}) == len(grid.cells)
    assert {cell.m for cell in grid.cells} == {10, 20, 40}
    assert [image.name for image in grid.images] == ["draw-1", "draw-2", "astronaut"]


def test_a_method_for_some_operators(weights: str, tmp_path: Path) -> None:
    some = (Method("omp", operator=("gaussian",)), Method("tv"), Method("omp", operator=("gaussian", "denoise")))
    plan = tiny_plan(weights, methods=some, operator=("gaussian", "denoise"), measurements=(10,), seeds=1)
    cells = expand(plan).cells
    assert Counter((cell.operator, cell.solver) for cell in cells) == {
        ("gaussian", "omp"): 2,  # one for each kind of images, though two methods ask for it
        ("gaussian", "tv"): 2,
        ("denoise", "tv"): 2,
        ("denoise", "omp"): 2,
    }
    path = tmp_path / "plan.toml"
    path.write_text(plan_text(plan))
    assert read_plan(path) == plan


def test_restarts_are_those_of_searches(weights: str) -> None:
    without = [Method("omp"), Method("linear-estimate"), Method("untrained", "deep-decoder")]
    plan = tiny_plan(weights, methods=(*without, Method("latent-search")), restarts=3)
    found = {(cell.solver, cell.restarts) for cell in expand(plan).cells}
    assert found == {*((method.solver, 0) for method in without), ("latent-search", 3)}
    with pytest.raises(ValueError, match="restarts must be from 1") as caught:
        tiny_plan(weights, restarts=-1)
    assert_one_sentence(caught.value)


def test_images_are_batched(weights: str) -> None:
    grid = expand(tiny_plan(weights, images=(f"in-range:{2 * IMAGES_AT_ONCE + 1}",), measurements=(10,), seeds=1))
    assert [len(cell.images) for cell in grid.cells] == [IMAGES_AT_ONCE, IMAGES_AT_ONCE, 1]


def test_a_larger_plan_keeps_the_cells_of_a_smaller_one(weights: str) -> None:
    small = expand(tiny_plan(weights))
    large = expand(tiny_plan(weights, measurements=(10, 20, 40, 80), seeds=3))
    assert {cell.key for cell in small.cells} < {cell.key for cell in large.cells}


def test_a_draw_is_the_same_whatever_is_drawn_beside_it(weights: str) -> None:
    generator = load_generator(weights)
    all_of_them = pixels(targets(["in-range:3"]), generator, generator.image_shape)
    alone = pixels(targets(["in-range:3"])[2:], generator, generator.image_shape)
    assert torch.equal(all_of_them[2:], alone)
    assert not torch.equal(all_of_them[0], all_of_them[1])


def test_pictures_come_from_folders_files_and_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.png"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "note.txt").write_text("no picture")
    found = targets([str(tmp_path), "camera"])
    assert [(image.name, image.kind) for image in found] == [
        ("a.png", "file"),
        ("b.png", "file"),
        ("camera", "picture"),
    ]
    assert pixels(found, None, (3, 16, 16)).shape == (3, 3, 16, 16)
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="changed") as caught:
        pixels(found, None, (3, 16, 16))
    assert_one_sentence(caught.value)


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_adam")
def test_a_row_says_what_a_recovery_by_hand_says(weights: str) -> None:
    grid = expand(tiny_plan(weights, methods=(Method("adam"),), measurements=(40,), seeds=2))
    cell = next(cell for cell in grid.cells if cell.seed == 1 and cell.images[0].kind == "in-range")
    generator = load_generator(weights)
    truth = pixels(cell.images, generator, generator.image_shape)
    operator = build_operator("gaussian", generator.image_shape, 40, seed=1)
    seeds = [derive_seed(1, f"measurements/draw-{number}") for number in (1, 2)]
    measured = [acquire(operator, truth[[place]], noise=0.01, seed=seed) for place, seed in enumerate(seeds)]
    ours = recover(operator, torch.cat(measured), generator.fold(), solver="adam", noise=0.01, seed=1)
    result = run_cell(cell)
    for index, row in enumerate(result.rows):
        assert row.image == f"draw-{index + 1}"
        assert (row.m, row.n, row.sigma, row.density, row.prior) == (40, 768, 0.01, 1.0, "tiny")
        assert row.mse == mse(ours.images[index], truth[index])
        assert row.psnr == psnr(ours.images[index], truth[index])
        assert row.ssim == ssim(ours.images[index], truth[index])
        assert row.relative_residual == ours.relative_residual[index]
        assert row.status == ours.status[index].value
        energy = float(operator(truth[index]).square().sum())
        assert row.snr_db == pytest.approx(10 * math.log10(energy / (40 * 0.01**2)))
        assert 0 < row.iterations <= len(ours.history)
        assert row.cell == cell.key
    assert result.images.shape == (2, 3, 16, 16)
    assert np.abs(result.images / 255 - ours.images.numpy()).max() <= 0.5 / 255 + 1e-6


def test_what_is_measured_of_an_image_does_not_depend_on_the_others(weights: str) -> None:
    beside, alone = (
        run_cell(expand(tiny_plan(weights, images=images, outliers=(0.1,))).cells[0]).rows
        for images in (("astronaut", "coffee"), ("coffee",))
    )
    assert beside[1].mse == alone[0].mse


def test_every_batch_has_other_noise(large_weights: str) -> None:
    # With so little signal what OMP finds is the noise, and from the same noise nearly the same.
    plan = tiny_plan(
        large_weights, images=(f"in-range:{2 * IMAGES_AT_ONCE}",), noise=(1e3,), measurements=(200,), seeds=1
    )
    first, second = (run_cell(cell).images for cell in expand(plan).cells)
    assert max(np.mean(a == b) for a in first for b in second) < 0.8


def test_seeds_of_inpainting_measure_equally_much(weights: str) -> None:
    plan = tiny_plan(weights, operator=("inpaint",), images=("astronaut",), measurements=(), seeds=4)
    cells = expand(plan).cells
    rows = [row for cell in cells for row in run_cell(cell).rows]
    assert {row.m for row in rows} == {cell.m for cell in cells} == {3 * 16 * 16 // 2}
    assert len({row.mse for row in rows}) == 4, "the seeds keep the same pixels"


def test_a_generator_or_a_learned_start_that_has_changed_is_told(tmp_path: Path, short_adam: None) -> None:
    path = tiny_weights(tmp_path)
    cell = expand(tiny_plan(path, methods=(Method("adam"),))).cells[0]
    state = {name: values + 0.1 for name, values in load_file(path).items()}
    save_file(state, path)
    with pytest.raises(ValueError, match=r"generator .* has changed") as caught:
        run_cell(cell)
    assert_one_sentence(caught.value)
    bundled = expand(Plan((Method("adam"), Method("omp")), ("in-range:1",), (60,)))
    searched, other = bundled.cells
    assert (searched.start_sha256, other.start_sha256) == (find_entry("digiface-dcgan").start_sha256, "")
    with pytest.raises(ValueError, match=r"learned start .* has changed") as caught:
        run_cell(replace(searched, start_sha256="ab"))
    assert_one_sentence(caught.value)


@pytest.mark.usefixtures("short_adam")
def test_a_cell_is_pure(weights: str) -> None:
    cell = expand(tiny_plan(weights, methods=(Method("adam"),))).cells[0]
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    first = run_cell(cell)
    torch.manual_seed(99)
    second = run_cell(cell)
    torch.set_rng_state(before)
    assert numbers(list(first.rows)) == numbers(list(second.rows))
    assert np.array_equal(first.images, second.images)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("operator", ["denoise", "inpaint", "super-resolve", "fourier"])
def test_operators_and_an_untrained_prior(large_weights: str, operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "untrained", lambda: UntrainedFit(iterations=3))
    plan = tiny_plan(
        large_weights,
        methods=(Method("untrained", prior="deep-decoder"),),
        operator=(operator,),
        images=("astronaut",),
        measurements=(200,),
        noise=(0.1,),
        seeds=1,
    )
    (cell,) = expand(plan).cells
    (row,) = run_cell(cell).rows
    count = {"denoise": 12288, "super-resolve": 768, "fourier": 200}.get(operator, row.m)
    assert (row.operator, row.prior, row.m) == (operator, "deep-decoder", count)
    assert cell.m == row.m
    assert row.oracle_psnr >= row.psnr - 1e-6


def test_contamination_and_fidelity(weights: str) -> None:
    plan = tiny_plan(
        weights,
        methods=(Method("levenberg-marquardt"),),
        images=("in-range:2",),
        measurements=(100,),
        outliers=(0.05,),
        fidelity=("least-squares", "trimmed"),
        noise=(0.0,),
        seeds=1,
    )
    rows = {(cell.outliers, cell.fidelity): run_cell(cell).rows for cell in expand(plan).cells}
    worst = {key: max(row.mse for row in value) for key, value in rows.items()}
    assert worst[0.05, "trimmed"] < worst[0.05, "least-squares"] / 10


values = st.floats(-1e6, 1e6) | st.just(math.nan)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=12)
rows_of = st.builds(
    Row,
    **{
        name: texts if kind is str else st.integers(0, 2**53) if kind is int else values
        for name, kind in COLUMNS.items()
    },
)


@given(rows_of)
@settings(max_examples=60)
def test_a_row_survives_json(row: Row) -> None:
    again = row_from_json(json.loads(json.dumps(row_to_json(row), allow_nan=False)), row.cell, row.versions)
    assert repr(again) == repr(row)


@pytest.mark.parametrize("change", [{"m": 1.5}, {"m": True}, {"solver": 3}, {"mse": "x"}, {"extra": 1}, {"m": None}])
def test_rows_that_are_none(weights: str, change: dict[str, object]) -> None:
    row = run_cell(expand(tiny_plan(weights)).cells[0]).rows[0]
    with pytest.raises(ValueError, match="column"):
        row_from_json(row_to_json(row) | change, row.cell, "")


# --- the folder and the table -----------------------------------------------------------------------------------------


def test_the_table_holds_the_rows_of_the_cells_in_the_plans_order(tmp_path: Path) -> None:
    grid = tiny_grid(tmp_path)
    rows = run_here(tmp_path / "out", grid)
    direct = [row for cell in grid.cells for row in run_cell(cell).rows]
    assert [dataclasses.replace(row, versions="") for row in rows] != []
    assert numbers([dataclasses.replace(row, versions="") for row in rows]) == numbers(direct)
    assert {"torch", "python", "cs-lip"} <= json.loads(rows[0].versions).keys()
    with (tmp_path / "out/rows.csv").open() as file:
        told = list(csv.DictReader(file))
    assert list(told[0]) == list(COLUMNS)
    assert [float(line["psnr"]) for line in told] == [row.psnr for row in rows]
    assert {line["density"] for line in told} == {""}
    assert read_configuration(tmp_path / "out") == plan_to_table(grid.plan)


def test_finished_cells_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = tiny_grid(tmp_path)
    first = run_here(tmp_path / "out", grid)

    def refuse(cell: Cell) -> None:
        raise AssertionError(cell)

    monkeypatch.setattr("cs_lip.evaluation.sweep.work.run_cell", refuse)
    assert run_here(tmp_path / "out", grid) == first or numbers(run_here(tmp_path / "out", grid)) == numbers(first)


def damage(path: Path, how: str) -> None:
    text = path.read_text()
    damaged = {
        "truncated": text[: len(text) // 2],
        "empty": "",
        "no JSON": "{]",
        "a list": "[1, 2]",
        "a number changed": text.replace('"mse": 0.', '"mse": 1.', 1),
        "newer": text.replace('"format": 1', '"format": 2', 1),
        "a column less": text.replace('"status"', '"Status"'),
    }[how]
    assert damaged != text
    path.write_text(damaged)


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "no JSON", "a list", "a number changed", "newer", "a column less"]
)
def test_a_damaged_file_is_said_and_computed_again(tmp_path: Path, how: str) -> None:
    grid = tiny_grid(tmp_path, measurements=(10,), seeds=1)
    out = tmp_path / "out"
    whole = run_here(out, grid)
    path = SweepFolder(out).cell_file(grid.cells[0].key)
    damage(path, how)
    (sentence,) = scan(out, grid.cells).damaged
    assert str(path) in sentence
    assert_one_sentence(sentence)
    assert numbers(run_here(out, grid)) == numbers(whole)


def test_an_unfinished_sweep_is_collected_as_far_as_it_is(tmp_path: Path) -> None:
    grid = tiny_grid(tmp_path)
    rows = run_here(tmp_path / "out", grid)
    SweepFolder(tmp_path / "out").cell_file(grid.cells[0].key).unlink()
    found = collect(tmp_path / "out", grid.cells, {})
    assert list(found.unfinished) == [grid.cells[0].key]
    assert numbers(read_rows(tmp_path / "out")) == numbers([row for row in rows if row.cell != grid.cells[0].key])


@pytest.mark.parametrize("edit", ["newer", "kind", "column", "length", "text"])
def test_tables_that_cannot_be_read(tmp_path: Path, edit: str) -> None:
    grid = tiny_grid(tmp_path, measurements=(10,), seeds=1)
    run_here(tmp_path / "out", grid)
    path = tmp_path / "out/sweep.h5"
    if edit == "text":
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "r+") as file:
            if edit == "newer":
                file.attrs["format"] = 99
            elif edit == "kind":
                file.attrs["kind"] = "poem"
            else:
                del file["rows/mse"]
                if edit == "length":
                    file["rows/mse"] = [1.0]
    says = {"newer": "format 99", "kind": "poem"}.get(edit, "sweep.h5")
    with pytest.raises(ValueError, match=says) as caught:
        read_rows(tmp_path / "out")
    assert_one_sentence(caught.value)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file") as caught:
        read_rows(tmp_path)
    assert_one_sentence(caught.value)


# --- plans as files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", ready_plans())
def test_ready_plans_expand_and_survive_toml(name: str, quick: bool) -> None:
    plan = ready_plan(name, quick=quick)
    assert plan.name == name
    assert plan_from_table(tomllib.loads(plan_text(plan)), "again") == plan
    grid = expand(plan)
    assert grid.cells
    again = plan_from_table(tomllib.loads(plan_text(grid.plan)), "as run")
    assert [cell.key for cell in expand(again).cells] == [cell.key for cell in grid.cells]


CLAIM = """
[[claim]]
says = "pursuit is no worse than itself"
source = "reflexivity"
operator = "gaussian"
ours = "omp"
rival = "omp"
"""
GOOD = 'images = ["in-range:1"]\nmeasurements = [10]\n[[method]]\nsolver = "omp"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("measurements", "measurement"), "try 'measurements'"),
        (GOOD.replace('"omp"', '"latent-serach"'), "try 'latent-search'"),
        (GOOD.replace("solver", "slover"), "try 'solver'"),
        ('operator = "gausian"\n' + GOOD, "try 'gaussian'"),
        ('fidelity = ["trimed"]\n' + GOOD, "try 'trimmed'"),
        (GOOD.replace("[10]", "[]"), "grid is empty"),
        (GOOD.replace("[10]", "[10, 10]"), "twice"),
        (GOOD.replace("[10]", "[10.5]"), "whole number"),
        (GOOD.replace("[10]", "[true]"), "whole number"),
        (GOOD.replace('["in-range:1"]', "[]"), "grid is empty"),
        (GOOD.replace('images = ["in-range:1"]\n', ""), "no images"),
        ("images = ['in-range:1']\nmeasurements = [10]\n", "grid is empty"),
        ("noise = [-1]\n" + GOOD, "-1"),
        ("noise = [nan]\n" + GOOD, "nan"),
        ("outliers = [0.7]\n" + GOOD, "0.7"),
        ("seeds = 0\n" + GOOD, "seeds"),
        ("seeds = [1]\n" + GOOD, "seeds"),
        ('method = "omp"\nimages = ["in-range:1"]\nmeasurements = [10]\n', "no tables"),
        (GOOD + 'ticket = "bundled"\n', "no prior and no ticket"),
        (GOOD.replace('"omp"', '"untrained"'), "needs an untrained prior"),
        (GOOD.replace('"omp"', '"adam"\nprior = "skip"'), "takes the plan's generator"),
        (GOOD.replace('"omp"', '"untrained"\nprior = "skpi"'), "try 'skip'"),
        (GOOD.replace('"omp"', "3"), "must be text"),
        (GOOD.replace('solver = "omp"', 'prior = "skip"'), "says no solver"),
        ("images = [", "no TOML"),
        (GOOD + '[[claim]]\nsays = "better"\n', "no source"),
        (GOOD + CLAIM.replace("rival", "rivals"), "try 'rival'"),
        (GOOD + CLAIM.replace('"gaussian"', '"denoise"'), "operator of a claim"),
        (GOOD + CLAIM + "at_least = nan\n", "finite"),
        ("claim = 3\n" + GOOD, "no tables"),
        (GOOD + 'operator = ["gausian"]\n', "try 'gaussian'"),
        (GOOD + 'operator = ["inpaint"]\n', "operator of a method"),
        (GOOD + 'operator = ["gaussian", "gaussian"]\n', "twice"),
        (GOOD + "operator = 3\n", "must be text"),
        ('operator = ["gaussian", "fourier"]\n' + GOOD + 'operator = ["gaussian"]\n', "no method of the plan recovers"),
    ],
)
def test_plans_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="try ") as caught:
        read_plan(path)
    assert says in str(caught.value)
    assert_one_sentence(caught.value)


def test_a_file_is_no_ready_plan_but_hides_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.toml", "lip"):
        Path(name).write_text(GOOD)
    with pytest.raises(ValueError, match=r"mine\.toml is a file, .*; try it without --plan"):
        ready_plan("mine.toml")
    assert ready_plan("lip").name == "lip"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": ("in-range:0",)}, "in-range:0"),
        ({"images": ("in-range:x",)}, "in-range:x"),
        ({"images": ("nowhere",)}, "nowhere"),
        ({"images": ("in-range:1", "in-range:2")}, "draw-1"),
        ({"measurements": (10**6,)}, "1000000"),
        ({"measurements": (0,)}, "got 0"),
        ({"measurements": (11,), "operator": ("fourier",)}, "even"),
        ({"generator": "no-such"}, "no-such"),
        ({"methods": (Method("adam", ticket="no-ticket"),)}, "no-ticket"),
        ({"seeds": 10**6}, "cells"),
    ],
)
def test_plans_that_name_what_is_not_there(weights: str, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match="try ") as caught:
        expand(tiny_plan(weights, **changes))
    assert says in str(caught.value)
    assert_one_sentence(caught.value)


def test_an_empty_folder_of_images(weights: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures") as caught:
        expand(tiny_plan(weights, images=(str(tmp_path),)))
    assert_one_sentence(caught.value)


def test_quick_needs_its_table(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(GOOD)
    with pytest.raises(ValueError, match="quick"):
        read_plan(path, quick=True)
    path.write_text(GOOD + "[quick]\nmeasurements = 20\n")
    assert read_plan(path, quick=True).measurements == (20,)
    assert read_plan(path).measurements == (10,)


def test_a_small_form_claims_what_it_measures(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    small = "[quick]\noperator = ['inpaint']\n"
    path.write_text(
        "operator = ['gaussian', 'inpaint']\n" + GOOD + CLAIM + CLAIM.replace("gaussian", "inpaint") + small
    )
    assert [claim.operator for claim in read_plan(path).claims] == ["gaussian", "inpaint"]
    assert [claim.operator for claim in read_plan(path, quick=True).claims] == ["inpaint"]


def test_a_small_form_has_the_methods_for_its_operators(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    others = "".join(f'[[method]]\nsolver = "{name}"\noperator = {tasks}\n' for name, tasks in METHODS_FOR.items())
    path.write_text("operator = ['gaussian', 'inpaint']\n" + GOOD + others + "[quick]\noperator = ['inpaint']\n")
    assert [(each.solver, each.operator) for each in read_plan(path).methods[1:]] == [
        (name, tuple(tasks)) for name, tasks in METHODS_FOR.items()
    ]
    assert [(each.solver, each.operator) for each in read_plan(path, quick=True).methods] == [
        ("omp", ()),
        ("tv", ("inpaint",)),
    ]


METHODS_FOR = {"lasso-dct": ["gaussian"], "tv": ["gaussian", "inpaint"]}


def test_a_small_form_of_the_usual_operator_keeps_its_claims_and_refuses_what_are_none(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(GOOD + CLAIM + "[quick]\nmeasurements = 20\n")
    assert len(read_plan(path, quick=True).claims) == 1
    path.write_text("claim = 3\n" + GOOD + "[quick]\nmeasurements = 20\n")
    with pytest.raises(ValueError, match="no tables"):
        read_plan(path, quick=True)


def test_a_claim_on_an_unknown_method_is_said(weights: str) -> None:
    claim = Claim("better", "nobody", "gaussian", "omp", "opm")
    (note,) = expand(tiny_plan(weights, claims=(claim,))).notes
    assert "'opm'" in note and "(omp)" in note


def test_a_ticket_beside_its_dense_generator(tmp_path: Path, short_adam: None) -> None:
    name, path = "mnist-dcgan-28", tmp_path / "half.safetensors"
    weight = load_generator(name).get_parameter("main.3.weight").detach()
    mask = Mask({"main.3.weight": weight.abs() > weight.abs().median()})
    write_ticket(path, Ticket(mask, None, replace(about_generator(name), criterion="magnitude")))
    methods = (Method("adam"), Method("adam", ticket=str(path)))
    grid = expand(Plan(methods, ("in-range:2",), (60,), generator=name))
    rows = run_here(tmp_path / "out", grid)
    assert [(row.ticket, row.density, row.criterion) for row in rows[:2]] == [("", 1.0, "")] * 2
    assert [(row.ticket, row.criterion, row.prior) for row in rows[2:]] == [("half", "magnitude", name)] * 2
    assert rows[2].density == pytest.approx(0.5, abs=1e-3)
    assert rows[2].psnr != rows[0].psnr
    labels = [each.recoverer.label for each in summarise(rows)]
    assert labels == ["adam", "adam half"]
    write_ticket(path, Ticket(mask, None, replace(about_generator(name), criterion="random")))
    with pytest.raises(ValueError, match="has changed") as caught:
        run_cell(grid.cells[-1])
    assert_one_sentence(caught.value)
    assert expand(Plan(methods, ("in-range:2",), (60,), generator=name)).cells[-1].key != grid.cells[-1].key


def test_an_untrained_ticket_is_of_its_methods_prior(
    tmp_path: Path, large_weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOLVERS, "untrained", lambda: UntrainedFit(iterations=3))
    shape, path = (3, 64, 64), tmp_path / "tenth.safetensors"
    network = untrained_network("deep_decoder", shape, seed=0)
    weights = {name: network.get_parameter(name).detach() for name in network.weight_groups()["hidden"]}
    mask = Mask({name: values > values.median() for name, values in weights.items()})
    write_ticket(path, Ticket(mask, None, about_untrained("deep_decoder", shape, 0)))
    dense = Method("untrained", prior="deep-decoder")
    plan = tiny_plan(large_weights, methods=(dense, replace(dense, ticket=str(path))), images=("astronaut",), seeds=1)
    rows = [row for cell in expand(replace(plan, measurements=(200,))).cells for row in run_cell(cell).rows]
    assert [(row.prior, row.ticket) for row in rows] == [("deep-decoder", ""), ("deep-decoder", "tenth")]
    assert summarise(rows)[1].gain is not None, "the ticket is not compared with its dense network"
    with pytest.raises(ValueError, match="deep_decoder, its method of skip") as caught:
        expand(replace(plan, methods=(Method("untrained", prior="skip", ticket=str(path)),)))
    assert_one_sentence(caught.value)


# --- the summary ------------------------------------------------------------------------------------------------------


def row(image: str, seed: int, solver: str, level: float, ticket: str = "", prior: str = "gan") -> Row:
    blank = {name: "" if kind is str else kind(0) for name, kind in COLUMNS.items()}
    told = {"image": image, "seed": seed, "solver": solver, "psnr": level, "ticket": ticket, "prior": prior}
    return Row(**(blank | told | {"mse": 10 ** (-level / 10)}))  # type: ignore[arg-type]


def test_a_summary_pairs_images_and_seeds() -> None:
    dense = [row(name, seed, "auto", 20 + 10 * place + seed) for place, name in enumerate("abcd") for seed in range(2)]
    ticket = [dataclasses.replace(each, ticket="t", psnr=each.psnr - 1.5) for each in dense]
    lasso = [row(name, seed, "lasso-dct", 15.0, prior="") for name in "abcd" for seed in range(2)]
    first, second, third = summarise(dense + ticket + lasso)
    assert first.psnr.estimate == 35.5
    assert first.gain is None
    assert (second.gain.estimate, second.gain.low, second.gain.high) == (-1.5, -1.5, -1.5)  # type: ignore[union-attr]
    assert third.gain.estimate == -20.5  # type: ignore[union-attr]


def test_a_summary_compares_a_ticket_with_its_own_dense_network() -> None:
    generator = [row(name, 0, "auto", 30.0) for name in "ab"]
    skip = [row(name, 0, "untrained", 25.0, prior="skip") for name in "ab"]
    ticket = [dataclasses.replace(each, ticket="t", psnr=26.0) for each in skip]
    decoder = [row(name, 0, "untrained", 20.0, prior="deep-decoder") for name in "ab"]
    gains = [each.gain for each in summarise(generator + decoder + skip + ticket)]
    assert [gain and gain.estimate for gain in gains] == [None, -10.0, -5.0, 1.0]
    assert [each.gain and each.gain.estimate for each in summarise(decoder + skip + ticket)] == [None, None, 1.0]


# --- claims -----------------------------------------------------------------------------------------------------------


def test_claims_are_judged_by_paired_differences() -> None:
    dense = [row(name, seed, "auto", 20 + 10 * place) for place, name in enumerate("abcd") for seed in range(2)]
    at_200 = [dataclasses.replace(each, m=200, psnr=each.psnr + 5) for each in dense]
    ticket = [dataclasses.replace(each, ticket="t", psnr=each.psnr - 0.5) for each in (*dense, *at_200)]
    other = [dataclasses.replace(each, operator="inpaint", psnr=0.0) for each in ticket]
    infinite = dataclasses.replace(dense[0], image="e", psnr=math.inf)
    rows = [dataclasses.replace(each, operator="gaussian") for each in (*dense, *at_200, *ticket, infinite)] + other
    claims = [
        Claim("as good", "me", "gaussian", "auto t", "auto", -0.5),
        Claim("better", "me", "gaussian", "auto t", "auto"),
        Claim("better", "me", "gaussian", "auto t", "tv"),
    ]
    held, lost, missing = judge(claims, rows)
    assert held.by == "this sweep"
    assert judge(claims, rows, finished=False)[0].by == "this sweep, which is not finished"
    assert (held.holds, lost.holds, missing.holds) == (True, False, None)
    assert held.measured == lost.measured == "-0.50 dB (-0.50 to -0.50)" and missing.measured == ""
    assert held.claim == "as good (me)"
    assert held.asked == "auto t over auto, gaussian: at least -0.50 dB"


def test_verdicts_are_stored_and_read(tmp_path: Path) -> None:
    verdicts = [Verdict("a", "b", "c", True, "this sweep"), Verdict("a", "b", "", None, "x.json")]
    assert read_verdicts(tmp_path) == [] == stored_verdicts(tmp_path / "nowhere")
    write_verdicts(tmp_path, verdicts)
    assert read_verdicts(tmp_path) == verdicts
    write_verdicts(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    entry = {"claim": "a", "asked": "b", "measured": "c", "holds": False}
    (tmp_path / "bench.json").write_text(json.dumps({"verdicts": [entry], "rows": 3}))
    (tmp_path / "other.json").write_text("[1, 2]")
    assert stored_verdicts(tmp_path) == [Verdict("a", "b", "c", False, "bench.json")]
    (tmp_path / "bench.json").write_text('{"verdicts": [3]}')
    with pytest.raises(ValueError, match="damaged") as caught:
        stored_verdicts(tmp_path)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("text", ["{", "{}", "[3]", '[{"claim": "a", "asked": "b", "measured": "c", "holds": 2}]'])
def test_damaged_verdicts(tmp_path: Path, text: str) -> None:
    (tmp_path / "verdicts.json").write_text(text)
    with pytest.raises(ValueError, match="try ") as caught:
        read_verdicts(tmp_path)
    assert_one_sentence(caught.value)
