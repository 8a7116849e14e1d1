"""`cs-lip tickets`, and --ticket on recover and restore, as a user types them."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import Trap, tiny_generator
from safetensors.torch import save_file
from test_ticket_files import another_architecture, emptied, future, random_mask, rewritten, skip_ticket

import cs_lip.cli.recover
from cs_lip.cli.main import main
from cs_lip.evaluation.measured_spectrum import run_spectra
from cs_lip.evaluation.store import load_run
from cs_lip.operators import operator_from_recipe
from cs_lip.priors import PGGAN, Generator, Skip, add_generator, remove_generator
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.priors.untrained.registry import shapes_alone
from cs_lip.recovery import recover
from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import stream
from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.criteria import magnitude
from cs_lip.tickets.importing import skip_modules
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.store import bundled_tickets
from cs_lip.tickets.ticket import About, Ticket, read_ticket, write_ticket
from cs_lip.tickets.transfer import about_generator, ticketed, ticketed_for

ROW = {"name", "prior", "granularity", "density", "measured_density", "criterion", "bytes", "sha256"}
RECOVER = ("recover", "-m", "64", "--restarts", "1", "--image", "camera", "--solver", "latent-search")
RESTORE = (
    "restore",
    "camera",
    "--task",
    "denoise",
    "--simulate",
    "--size",
    "32",
    "--iterations",
    "4",
    "--stop",
    "last",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a tiny generator of the user's own."""
    torch.set_num_threads(1)
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))
    save_file({name: v for name, v in tiny_generator().state_dict().items() if "num_b" not in name}, tmp_path / "w.st")
    add_generator(tmp_path / "w.st", "tiny")
    (tmp_path / "home" / "tickets").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def tiny_ticket(values: bool = False, **about: Any) -> Ticket:
    network = tiny_generator()
    mask = random_mask(network)
    mask.apply_(network)
    return Ticket(mask, network.state_dict() if values else None, replace(about_generator("tiny"), **about))


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(here: Path, *arguments: str, says: str) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and says in last and "try " in last and len(last) < 500, last
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


# Listing, looking and importing


def test_own_tickets_are_listed_with_the_density_of_the_loaded_network(here: Path) -> None:
    folder = here.parent / "home" / "tickets"
    ticket = tiny_ticket(criterion="magnitude")
    write_ticket(folder / "mine.safetensors", ticket)
    (folder / "broken.safetensors").write_bytes((folder / "mine.safetensors").read_bytes()[:300])
    listed = told("tickets", "list")
    row = next(row for row in listed["tickets"] if row["name"] == "mine")
    assert row.keys() == ROW and row["prior"] == "tiny" and row["criterion"] == "magnitude"
    assert row["density"] == ticket.mask.density == row["measured_density"]
    assert row["sha256"] == sha256_of(folder / "mine.safetensors")
    assert len(listed["damaged"]) == 1 and "broken.safetensors" in listed["damaged"][0]
    odd = skip_ticket()
    write_ticket(folder / "broken.safetensors", replace(odd, about=replace(odd.about, seeds={"weights": -1})))
    (sentence,) = told("tickets", "list")["damaged"]
    assert sentence.startswith("the ticket 'broken': the seed must be")
    write_ticket(folder / "skip-02.safetensors", ticket)
    shadowed = told("tickets", "list")
    assert [row["name"] for row in shadowed["tickets"]].count("skip-02") == 1
    assert "skip-02.safetensors has the name of a bundled ticket" in shadowed["damaged"][0]
    shown = run("tickets")
    assert shown.exit_code == 0 and "mine: of tiny" in shown.stdout and "Not listed: " in shown.stderr
    assert json.loads(run("tickets", "--json").stdout) == shadowed


@pytest.mark.parametrize("group", ["tickets", "generators"])
def test_json_in_front_of_a_command_is_not_passed_over(here: Path, group: str) -> None:
    refused(here, group, "--json", "inspect", "digiface-dcgan", says="got --json in front of inspect")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_what_is_no_file_among_the_own_tickets_does_not_hide_the_others(
    here: Path, make: Callable[[Path], None]
) -> None:
    folder = here.parent / "home" / "tickets"
    write_ticket(folder / "mine.safetensors", tiny_ticket())
    make(folder / "odd.safetensors")
    listed = told("tickets")
    assert "mine" in [row["name"] for row in listed["tickets"]]
    (sentence,) = listed["damaged"]
    assert "'odd'" in sentence and "no file" in sentence
    refused(here, "tickets", "inspect", "odd", says="no file")


