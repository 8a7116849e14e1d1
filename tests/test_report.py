"""Figures show the numbers of their rows, and a page holds all it shows."""

import itertools
import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import LinearGenerator, assert_one_sentence
from matplotlib.figure import Figure
from PIL import Image
from reports import COUNTS, IMAGES, ROWS, tiny_sweep

from cs_lip.cli.main import main
from cs_lip.cli.recover import recover as recover_command
from cs_lip.cli.restore import restore as restore_command
from cs_lip.evaluation.measured_spectrum import directions_seen, measured_spectra, run_spectra
from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.run import Measurements, Run, strict
from cs_lip.evaluation.store import RUN_FILE, save_run
from cs_lip.evaluation.sweep.claims import Verdict
from cs_lip.evaluation.sweep.summary import by_setting, dense_rival, gain_over_dense, recoverer_of
from cs_lip.evaluation.sweep.table import Row, write_table
from cs_lip.operators import Gaussian, SubsampledFourier
from cs_lip.recovery import recover
from cs_lip.report.commands import run_command
from cs_lip.report.convergence import convergence_figure
from cs_lip.report.curves import error_figure
from cs_lip.report.density import density_figure, has_curve
from cs_lip.report.figures import recovery_figure, save_recovery_figure
from cs_lip.report.groups import mean_of, method_names
from cs_lip.report.page import render
from cs_lip.report.phase import phase_figure, phase_groups, success_rate
from cs_lip.report.report import write_report
from cs_lip.report.restoration import restoration_figure
from cs_lip.report.run_page import run_page
from cs_lip.report.spectrum import spectrum_figure
from cs_lip.report.style import add_legend, encoded, legend_name, look, new_figure, page_svg, save_figure
from cs_lip.report.sweep_page import sweep_page
from cs_lip.report.sweep_tables import claims_table, means_table, rows_table
from cs_lip.report.transfer import Across, transfer_figure


def row(mse: float = 1e-3, **changes: object) -> Row:
    """A row of the dense generator."""
    given: dict[str, object] = {
        "image": "draw-1",
        "kind": "in-range",
        "operator": "gaussian",
        "m": 100,
        "n": 768,
        "sigma": 0.0,
        "snr_db": math.nan,
        "outliers": 0.0,
        "prior": "digiface-dcgan",
        "ticket": "",
        "density": 1.0,
        "granularity": "",
        "criterion": "",
        "solver": "latent-search",
        "fidelity": "least-squares",
        "seed": 0,
        "status": "converged",
        "mse": mse,
        "psnr": -10 * math.log10(mse) if math.isfinite(mse) else math.nan,
        "ssim": 0.9,
        "oracle_psnr": math.nan,
        "relative_residual": 1e-3,
        "iterations": 30,
        "seconds": 0.5,
        "cell": "0" * 64,
        "versions": json.dumps({"cs-lip": "0.1.0"}),
    }
    return Row(**(given | changes))  # type: ignore[arg-type]


TV = {"solver": "tv", "prior": "", "density": math.nan}
TICKET = {"ticket": "mine", "density": 0.2, "granularity": "weight", "criterion": "magnitude"}


