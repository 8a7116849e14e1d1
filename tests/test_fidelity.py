"""Robust fidelities, and measurements that went bad."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import LinearGenerator, assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.cli.main import main
from cs_lip.evaluation.acquisition import GROSS, OUTLIER_KINDS, Outliers, acquire
from cs_lip.evaluation.store import load_measurements, load_run
from cs_lip.operators import Gaussian, SubsampledFourier
from cs_lip.priors import DCGAN
from cs_lip.recovery import LevenbergMarquardt, Recovery, recover
from cs_lip.recovery.fidelity import CLIP, FIDELITIES, L1, Fidelity, Huber, LeastSquares, Trimmed, huber_scale
from cs_lip.recovery.median_of_means import MedianOfMeans, middle_blocks, partitions
from cs_lip.recovery.min_max import MinMax

SHAPE, LATENTS, M = (1, 12, 12), 5, 120
ROBUST = [name for name in FIDELITIES if name != "least-squares"]
QUICK = ("--solver", "levenberg-marquardt", "--restarts", "4")
SEEDS = st.integers(0, 2**31)


def residuals(seed: int, rows: int = 3, m: int = 90, bad: int = 8) -> Tensor:
    """Normal ones of another scale in every row, the first ``bad`` of each a hundred times larger."""
    rng = torch.Generator().manual_seed(seed)
    found = torch.randn(rows, m, generator=rng, dtype=torch.float64)
    found[:, :bad] *= 100
    return found * torch.tensor([1e-3, 1.0, 1e4], dtype=torch.float64)[:rows, None]


@pytest.fixture(scope="module")
def generator() -> LinearGenerator:
    rng = torch.Generator().manual_seed(1)
    return LinearGenerator(torch.randn(144, LATENTS, generator=rng, dtype=torch.float64), SHAPE)


@pytest.fixture(scope="module")
def operator() -> Gaussian:
    return Gaussian(SHAPE, M, seed=2).to(torch.float64)


def fit(
    operator: Gaussian, generator: LinearGenerator, values: Tensor, fidelity: Fidelity, noise: float = 0.05
) -> Recovery:
    solver = LevenbergMarquardt(settled=1e-9)
    return recover(
        operator, values, generator, solver=solver, fidelity=fidelity, restarts=1, noise=noise, latent_penalty=0.0
    )


def truth(generator: LinearGenerator) -> Tensor:
    return generator(torch.linspace(-1, 1, LATENTS, dtype=torch.float64)[None])


# --- values and weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIDELITIES)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, contamination=st.floats(0, 0.2))
def test_the_weights_give_the_gradient_of_the_misfit(name: str, seed: int, contamination: float) -> None:
    fidelity = FIDELITIES[name](contamination)
    residual = residuals(seed).requires_grad_()
    slope = torch.autograd.grad(fidelity.misfit(residual).sum(), residual)[0]
    if name == "median-of-means":  # its value is written with the weights, whose derivative is zero but for jumps
        slope = 2 * fidelity.weights(residual.detach()) * residual.detach()
        nudge = 1e-7 * residual.detach() * torch.randn(residual.shape, generator=torch.Generator().manual_seed(0))
        ahead, behind = (fidelity.misfit(residual.detach() + sign * nudge) for sign in (1, -1))
        torch.testing.assert_close((ahead - behind) / 2, (slope * nudge).sum(1), rtol=1e-4, atol=1e-12)
        return
    weights = fidelity.weights(residual.detach())
    assert (weights >= 0).all()
    expected = 2 * weights * residual.detach()
    # L1's weights are bounded near 0, where its gradient jumps
    clear = residual.abs() > 0.01 * residual.abs().median(1, keepdim=True).values
    torch.testing.assert_close(slope[clear], expected[clear], rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", FIDELITIES)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, factor=st.floats(1e-6, 1e6))
def test_a_misfit_scales_as_squares_do(name: str, seed: int, factor: float) -> None:
    fidelity, residual = FIDELITIES[name](0.1), residuals(seed)
    torch.testing.assert_close(fidelity.misfit(factor * residual), factor**2 * fidelity.misfit(residual))
    torch.testing.assert_close(fidelity.weights(factor * residual), fidelity.weights(residual))


@pytest.mark.parametrize(("name", "low"), [("l1", 0.98), ("huber", 0.98), ("trimmed", 0.95), ("median-of-means", 0.7)])
def test_normal_residuals_cost_about_their_squares(name: str, low: float) -> None:
    residual = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0))
    ratio = FIDELITIES[name](0.02).misfit(residual) / residual.square().sum(1)
    assert ((low < ratio) & (ratio < 1.03)).all()


def test_zero_residuals_cost_nothing_and_have_finite_weights() -> None:
    for name in FIDELITIES:
        fidelity, residual = FIDELITIES[name](0.1), torch.zeros(2, 50)
        assert torch.equal(fidelity.misfit(residual), torch.zeros(2))
        assert torch.isfinite(fidelity.weights(residual)).all()
        residual[:, 0] = 1.0
        assert torch.isfinite(fidelity.weights(residual)).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, bad=st.integers(0, 40))
def test_the_scale_of_huber_solves_its_equation(seed: int, bad: int) -> None:
    residual = residuals(seed, bad=bad)
    scale = huber_scale(residual.abs())
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    expected = torch.trapezoid(grid.square().clamp(max=CLIP**2) * normal.log_prob(grid).exp(), grid)
    reached = (residual / scale[:, None]).square().clamp(max=CLIP**2).mean(1)
    torch.testing.assert_close(reached, expected.expand(3), rtol=1e-6, atol=0)


def test_trimming_with_no_outlier_in_sight_leaves_nearly_everything_in() -> None:
    residual = torch.randn(2, 2000, generator=torch.Generator().manual_seed(3))
    assert ((Trimmed(0.3).weights(residual) > 0).float().mean(1) > 0.99).all()
    residual[:, :300] = 50.0
    weights = Trimmed(0.3).weights(residual)
    assert (weights[:, :300] == 0).all()


def test_what_is_trusted_is_the_share_of_smallest_residuals() -> None:
    residual = torch.arange(-10.0, 10.0)[None]
    for name in ROBUST:
        trusted = FIDELITIES[name](0.2).trusted(residual)
        assert trusted.sum() == 16
        assert residual[trusted].abs().max() <= residual[~trusted].abs().min()
    assert LeastSquares().trusted(residual).all()


# --- recovery ---------------------------------------------------------------------------------------------------------


def test_trimmed_is_least_squares_on_the_measurements_that_are_good(
    operator: Gaussian, generator: LinearGenerator
) -> None:
    rng = torch.Generator().manual_seed(0)
    values = operator(truth(generator)) + 0.05 * torch.randn(1, M, generator=rng, dtype=torch.float64)
    values[:, ::10] += 100.0
    good = torch.arange(M) % 10 != 0
    design = operator.to_matrix() @ generator.weight
    offset = operator(torch.full(SHAPE, 0.5, dtype=torch.float64))
    # what else Trimmed leaves out on normal noise would be one measurement in 370: here none
    solution = torch.linalg.lstsq(design[good], (values[0] - offset)[good]).solution
    found = fit(operator, generator, values, Trimmed(0.1))
    torch.testing.assert_close(found.latents, solution[None], rtol=1e-4, atol=1e-4)
    assert found.status[0] == "converged"
    assert fit(operator, generator, values, LeastSquares()).status[0] != "converged"


@pytest.mark.parametrize("name", ["l1", "huber", "trimmed"])
@settings(max_examples=4, deadline=None)
@given(seed=SEEDS, exponent=st.floats(0, 5))
def test_no_corruption_below_the_contamination_moves_the_image_far(
    operator: Gaussian, generator: LinearGenerator, name: str, seed: int, exponent: float
) -> None:
    rng = torch.Generator().manual_seed(seed)
    values = operator(truth(generator)) + 0.05 * torch.randn(1, M, generator=rng, dtype=torch.float64)
    bad = torch.randperm(M, generator=rng)[: M // 12]
    values[:, bad] += 10**exponent
    found = fit(operator, generator, values, FIDELITIES[name](0.1))
    assert (found.images - truth(generator)).square().mean().sqrt() < 0.2


def test_exact_measurements_beside_gross_ones_give_the_exact_image(
    operator: Gaussian, generator: LinearGenerator
) -> None:
    values = operator(truth(generator))
    values[:, 5:13] = 30.0
    for name in ROBUST:
        found = fit(operator, generator, values, FIDELITIES[name](0.1), noise=0.0)
        assert (found.images - truth(generator)).abs().max() < 1e-3, name
        assert found.status[0] == "converged", name
    assert (fit(operator, generator, values, LeastSquares(), 0.0).images - truth(generator)).abs().max() > 0.3


def test_a_recovery_says_what_its_fidelity_was(operator: Gaussian, generator: LinearGenerator) -> None:
    found = fit(operator, generator, operator(truth(generator)), Huber(0.2))
    assert found.configuration["fidelity"] == {"kind": "Huber", "contamination": 0.2}


# --- median of means --------------------------------------------------------------------------------------------------


def test_blocks_partition_the_measurements_and_are_always_the_same() -> None:
    blocks = partitions(20, 3, 7)
    assert blocks.shape == (7, 6, 3)
    for part in blocks.flatten(1):
        assert len(part.unique()) == 18
    assert torch.equal(blocks, partitions(20, 3, 7))
    state = torch.get_rng_state()
    partitions(21, 3, 7)
    assert torch.equal(state, torch.get_rng_state())


def test_the_middle_blocks_are_those_around_the_median() -> None:
    assert middle_blocks(torch.tensor([[5.0, 1.0, 3.0], [2.0, 9.0, 7.0]])).tolist() == [[2], [2]]
    assert middle_blocks(torch.arange(50.0)[None].flip(1)).tolist() == [list(range(29, 19, -1))]


def test_blocks_of_one_give_the_median_square() -> None:
    residual = torch.tensor([[1.0, -2.0, 3.0, -4.0, 50.0]])
    assert MedianOfMeans(0.1, block_size=1).misfit(residual).item() == pytest.approx(5 * 9.0)


@pytest.mark.parametrize("contamination", [0.0, 0.001, 0.02, 0.05, 0.1, 0.2])
def test_the_block_size_fits_the_contamination(contamination: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        size = MedianOfMeans(contamination).size(1000)
    assert (1 - contamination) ** size > 0.6
    assert 1000 // size >= 9


def test_outliers_weigh_nothing_in_a_median_of_means() -> None:
    weights = MedianOfMeans(0.1).weights(residuals(0))
    assert (weights[:, :8] == 0).all()
    assert (weights[:, 8:] > 0).double().mean() > 0.9
    torch.testing.assert_close(weights.sum(1), torch.full((3,), 90.0, dtype=torch.float64))


@pytest.mark.parametrize(("contamination", "size"), [(0.4, None), (0.05, 20)])
def test_blocks_that_are_rarely_clean_are_warned_of(contamination: float, size: int | None) -> None:
    with pytest.warns(UserWarning, match="clean only with probability") as told:
        MedianOfMeans(contamination, size)
    assert_one_sentence(told[0].message)


def test_blocks_without_a_median_are_refused() -> None:
    for act in (lambda: MedianOfMeans(0.1, 0), lambda: MedianOfMeans(0.001, 40).misfit(torch.ones(1, 100))):
        with pytest.raises(ValueError, match="block") as refused:
            act()
        assert_one_sentence(refused.value)


@pytest.mark.parametrize("name", FIDELITIES)
@pytest.mark.parametrize("contamination", [0.5, 0.7, 1.5, -0.01, math.nan, math.inf])
def test_a_contamination_that_nothing_withstands_is_refused(name: str, contamination: float) -> None:
    with pytest.raises(ValueError, match="below one half") as refused:
        FIDELITIES[name](contamination)
    assert_one_sentence(refused.value)


# --- measurements gone bad --------------------------------------------------------------------------------------------


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def test_gross_outliers_replace_as_many_measurements_as_asked() -> None:
    operator, images = Gaussian((3, 16, 16), 500, seed=0), pictures()
    clean = acquire(operator, images, noise=0.01, seed=3)
    values = acquire(operator, images, noise=0.01, seed=3, outliers=Outliers(0.02))
    bad = values != clean
    assert bad.sum(1).tolist() == [10, 10]
    assert torch.equal(bad[0], bad[1])
    assert values[bad].square().mean().sqrt() > GROSS / 2 * clean.square().mean().sqrt()
    assert torch.equal(values, acquire(operator, images, noise=0.01, seed=3, outliers=Outliers(0.02)))
    alone = acquire(operator, images[:1], noise=0.0, seed=3, outliers=Outliers(0.02))
    assert torch.equal(alone != operator(images[:1]), bad[:1])


def test_a_complex_measurement_goes_bad_as_a_whole() -> None:
    operator, images = SubsampledFourier((3, 16, 16), 400, seed=0), pictures()
    values = acquire(operator, images, noise=0.0, seed=3, outliers=Outliers(0.1))
    bad = torch.view_as_real(values - operator(images)) != 0
    assert values.is_complex()
    assert torch.equal(bad[..., 0], bad[..., 1])
    assert bad[..., 0].flatten(1).sum(1).tolist() == [20, 20]


@pytest.mark.parametrize("fraction", [0.02, 0.2])
def test_heavy_tails_are_as_heavy_as_asked(fraction: float) -> None:
    operator, images = Gaussian((3, 16, 16), 768, seed=0), pictures(20)
    clean = operator(images)
    errors = acquire(operator, images, noise=0.0, seed=3, outliers=Outliers(fraction, "heavy-tail")) - clean
    large = errors.abs() > clean.square().mean(1, keepdim=True).sqrt()
    assert large.float().mean().item() == pytest.approx(fraction, rel=0.15)
    assert (errors != 0).float().mean() > 0.99


@pytest.mark.parametrize("fraction", [0.5, 0.9, -0.1, 0.0, math.nan])
def test_outliers_in_the_majority_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="outliers") as refused:
        Outliers(fraction)
    assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="of kind") as refused:
        Outliers(0.1, "odd")
    assert_one_sentence(refused.value)


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weight file of an untrained generator of 16x16 images from 8 latents, loud enough to draw something."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = DCGAN((8, 16, 8, 3)).state_dict()
    loud = {name: value * 6 if value.dim() == 4 else value for name, value in state.items()}
    save_file({name: value for name, value in loud.items() if "num_batches" not in name}, path)
    return str(path)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_measured_outliers_are_recorded_and_recovered_from(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("--measurements", "100", "--generator", tiny, "--outliers", "0.05")
    assert run("measure", *common, "--outlier-kind", "gross", "--out", "y.h5").exit_code == 0
    stored = load_measurements(tmp_path / "y.h5")
    assert stored.outliers == Outliers(0.05, "gross")

    asked = ("--generator", tiny, "--fidelity", "trimmed", "--contamination", "0.1", *QUICK)
    assert run("recover", "--from", "y.h5", *asked, "--out", "stored").exit_code == 0
    assert run("recover", *common, *asked[2:], "--out", "here").exit_code == 0
    here, there = load_run(tmp_path / "here/recovery.h5"), load_run(tmp_path / "stored/recovery.h5")
    assert torch.equal(here.recovery.images, there.recovery.images)
    assert there.measurements.outliers == here.measurements.outliers == stored.outliers
    config = json.loads((tmp_path / "here/summary.json").read_text())["config"]
    assert config["outliers"] == {"fraction": 0.05, "kind": "gross"}
    assert config["fidelity"] == {"kind": "Trimmed", "contamination": 0.1}
    rows = json.loads((tmp_path / "here/summary.json").read_text())["images"]
    drawn = [row for row in rows if row["source"] == "in-range"]
    assert sum(row["mse"] < 1e-5 and row["status"] == "converged" for row in drawn) >= 2


def test_recover_tells_of_a_fidelity_that_does_not_suit(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("--measurements", "60", "--generator", tiny, "--image", "camera", *QUICK)
    result = run("recover", *asked, "--fidelity", "median-of-means", "--contamination", "0.4", "--json")
    assert result.exit_code == 0
    assert "Warning: with a contamination of 0.4" in result.stderr
    json.loads(result.stdout)


@pytest.mark.parametrize("contamination", ["0.5", "0.7", "nan", "-0.1"])
@pytest.mark.parametrize("name", ROBUST)
def test_recover_refuses_a_contamination(tmp_path: Path, tiny: str, name: str, contamination: str) -> None:
    asked = ("--measurements", "60", "--generator", tiny, "--out", str(tmp_path / "run"))
    assert_refused(tmp_path, "recover", *asked, "--fidelity", name, "--contamination", contamination, says="one half")


def test_the_commands_refuse_outliers_that_make_no_sense(tmp_path: Path, tiny: str) -> None:
    base = ("--measurements", "60", "--generator", tiny, "--out", str(tmp_path / "out"))
    for command in ("measure", "recover"):
        for share in ("0.5", "0.6", "-0.1", "nan"):
            assert_refused(tmp_path, command, *base, "--outliers", share, says="one half")
        assert_refused(tmp_path, command, *base, "--outlier-kind", OUTLIER_KINDS[1], says="--outliers")
    assert_refused(tmp_path, "recover", *base, "--contamination", "0.1", says="--fidelity")
    file = str(tmp_path / "y.h5")
    assert run("measure", *base[:-2], "--out", file).exit_code == 0
    again = ("--from", file, "--generator", tiny, "--out", str(tmp_path / "out"))
    assert_refused(tmp_path, "recover", *again, "--outliers", "0.1", says="--from")


def assert_refused(folder: Path, *arguments: str, says: str) -> None:
    """Exit code 2, one sentence, nothing written."""
    before = sorted(folder.rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert_one_sentence(last)
    assert sorted(folder.rglob("*")) == before


def test_l1_and_huber_ask_the_outliers_the_same_little() -> None:
    """The pull of a measurement, weight times residual, stays the same however far it goes astray."""
    near, far = residuals(0, rows=1), residuals(0, rows=1)
    far[:, :8] *= 1000
    for fidelity in (L1(), Huber()):
        pulls = [(fidelity.weights(r) * r.abs())[:, [0, -1]] for r in (near, far)]
        shares = [float(pull[0, 0] / pull[0, 1]) for pull in pulls]
        assert shares[1] == pytest.approx(shares[0], rel=0.02)


# --- the game of two players ------------------------------------------------------------------------------------------


def test_the_game_finds_the_image_beside_outliers_and_repeats(operator: Gaussian, generator: LinearGenerator) -> None:
    values = operator(truth(generator))
    values[:, 5:13] = 30.0
    asked = {"solver": MinMax(steps=60), "fidelity": MedianOfMeans(0.1), "restarts": 2, "latent_penalty": 0.0}
    state = torch.get_rng_state()
    found, again = (recover(operator, values, generator, **asked) for _ in range(2))  # type: ignore[arg-type]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(found.images, again.images)
    assert (found.images - truth(generator)).abs().max() < 1e-3
    assert found.status[0] == "converged"
    assert {record.phase for record in found.history} == {"min-max", "levenberg-marquardt"}


def test_the_game_needs_its_fidelity_and_stops_when_asked(operator: Gaussian, generator: LinearGenerator) -> None:
    values = operator(truth(generator))
    with pytest.raises(ValueError, match="MedianOfMeans") as refused:
        recover(operator, values, generator, solver=MinMax(steps=2))
    assert_one_sentence(refused.value)
    cut = recover(operator, values, generator, solver=MinMax(), fidelity=MedianOfMeans(), cancel=lambda: True)
    assert len([record for record in cut.history if record.phase == "min-max"]) == 1