def test_a_mask_that_prunes_biases_is_listed_with_them(here: Path) -> None:
    network = PGGAN(4, (6, 6, 4))
    network.load_state_dict({name: torch.ones_like(value) for name, value in network.state_dict().items()})
    mask = channel_mask(network, magnitude(network, dense_channels(network)), 0.5, parent=dense_channels(network))
    assert any(name.endswith("bias") for name in mask.kept)
    mask.apply_(network)
    about = About("faces", "generator", "pggan", {"latents": 4, "depths": [6, 6, 4]}, "0" * 64)
    write_ticket(here / "few.safetensors", Ticket(mask, network.state_dict(), about))
    row = told("tickets", "inspect", "few.safetensors")
    assert row["density"] == row["measured_density"] == mask.density
    layers = {layer["name"]: layer for layer in row["layers"]}
    assert all(layers[name]["kept"] == counts.kept for name, counts in mask.layers().items())
    shown = run("tickets", "inspect", "few.safetensors").output.splitlines()
    total = sum(layer["total"] for layer in row["layers"])
    assert any(line.split()[:2] == ["all", "layers"] and f"{total:,}" in line for line in shown)


def test_a_density_that_a_file_only_claims_is_seen(here: Path) -> None:
    """Kept weights may be zero, so a mask may say more than the network has."""
    ticket = tiny_ticket(values=True)
    assert ticket.values is not None
    ticket.values["main.3.weight"][:8] = 0
    write_ticket(here / "t.safetensors", ticket)
    found = told("tickets", "inspect", "t.safetensors")
    network = ticketed(read_ticket(here / "t.safetensors"))
    assert found["measured_density"] == Mask.measured(network, ticket.mask.kept).density < found["density"]
    assert f"(measured {found['measured_density']:.4g})" in run("tickets", "inspect", "t.safetensors").stdout


def test_inspecting_prints_every_layer_and_where_it_came_from(here: Path) -> None:
    ticket = tiny_ticket(criterion="magnitude", seeds={"search": 7}, data="none")
    write_ticket(here / "t.safetensors", ticket)
    found = told("tickets", "inspect", "t.safetensors")
    assert found.keys() > ROW and found["mask_sha256"] == ticket.sha256 and not found["values"]
    assert {layer["name"] for layer in found["layers"]} == {"main.0.weight", "main.3.weight", "main.6.weight"}
    for layer in found["layers"]:
        masked = layer["name"] in ticket.mask.kept
        assert layer["in_mask"] is masked
        expected = ticket.mask.layers()[layer["name"]].fraction if masked else 1
        assert layer["density"] == layer["kept"] / layer["total"] == expected
    assert found["about"]["seeds"] == {"search": 7}
    text = run("tickets", "inspect", "t.safetensors").stdout
    for words in (
        "main.3.weight",
        "not in the mask",
        "all layers",
        ticket.about.base_sha256,
        '"search": 7',
    ):
        assert words in text


def lip_masks() -> dict[str, torch.Tensor]:
    """Masks as the LIP code saves them, of all convolutions but the last."""
    network = shapes_alone("skip", (3, 128, 128), {})
    assert isinstance(network, Skip)
    ours = {f"{name}.weight": theirs for theirs, name in skip_modules(network).items() if name != "output"}
    rng, masks = stream(0, "masks"), {}
    for name, value in network.named_parameters():
        if name in ours and value.dim() == 4:
            masks[f"{ours[name]}.weight_mask"] = (torch.rand(value.shape, generator=rng) < 0.2).float()
    return masks


def test_masks_of_the_lip_code_become_a_ticket_that_restores(here: Path) -> None:
    torch.save(lip_masks(), "mask_prune_state_6.pt")
    arguments = ("tickets", "import", "mask_prune_state_6.pt", "--prior", "skip", "--out", "lip.safetensors")
    result = run(*arguments)
    assert result.exit_code == 0 and "lip.safetensors: of skip" in result.stdout, result.output
    about = read_ticket(here / "lip.safetensors").about
    assert "mask_prune_state_6.pt" in about.data and sha256_of(here / "mask_prune_state_6.pt") in about.data
    refused(here, *arguments, says="exists already, nothing was written")
    refused(here, *arguments[:4], "deep-decoder", "--out", "dd.safetensors", says="does not fit the network")
    refused(here, *arguments[:4], "nobody", "--out", "dd.safetensors", says="there is no generator 'nobody'")
    fit = ("--size", "64", "--iterations", "1", "--stop", "last", "--ticket", "lip.safetensors")
    assert run("restore", "camera", "--task", "denoise", *fit).exit_code == 0