def lines(figure: Figure, panel: int = 0) -> list[tuple[list[float], list[float]]]:
    """The points of every line that has some."""
    found = [
        (list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in figure.axes[panel].lines
    ]
    return [(x, y) for x, y in found if x]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was really run."""
    return tiny_sweep(tmp_path_factory.mktemp("swept"))


@pytest.fixture
def stored() -> Run:
    """A run of two images that a linear generator drew."""
    rng = torch.Generator().manual_seed(0)
    generator = LinearGenerator(0.1 * torch.randn(48, 4, generator=rng), (3, 4, 4))
    truth = generator(torch.randn(2, 4, generator=rng))
    operator = Gaussian((3, 4, 4), 12, seed=1)
    values = operator(truth)
    recovery = recover(operator, values, generator, solver="adam", restarts=1, seed=0)
    config = {
        "measurements": 12,
        "operator": "gaussian",
        "noise": 0.0,
        "seed": 0,
        "generator": "mine",
        "solver": "adam",
    }
    measured = Measurements(values, operator.recipe(), 0.0, ("one", "<b>two</b>"), ("in-range", "in-range"))
    return Run(measured, truth, operator.pinv(values), recovery, config | {"images": "bundled samples"}, versions())


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_error_curve_shows_means_over_images_and_seeds_and_leaves_out_what_is_not_finite() -> None:
    errors = {20: (0.1, 0.3, math.nan), 200: (0.01, 0.02, 0.03)}
    rows = [row(mse, m=m, seed=seed) for m, own in errors.items() for seed, mse in enumerate(own)]
    ((x, y),) = lines(error_figure(rows))
    assert x == [20, 200]
    assert y == pytest.approx([0.2, 0.02])


def test_the_error_curve_has_a_panel_a_kind_and_a_line_a_method() -> None:
    rows = [
        row(0.1, m=m, kind=kind, **method)
        for m in (10, 20)
        for kind in ("in-range", "picture")
        for method in ({}, TV, TICKET)
    ]
    figure = error_figure(rows)
    assert [axis.get_title() for axis in figure.axes] == ["images in range", "real pictures"]
    assert [len(lines(figure, panel)) for panel in (0, 1)] == [3, 3]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "latent-search, dense",
        "latent-search, ticket mine (density 0.2)",
        "tv",
    ]


def test_density_ends_at_the_dense_network_and_rivals_are_lines_across() -> None:
    rows = [row(1e-4), row(1e-2, **TV), row(1e-2, **TICKET), row(1e-1, **(TICKET | {"density": 0.05}))]
    curve, across = lines(density_figure(rows))
    assert curve[0] == [0.05, 0.2, 1.0]
    assert curve[1] == pytest.approx([10, 20, 40])
    assert across[1] == pytest.approx([20, 20])
    with pytest.raises(ValueError, match="got none") as caught:
        density_figure([row()])
    assert_one_sentence(caught.value)


def test_weight_and_channel_tickets_are_lines_of_their_own() -> None:
    channels = TICKET | {"granularity": "channel"}
    rows = [row(1e-4), row(1e-2, **TICKET), row(1e-1, **(TICKET | {"density": 0.05}))]
    rows += [row(1e-3, **(channels | {"density": density})) for density in (0.3, 0.10001)]
    figure = density_figure(rows)
    assert sorted(x for x, _ in lines(figure)) == [[0.05, 0.2, 1.0], [0.1, 0.3, 1.0]]
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {"magnitude (weights), m = 100", "magnitude (channels), m = 100"}


def test_a_curve_over_density_needs_two_densities_of_one_family() -> None:
    one, other = row(**TICKET), row(**(TICKET | {"density": 0.05}))
    assert has_curve([one, other])
    assert not has_curve([one, row(**(TICKET | {"density": 0.20001}))])
    assert not has_curve([one, replace(other, granularity="channel"), replace(other, m=200)])


def test_the_phase_diagram_counts_what_is_not_finite_as_a_failure() -> None:
    rows = [row(1e-4, seed=0), row(1e-4, seed=1), row(math.nan, seed=2), row(1e-1, seed=3)]
    rows += [row(1e-4, sigma=0.1, m=200)]
    shares = np.asarray(phase_figure(rows).axes[0].images[0].get_array().filled(-1))
    assert shares.tolist() == [[0.5, -1], [-1, 1]]


def test_the_phase_diagram_keeps_tasks_and_outliers_apart() -> None:
    grid = list(itertools.product((50, 100), (0.0, 0.1)))
    rows = [row(1e-4, m=m, sigma=sigma) for m, sigma in grid]
    rows += [row(1e-1, m=m, sigma=sigma, outliers=0.05) for m, sigma in grid]
    rows += [row(1e-1, m=768, sigma=sigma, operator="denoise") for _, sigma in grid]
    figure = phase_figure(rows)
    titles = ["images in range, 0.0% outliers", "images in range, 5.0% outliers"]
    assert [axis.get_title().split("\n")[-1] for axis in figure.axes[:2]] == titles
    shares = [np.asarray(axis.images[0].get_array()).tolist() for axis in figure.axes[:2]]
    assert shares == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]]
    assert not phase_groups(rows[8:])
    with pytest.raises(ValueError, match="several m") as caught:
        phase_figure(rows[8:])
    assert_one_sentence(caught.value)


def test_the_transfer_maps_are_tickets_by_images_and_by_tasks() -> None:
    def means(rows: list[Row], across: Across) -> tuple[list[str], list[list[float]]]:
        axis = transfer_figure(rows, across).axes[0]
        return [text.get_text() for text in axis.get_xticklabels()], axis.images[0].get_array().tolist()

    places = [(ticket, image) for ticket in ("a", "b") for image in ("cat", "dog")]
    rows = [row(10.0 ** -(n + 1), image=i, **(TICKET | {"ticket": t})) for n, (t, i) in enumerate(places)]
    names, values = means(rows, "image")
    assert names == ["cat", "dog"]
    assert np.allclose(values, [[10, 20], [30, 40]])
    names, values = means([*rows, *(replace(each, operator="inpaint") for each in rows)], "task")
    assert names == ["gaussian", "inpaint"]
    assert np.allclose(values, [[15, 15], [35, 35]])


@pytest.mark.parametrize(
    ("changes", "titles"),
    [
        ({}, ["transfer-tasks", "transfer-images"]),
        ({"ticket": ""}, []),
        ({"image": "cat"}, ["transfer-tasks"]),
        ({"operator": "denoise"}, ["transfer-images"]),
    ],
)
def test_a_page_has_the_maps_that_its_rows_can_fill(tmp_path: Path, changes: dict[str, str], titles: list[str]) -> None:
    rows = [
        replace(row(10.0 ** -(n + 1), operator=operator, image=image, solver=solver), ticket=ticket)
        for n, (operator, image, (solver, ticket)) in enumerate(
            itertools.product(("denoise", "inpaint"), ("cat", "dog"), (("adam", "mine"), ("tv", "")))
        )
    ]
    assert maps(tmp_path, [replace(each, **changes) for each in rows]) == titles


def test_methods_on_other_tasks_are_not_compared_over_images(tmp_path: Path) -> None:
    pairs = itertools.product((("denoise", "tv"), ("inpaint", "adam")), ("cat", "dog"))
    rows = [row(0.1, operator=task, image=image, solver=solver, ticket="mine") for (task, solver), image in pairs]
    assert maps(tmp_path, rows) == ["transfer-tasks"]


def test_a_map_is_of_one_noise_and_one_share_of_outliers(tmp_path: Path) -> None:
    every = itertools.product((0.0, 0.1), ("denoise", "inpaint"), ("tv", "adam"))
    rows = [row(0.1 + s, sigma=s, operator=task, solver=solver, ticket="mine") for s, task, solver in every]
    assert maps(tmp_path, rows) == ["transfer-tasks-1", "transfer-tasks-2"]
    titles = [panel.title for panel in sweep_page(tmp_path).panels]
    assert titles == [f"How tickets carry over to tasks, noise {sigma}" for sigma in ("0", "0.1")]
    for mixed in (rows, [row(), row(m=200)]):
        with pytest.raises(ValueError, match="one noise") as caught:
            transfer_figure(mixed, "task")
        assert_one_sentence(caught.value)


def maps(folder: Path, rows: list[Row]) -> list[str]:
    """The maps on the page of a sweep, which has no curve for single numbers of measurements."""
    write_table(folder, rows, {}, versions())
    names = [each.name for each in sweep_page(folder).panels]
    assert "error" not in names
    return [name for name in names if name.startswith("transfer")]


def test_convergence_draws_the_history(stored: Run) -> None:
    history = stored.recovery.history
    drawn = [y for _, y in lines(convergence_figure(stored)) if len(y) > 1]
    assert drawn == [[record.relative_residual[image] for record in history] for image in range(2)]
    with pytest.raises(ValueError, match="no history") as caught:
        convergence_figure(replace(stored, recovery=replace(stored.recovery, history=())))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("kind", [Gaussian, SubsampledFourier])
def test_spectra_are_the_singular_values_of_a_j(kind: type) -> None:
    weight = torch.randn(48, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = kind((3, 4, 4), 12, seed=1).double()
    rows = operator(weight.T.reshape(6, 3, 4, 4)).flatten(1)
    rows = torch.cat([rows.real, rows.imag], 1) if rows.is_complex() else rows
    spectra = measured_spectra(operator, LinearGenerator(weight, (3, 4, 4)), torch.zeros(2, 6, dtype=torch.float64))
    expected = torch.from_numpy(np.linalg.svd(rows.numpy(), compute_uv=False))
    assert torch.allclose(spectra, expected.expand(2, -1), rtol=1e-10)


def test_a_direction_is_seen_above_the_noise_and_without_noise_above_rounding() -> None:
    spectra = torch.tensor([[5.0, 1.0, 0.1, 1e-9], [5.0, 3.0, 2.0, 1.0]])
    assert directions_seen(spectra, 10, 0.5) == [2, 4]
    assert directions_seen(spectra, 10, 0.0) == [3, 4]
    assert len(lines(spectrum_figure(spectra, ("a", "b"), [2, 4], 0.5))) == 3


def test_a_run_without_its_generator_has_no_spectra(stored: Run) -> None:
    assert stored.recovery.latents is not None
    assert run_spectra(stored) is None


# --- statistics of groups ---------------------------------------------------------------------------------------------


def test_a_success_rate_is_by_images_and_seeds() -> None:
    rows = [row(1e-4 if image < 5 else math.nan, image=f"{image}", seed=seed) for image in range(10) for seed in (0, 1)]
    rate = success_rate(rows)
    assert (rate.estimate, rate.count) == (0.5, 20)
    assert rate == mean_of([replace(each, mse=float(each.mse == 1e-4)) for each in rows], "mse")


def test_every_look_is_another_until_they_return() -> None:
    assert len({look(number) for number in range(168)}) == 168
    assert look(168) == look(0)


def test_a_gain_is_paired_by_image_and_seed() -> None:
    dense = [row(psnr=value, image=image) for image, value in (("a", 20.0), ("b", 40.0), ("c", 99.0))]
    ours = [row(psnr=value, image=image, **TICKET) for image, value in (("a", 19.0), ("b", 38.0), ("d", 0.0))]
    (setting,) = by_setting(dense + ours).values()
    gain = gain_over_dense(ours, setting)
    assert gain is not None
    assert gain.estimate == pytest.approx(-1.5)
    assert gain_over_dense(dense, setting) is None
    assert gain_over_dense(ours, setting | {recoverer_of(dense[0]): dense[2:]}) is None
    assert mean_of([row(math.nan)], "mse") is None


def test_a_ticket_is_measured_against_its_own_dense_network() -> None:
    rows = [row(), row(**TICKET), row(**TV), row(solver="adam"), row(**(TICKET | {"solver": "adam"}))]
    found = [recoverer_of(each) for each in rows]
    first, _, tv, adam, _ = found
    assert [dense_rival(each, found) for each in found] == [None, first, first, first, adam]
    untrained = recoverer_of(row(solver="untrained", prior="skip"))
    assert dense_rival(untrained, [untrained, tv]) is None
    assert dense_rival(tv, [untrained, tv]) is None
    assert dense_rival(untrained, [untrained, first]) == first
    assert len(set(method_names(rows).values())) == 5


def test_tables_tell_means_with_their_intervals_and_leave_empty_columns_out() -> None:
    rows = [row(mse, image=image, **method) for mse, image in ((1e-4, "a"), (1e-2, "b")) for method in ({}, TV)]
    first, second = means_table(rows).rows
    assert [entry.text for entry in first[:4]] == ["images in range", "100", "latent-search", "2"]
    assert first[5].text == "30.00 (20.00 to 40.00)"
    assert float(first[5].key) == 30
    assert (first[6].text, second[6].text) == ("-", "+0.00 (+0.00 to +0.00)")
    shown = rows_table(rows)
    assert "ticket" not in shown.columns
    assert "prior" in shown.columns
    assert rows_table([row(psnr=math.inf)]).rows[0][shown.columns.index("PSNR dB")].key == "Infinity"


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_table_of_claims_has_the_verdict_first() -> None:
    told = Verdict("a is b", "at least 1", "+2", True, "x.json")
    table = claims_table([told, Verdict("a is c", "at least 1", "", None, "x.json")])
    assert table.columns[:3] == ("verdict", "measured", "claim")
    assert [[entry.text for entry in line][:3] for line in table.rows] == [
        ["Holds", "+2", "a is b"],
        ["Not measured", "", "a is c"],
    ]


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_becomes_a_file_and_the_same_one_twice(tmp_path: Path, suffix: str, begins: bytes) -> None:
    rows = [row(0.1, m=m, **(TICKET | {"ticket": "$x_y"})) for m in (10, 20)]
    save_figure(tmp_path / f"a.{suffix}", error_figure(rows))
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert content.startswith(begins)
    assert content == encoded(error_figure(rows), suffix)
    with pytest.raises(ValueError, match=r"a\.txt") as caught:
        save_figure(tmp_path / "a.txt", error_figure(rows))
    assert_one_sentence(caught.value)


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_drawn_without_a_warning(stored: Run, tmp_path: Path) -> None:
    named = replace(stored, measurements=replace(stored.measurements, names=("日本.png", "\u0f40.png")))
    save_recovery_figure(tmp_path / "run.png", named)
    page = render(run_page(named))
    assert "日本.png" in page
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_two_figures_on_a_page_share_no_id_and_take_the_colour_of_the_text() -> None:
    figure = error_figure([row(0.1, m=m) for m in (10, 20)])
    ids = [re.findall(r'\bid="([^"]+)"', page_svg(figure, name)) for name in ("one", "two")]
    assert ids[0]
    assert set(ids[0]).isdisjoint(ids[1])
    svg = page_svg(figure, "one")
    assert "#000000" not in svg
    for target in re.findall(r'(?:url\(|xlink:href=")#([^)"]+)', svg):
        assert target in ids[0]


@pytest.mark.parametrize(
    "config",
    [
        {"measurements": 500, "operator": "gaussian", "generator": "digiface-dcgan", "solver": "auto", "noise": 0.01},
        {
            "measurements": 64,
            "operator": "subsampled_fourier",
            "generator": "x",
            "ticket": "my ticket.safetensors",
            "solver": "image-adaptive",
            "restarts": 3,
            "noise": 0.0,
            "images": ["a b.png", "camera"],
            "outliers": {"fraction": 0.02, "kind": "gross"},
            "fidelity": {"kind": "Trimmed", "contamination": 0.1},
            "solver_settings": {"tuning": {"held_out": 0.2}},
        },
        {"from": "y.h5", "generator": "x", "solver": "intermediate-layers", "solver_settings": {"radius": 2.0}},
    ],
)
def test_the_command_of_a_recovery_says_what_the_configuration_does(config: dict[str, object]) -> None:
    words = shlex.split(run_command(config | {"seed": 7}))
    assert words[:2] == ["cs-lip", "recover"]
    said = recover_command.make_context("recover", words[2:]).params
    assert said["seed"] == 7
    assert said["count"] == config.get("measurements")
    assert said["ticket"] == config.get("ticket")
    assert said["solver"] == config["solver"]
    assert (said["noise"] or 0.0) == config.get("noise", 0.0)
    assert [str(path) for path in said["images"]] == config.get("images", [])
    if "ticket" in config:
        assert (said["operator"], said["fidelity"], said["contamination"]) == ("fourier", "trimmed", 0.1)
        assert (said["outliers"], said["restarts"], said["held_out"]) == (0.02, 3, 0.2)
    if "from" in config:
        assert (str(said["source"]), said["radius"]) == ("y.h5", 2.0)


def test_the_command_of_a_recovery_from_a_file_says_a_noise_of_zero_and_numbers_whole() -> None:
    config = {"from": "y.h5", "generator": "x", "solver": "auto", "noise": 0.0, "seed": 0}
    config |= {"fidelity": {"kind": "Trimmed", "contamination": 0.123456789}}
    words = shlex.split(run_command(config))
    assert words[words.index("--noise") + 1] == "0.0"
    assert words[words.index("--contamination") + 1] == "0.123456789"


def test_names_with_an_underscore_are_in_legends_and_numbers_that_are_none_are_strict_json() -> None:
    figure = new_figure(3, 2)
    axis = figure.subplots()
    axis.plot([0, 1], label=legend_name("_DSC0001.png"))
    add_legend(figure, axis)
    assert [text.get_text().strip("\N{ZERO WIDTH SPACE}") for text in figure.legends[0].get_texts()] == ["_DSC0001.png"]
    assert strict({"a": [math.inf, 1.0, {"b": math.nan}], "c": "x"}) == {"a": [None, 1.0, {"b": None}], "c": "x"}


def test_the_command_of_a_restoration_says_what_the_configuration_does() -> None:
    config = {"picture": "camera", "task": "inpaint", "prior": "skip", "simulate": True, "fraction": 0.3, "mask": None}
    config |= {"seed": 1, "noise": 0.0, "solver_settings": {"iterations": 50, "stop": "never"}}
    words = shlex.split(run_command(config))
    assert words[:3] == ["cs-lip", "restore", "camera"]
    assert words[words.index("--noise") + 1] == "0.0"  # which is not what every task has by itself
    assert "--mask" not in words
    assert words[words.index("--fraction") + 1] == "0.3"
    assert words[words.index("--iterations") + 1] == "50"
    assert "--simulate" in words
    known = {option for parameter in restore_command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


# --- pages ------------------------------------------------------------------------------------------------------------


def test_the_page_of_a_sweep_holds_all_it_shows_and_is_the_same_again(swept: Path, tmp_path: Path) -> None:
    text = write_report(swept, tmp_path / "a.html").read_text()
    assert write_report(swept, tmp_path / "a.html").read_text() == text
    addresses = re.findall(r'\b(?:src|href)="([^"]*)"', text)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    for word in ("astronaut", "omp", "Error against the number of measurements", "seeds = 2"):
        assert word in text


def test_the_gallery_of_a_sweep_has_the_images_of_its_files(swept: Path) -> None:
    gallery = sweep_page(swept).gallery
    assert gallery is not None
    assert gallery.counts == COUNTS
    assert len(gallery.images) == IMAGES
    assert len(gallery.pictures) == IMAGES * (1 + len(COUNTS))


def test_damaged_images_are_left_out_and_the_numbers_stay(swept: Path, tmp_path: Path) -> None:
    for path in swept.rglob("*"):
        copy = tmp_path / path.relative_to(swept)
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes()[:50] if path.suffix in (".npz", ".png") else path.read_bytes())
    page = sweep_page(tmp_path)
    assert page.gallery is None
    assert len(page.tables[1].rows) == ROWS


def test_a_diverged_image_is_not_called_exact(stored: Run) -> None:
    images = stored.recovery.images.clone()
    images[0] = math.nan
    truth = images[1].expand(2, -1, -1, -1).clamp(0, 1)
    run = replace(stored, truth=truth, recovery=replace(stored.recovery, images=images), least_squares=truth)
    captions = [text.get_text() for axis in recovery_figure(run).axes for text in axis.texts]
    assert [captions.count(text) for text in ("exact", "-")] == [3, 1]
    assert [axis.get_title() for axis in restoration_figure(run, "").axes] == ["before: exact", "after: -", "truth"]


def test_the_median_of_two_is_between_them(stored: Run) -> None:
    assert stored.truth is not None
    levels = [psnr(*pair) for pair in zip(stored.recovery.images, stored.truth, strict=True)]
    said = dict(run_page(stored).summary)["PSNR"]
    assert said.endswith(f"median {sum(levels) / 2:.1f} dB")


def test_the_page_of_a_run_escapes_names(stored: Run, tmp_path: Path) -> None:
    save_run(tmp_path / RUN_FILE, stored)
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;two&lt;/b&gt;" in text
    assert "<b>two" not in text
    assert run_command(stored.config) in text


def test_what_cannot_be_reported_is_refused_in_a_sentence(tmp_path: Path, swept: Path) -> None:
    for name in ("empty", "no-rows", "cut", "planned", "text"):
        (tmp_path / name).mkdir()
    write_table(tmp_path / "no-rows", [], {}, {})
    (tmp_path / "cut/sweep.h5").write_bytes((swept / "sweep.h5").read_bytes()[:900])
    (tmp_path / "planned/plan.toml").write_text("")
    (tmp_path / "text/recovery.h5").write_text("not HDF5")
    (tmp_path / "notes.html").write_text("mine")
    Image.new("L", (4, 4)).save(tmp_path / "picture.png")
    cases = [
        (["missing"], "there is no"),
        (["empty"], "neither a run"),
        (["no-rows"], "no rows"),
        (["cut"], "not a whole HDF5 file"),
        (["planned"], "no table yet"),
        (["text"], "not a whole HDF5 file"),
        (["picture.png"], "not a whole HDF5 file"),
        ([str(swept), "--out", "notes.html"], "no page of cs-lip"),
        ([str(swept), "--out", "empty"], "is a folder"),
        ([str(swept), "--out", "nowhere/page.html"], "no folder"),
        ([str(swept), "--out", "/proc/page.html"], "try another path"),
    ]
    for words, says in cases:
        given = [str(tmp_path / word) if not word.startswith(("-", "/")) else word for word in words]
        result = CliRunner().invoke(main, ["report", *given])
        assert result.exit_code == 2, (words, result.output)
        last = result.stderr.strip().splitlines()[-1]
        assert says in last, (words, last)
        assert_one_sentence(last)
    assert (tmp_path / "notes.html").read_text() == "mine"
    assert not list(tmp_path.rglob("report.html"))