def test_what_was_imported_is_shown_and_not_a_bundled_ticket_of_its_name(here: Path) -> None:
    torch.save(lip_masks(), "masks.pt")
    name = next(iter(bundled_tickets()))
    result = run("tickets", "import", "masks.pt", "--prior", "skip", "--out", name)
    assert result.exit_code == 0 and f"{name}: of skip" in result.stdout, result.output


# Recovering and restoring


def test_recovering_with_a_ticket(here: Path) -> None:
    ticket = tiny_ticket(values=True)
    write_ticket(here / "t.safetensors", ticket)
    found = told(*RECOVER, "--ticket", "t.safetensors", "--out", "run")
    config = {
        "generator": "tiny",
        "ticket": "t.safetensors",
        "ticket_sha256": sha256_of(here / "t.safetensors"),
        "ticket_density": ticket.mask.density,
    }
    assert found["config"].items() >= config.items()
    stored = load_run(here / "run" / "recovery.h5")
    assert stored.config == found["config"]
    network = ticketed(read_ticket(here / "t.safetensors")).fold()
    assert stored.recovery.latents is not None
    with torch.no_grad():
        torch.testing.assert_close(network(stored.recovery.latents), stored.recovery.images, rtol=0, atol=1e-5)
    shown = run("show", "run").stdout
    assert f"Ticket t.safetensors: density {ticket.mask.density:.4g}" in shown and config["ticket_sha256"][:12] in shown


def test_a_ticket_and_its_dense_generator_recover_the_same_samples(here: Path) -> None:
    write_ticket(here / "t.safetensors", tiny_ticket(values=True))
    command = (*RECOVER[:5], "--solver", "latent-search")
    for name, options in {"dense": ("--generator", "tiny"), "ticket": ("--ticket", "t.safetensors")}.items():
        assert run(*command, *options, "--out", name).exit_code == 0
    remove_generator("tiny")
    assert run(*command, "--ticket", "t.safetensors", "--out", "alone").exit_code == 0
    dense, ticket, alone = (load_run(here / name / "recovery.h5") for name in ("dense", "ticket", "alone"))
    assert dense.truth is not None and ticket.truth is not None and alone.truth is not None
    assert ticket.measurements.names == dense.measurements.names and "draw-1" in dense.measurements.names
    assert torch.equal(ticket.truth, dense.truth)
    assert not torch.allclose(alone.truth[0], dense.truth[0])


def test_a_ticket_that_was_swapped_has_no_spectra_of_an_earlier_run(here: Path) -> None:
    write_ticket(here / "t.safetensors", tiny_ticket(values=True))
    assert run(*RECOVER, "--ticket", "t.safetensors", "--out", "run").exit_code == 0
    stored = load_run(here / "run" / "recovery.h5")
    assert run_spectra(stored) is not None
    write_ticket(here / "t.safetensors", tiny_ticket())
    assert run_spectra(stored) is None


def test_a_channel_ticket_is_compacted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = torch.ones(16, 8, 4, 4, dtype=torch.bool)
    kept[4:] = False
    ticket = Ticket(Mask({"main.3.weight": kept}), None, replace(about_generator("tiny"), granularity="channel"))
    write_ticket(here / "t.safetensors", ticket)
    searched: list[Generator] = []
    pose = cs_lip.cli.recover.pose_latents

    def watched(problem: Problem, network: Generator) -> LatentProblem:
        searched.append(network)
        return pose(problem, network)

    monkeypatch.setattr(cs_lip.cli.recover, "pose_latents", watched)
    result = run(*RECOVER, "--ticket", "t.safetensors")
    assert result.exit_code == 0, result.output
    (network,) = searched
    assert network.get_parameter("rest.1.weight").shape == (4, 8, 4, 4)
    latents = network.sample_latents(2, generator=stream(0, "latents"))
    with torch.no_grad():
        torch.testing.assert_close(network(latents), ticketed(ticket)(latents), rtol=0, atol=1e-5)


def test_restoring_with_a_ticket_is_the_fit_of_its_network(here: Path) -> None:
    ticket = skip_ticket(seed=3)
    write_ticket(here / "t.safetensors", ticket)
    found = told(*RESTORE, "--ticket", "t.safetensors", "--seed", "1", "--out", "run")
    assert found["config"]["prior"] == "skip" and found["config"]["ticket_density"] == ticket.mask.density
    stored = load_run(here / "run" / "recovery.h5")
    operator = operator_from_recipe(stored.measurements.recipe)
    network = ticketed_for(read_ticket(here / "t.safetensors"), (1, 32, 32))
    solver = UntrainedFit(iterations=4, stop="last")
    again = recover(
        operator, stored.measurements.values, network, solver=solver, noise=stored.measurements.noise, seed=1
    )
    torch.testing.assert_close(again.images, stored.recovery.images, rtol=0, atol=1e-6)
    assert "Ticket t.safetensors: density" in run("show", "run").stdout
    dense = recover(
        operator,
        stored.measurements.values,
        ticketed_for(Ticket(Mask.dense(network), None, ticket.about), (1, 32, 32)),
        solver=solver,
        noise=stored.measurements.noise,
        seed=1,
    )
    assert (dense.images - again.images).abs().max() > 1e-3


# Bad input


@pytest.fixture
def bad(here: Path) -> Path:
    """A ticket of every bad kind."""
    write_ticket(here / "good.safetensors", tiny_ticket())
    content = (here / "good.safetensors").read_bytes()
    (here / "truncated.safetensors").write_bytes(content[: len(content) // 2])
    for change in (future, emptied, another_architecture):
        (here / f"{change.__name__}.safetensors").write_bytes(content)
        rewritten(here / f"{change.__name__}.safetensors", change)
    write_ticket(here / "base.safetensors", tiny_ticket(base_sha256="ab" * 32))
    write_ticket(here / "gone.safetensors", tiny_ticket(prior="gone"))
    write_ticket(here / "skip.safetensors", skip_ticket())
    (here / "ticket.pkl").write_bytes(pickle.dumps(Trap(here / "opened")))
    torch.save({"mask": torch.ones(2)}, here / "ticket.pt")
    return here


def test_what_is_no_ticket_is_told_what_a_ticket_is(here: Path) -> None:
    (here / "summary.json").write_text("{}")
    (here / "picture.png").write_bytes(b"\x89PNG\r\n")
    (here / "search").mkdir()
    for file in ("summary.json", "picture.png"):
        refused(here, "tickets", "inspect", file, says=f"{file} is no ticket, expected a safetensors file")
    refused(here, "tickets", "inspect", "search", says="search is a folder, expected a ticket's name or file")
    write_ticket(here / "search" / "ticket.safetensors", tiny_ticket())
    refused(here, "tickets", "inspect", "search", says="try search/ticket.safetensors")


BAD = {
    "truncated.safetensors": "truncated.safetensors",
    "future.safetensors": "has format 2, this version reads 1",
    "emptied.safetensors": "empties the layer 'main.3.weight'",
    "another_architecture.safetensors": "does not fit the network",
    "base.safetensors": "with SHA-256 abababababab..., those here have",
    "gone.safetensors": "there is no generator 'gone'",
    "ticket.pkl": "a ticket is safetensors, so nothing in it was loaded",
    "ticket.pt": "a ticket is safetensors, so nothing in it was loaded",
    "nowhere": "there is no ticket 'nowhere'",
}


@pytest.mark.parametrize("file", BAD)
def test_bad_tickets_are_refused_by_every_command(file: str, bad: Path) -> None:
    refused(bad, "tickets", "inspect", file, says=BAD[file])
    refused(bad, *RECOVER, "--ticket", file, says=BAD[file])
    if file not in ("base.safetensors", "gone.safetensors"):
        refused(bad, *RESTORE, "--ticket", file, says=BAD[file])
    assert not (bad / "opened").exists()


CLASHES = {
    "another generator": (
        [*RECOVER, "--ticket", "good.safetensors", "--generator", "mnist-dcgan-28"],
        "try without --gen",
    ),
    "recover with skip": ([*RECOVER, "--ticket", "skip.safetensors"], "try cs-lip restore"),
    "restore with a generator": ([*RESTORE, "--ticket", "good.safetensors"], "try cs-lip recover"),
    "another network": ([*RESTORE, "--ticket", "skip.safetensors", "--prior", "deep-decoder"], "try without --prior"),
    "a ticket as a prior": ([*RESTORE, "--prior", "skip.safetensors"], "try --ticket skip.safetensors"),
    "an image too small": ([*RESTORE[:6], "3", *RESTORE[7:], "--ticket", "skip.safetensors"], "halvings"),
    "import of no masks": (["tickets", "import", "ticket.pt", "--prior", "tiny", "--out", "o"], "ticket.pt"),
    "import of nothing": (
        ["tickets", "import", "no.pt", "--prior", "tiny", "--out", "o"],
        "there is no file no.pt",
    ),
    "import of a pickle": (["tickets", "import", "ticket.pkl", "--prior", "tiny", "--out", "o"], "ticket.pkl"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_options_that_do_not_go_together_are_refused(case: str, bad: Path) -> None:
    arguments, says = CLASHES[case]
    refused(bad, *arguments, says=says)
    assert not (bad / "opened").exists()
