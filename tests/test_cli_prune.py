"""``cs-lip prune``: a ticket from the command line, stopped and gone on with, and what it refuses."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import assert_one_sentence, tiny_generator
from PIL import Image
from safetensors.torch import save_file

from cs_lip.cli import pruning
from cs_lip.cli.damage import Asked
from cs_lip.cli.main import main
from cs_lip.cli.prune import _random_masks, _rivals
from cs_lip.cli.untrained_priors import dense_prior
from cs_lip.priors import UntrainedNetwork, load_generator, untrained_network
from cs_lip.priors.catalogue import NAME
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.seeding import stream
from cs_lip.tickets import Mask
from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.controls import random_mask
from cs_lip.tickets.criteria import magnitude
from cs_lip.tickets.distillation import Distillation, agreement
from cs_lip.tickets.levels import Levels
from cs_lip.tickets.selection import kept_fraction
from cs_lip.tickets.store import bundled_tickets, load_ticket
from cs_lip.tickets.ticket import Ticket, read_ticket
from cs_lip.tickets.transfer import about_untrained, ticketed

SHORT = ("--generator=mine", "--rounds=2", "--steps=2", "--final-steps=3", "--batch=4")
FIT = ("--prior=deep-decoder", "--task=denoise", "--rounds=1", "--steps=2", "--density=0.4")


CONTROLS = (
    "a random mask of the same density",
    "the mask, shuffled within each layer",
    "the mask, with other initial weights",
    "a Deep Decoder of as many parameters",
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["prune", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and a generator of the user's own called mine."""
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))
    save_file(tiny_generator().state_dict(), tmp_path / "netG.safetensors")
    added = CliRunner().invoke(main, ["generators", "add", str(tmp_path / "netG.safetensors"), "--name=mine"])
    assert added.exit_code == 0, added.output
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def pictures(folder: Path, count: int, size: tuple[int, int] = (64, 64)) -> list[str]:
    """Small picture files of noise, in a folder of their own."""
    (folder / "pictures").mkdir(exist_ok=True)
    paths = [folder / "pictures" / f"{size[0]}-{one}.png" for one in range(count)]
    for one, path in enumerate(paths):
        pixels = torch.randint(0, 256, (*size, 3), generator=stream(one, "picture"), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return [str(path) for path in paths]


# Generators


def test_a_generators_ticket_is_found_kept_and_measured_as_it_loads(folder: Path) -> None:
    done = run(*SHORT, "--density=0.3", "--name=sparse", "--out=search")
    assert done.exit_code == 0, done.output
    ticket = load_ticket("sparse")
    network = ticketed(ticket)
    measured = Mask.measured(network, ticket.mask.kept)
    assert measured.counts.kept == round(0.3 * measured.counts.total)
    lines = [line.split() for line in done.output.splitlines()]
    assert ["main.3.weight", str(measured.counts.kept), "of", f"{measured.counts.total:,}", "0.2998"] in lines
    assert any(line[:1] == ["main.0.weight"] and line[-4:] == ["not", "in", "the", "mask"] for line in lines)
    level = agreement(network, load_generator("mine").fold(), seed=0)
    assert f"{level:.2f} dB" in done.output
    assert "--ticket sparse" in done.output
    about = ticket.about
    assert (about.prior, about.criterion, about.rewind, about.data) == ("mine", "magnitude", "learning-rate", "none")
    assert Levels(folder / "search").finished == 2
    assert read_ticket(Levels(folder / "search").ticket).sha256 == ticket.sha256
    again = run(*SHORT, "--density=0.3", "--name=sparse", "--out=search")
    assert again.exit_code == 2
    assert "'sparse' already" in again.output


def test_a_search_that_is_stopped_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Distillation.train

    def stopped(self: Distillation, network: object, *, level: object, **others: object) -> object:
        if level.index == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return train(self, network, level=level, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Distillation, "train", stopped)
    halted = run(*SHORT, "--density=0.3")
    assert halted.exit_code == 130
    assert "2 of 2 levels in ticket-mine-0.3; the same command goes on" in halted.output
    monkeypatch.setattr(Distillation, "train", train)
    level = Levels(folder / "ticket-mine-0.3").level(1)
    before = level.read_bytes()
    other = run(*SHORT, "--density=0.3", "--seed=4")
    assert other.exit_code == 2
    assert "seed is 0, not 4" in other.output
    assert run(*SHORT, "--density=0.3").exit_code == 0
    assert level.read_bytes() == before
    whole = run(*SHORT, "--density=0.3", "--out=whole")
    assert whole.exit_code == 0
    one, two = (read_ticket(Levels(folder / name).ticket) for name in ("ticket-mine-0.3", "whole"))
    assert one.values is not None and two.values is not None
    assert all(torch.equal(value, two.values[name]) for name, value in one.values.items())


@pytest.mark.parametrize(
    "options",
    [
        ("--granularity=channel", "--allocation=global"),
        ("--granularity=channel",),
        ("--granularity=kernel", "--schedule=cubic"),
        ("--criterion=sensitivity",),
        ("--rewind=initial", "--criterion=taylor"),
        ("--rewind=learning-rate", "--allocation=erk"),
        ("--rewind=pretrained",),
    ],
)
def test_the_options_of_the_search_reach_it(folder: Path, options: tuple[str, ...]) -> None:
    done = run(*SHORT, "--density=0.4", *options)
    assert done.exit_code == 0, done.output
    about = read_ticket(Levels(folder / "ticket-mine-0.4").ticket).about
    told = {**vars(about), "schedule": about.schedule["name"]}
    for option in options:
        name, value = option.removeprefix("--").split("=")
        if name == "rewind":
            assert about.rewind == value
        else:
            assert told[name] == value


def test_a_generator_is_trained_against_a_critic_on_a_folder(folder: Path) -> None:
    pictures(folder, 3)
    options = ("--generator=mine", "--data=pictures", "--density=0.5", "--rounds=1", "--steps=1", "--final-steps=1")
    done = run(*options, "--batch=3")
    assert done.exit_code == 0, done.output
    back = run(*options, "--batch=3", "--rewind=step", "--rewind-step=1", "--out=back")
    assert back.exit_code == 0, back.output
    assert read_ticket(Levels(folder / "back").ticket).about.rewind == "step 1"
    assert read_ticket(Levels(folder / "ticket-mine-0.5").ticket).about.data.startswith("3 pictures, SHA-256")
    plan = pruning.generator_plan(
        "mine", "pictures", 3, None, 1, 1, density=0.5, rounds=1, criterion="magnitude", seed=0
    )
    dense = load_generator("mine").state_dict()
    assert all(torch.equal(value, dense[name]) for name, value in plan.network.state_dict().items())
    fewer = run(*options, "--batch=4", "--out=other")
    assert fewer.exit_code == 2
    assert "4 pictures, got 3" in fewer.output


# Untrained networks


def test_a_mask_is_found_from_the_measurements_of_two_pictures(folder: Path) -> None:
    names = pictures(folder, 2)
    done = run(*FIT, f"--image={','.join(names)}", "--simulate", "--noise=0.1", "--name=both")
    assert done.exit_code == 0, done.output
    ticket = load_ticket("both")
    assert ticket.values is None
    assert ticket.mask.counts.kept == round(0.4 * ticket.mask.counts.total)
    assert ticket.about.data.startswith("measurements (denoise) of 64-0.png")
    assert "64-1.png" in ticket.about.data
    assert "pictures/" not in ticket.about.data, "a ticket does not tell where its pictures lay"
    for prior in ("the ticket", "the dense network", *CONTROLS):
        assert len(re.findall(rf"^ +\d+\.\d\d dB  {prior}$", done.output, re.MULTILINE)) == 2
    assert "cs-lip restore" in done.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--granularity=channel",), ("the ticket", "the dense network", "random channels, density 0.", *CONTROLS[2:])),
        (("--granularity=kernel",), ("the ticket", "the dense network", *CONTROLS)),
        (("--rewind=learning-rate",), ("the ticket, from its trained weights", "the dense network", *CONTROLS)),
    ],
)
def test_controls_are_of_the_tickets_kind(folder: Path, options: tuple[str, ...], told: tuple[str, ...]) -> None:
    (name,) = pictures(folder, 1)
    done = run(*FIT, f"--image={name}", "--simulate", *options)
    assert done.exit_code == 0, done.output
    found = re.findall(r"^ +\d+\.\d\d dB  (.*)$", done.output, re.MULTILINE)
    assert all(one.startswith(other) for one, other in zip(found, told, strict=True))


def test_controls_beside_a_ticket_of_kernels_are_of_its_kind_and_size(folder: Path) -> None:
    (name,) = pictures(folder, 1)
    asked = Asked(**dict.fromkeys(Asked.__dataclass_fields__) | {"task": "denoise", "simulate": True, "seed": 0})
    assert dense_prior("deep_decoder", asked) == dense_prior("deep-decoder", asked)
    plan = pruning.untrained_plan(
        "conv-decoder",
        [name],
        False,
        asked,
        None,
        1,
        None,
        density=0.3,
        criterion="magnitude",
        granularity="kernel",
        seed=0,
    )
    dense = plan.network
    assert isinstance(dense, UntrainedNetwork)
    mask = random_mask(Mask.dense(dense), 0.3, seed=5, granularity="kernel")
    ticket = Ticket(mask, None, replace(plan.about, granularity="kernel"))
    network = ticketed(ticket)
    assert isinstance(network, UntrainedNetwork)
    rivals = _rivals(plan, ticket, network)
    for told in CONTROLS[:2]:
        kept = rivals[told].kept
        assert all(torch.equal(one.flatten(2).any(-1), one.flatten(2).all(-1)) for one in kept.values())
        assert kept_fraction(Mask(kept), "kernel") == pytest.approx(kept_fraction(mask, "kernel"), abs=1e-4)
        assert Mask(kept).sha256 != mask.sha256
    kept = network.parameter_count - sum(int((~one).sum()) for one in mask.kept.values())
    small = rivals[CONTROLS[3]].parameter_count
    assert abs(small - kept) < 0.05 * kept, "to the nearest number of channels"
    assert torch.equal(rivals[CONTROLS[2]].kept["convs.1.weight"], mask.kept["convs.1.weight"])


def test_a_random_mask_beside_a_ticket_of_channels_is_one_of_channels(folder: Path) -> None:
    network = untrained_network("deep_decoder", (3, 64, 64), 0, channels=16)
    everything = dense_channels(network)
    mask = channel_mask(network, magnitude(network, everything), 0.4, parent=everything, allocation="uniform")
    about = about_untrained("deep_decoder", (3, 64, 64), 0, channels=16)
    ticket = Ticket(mask, None, replace(about, granularity="channel", allocation="uniform"))
    (control,) = _random_masks(network, ticket, 0).values()
    assert control.sha256 != mask.sha256
    assert control.density == pytest.approx(0.4, abs=0.05) and control.density <= 0.4
    for name, kept in control.kept.items():
        living, wanted = (int(one.flatten(1).any(1).sum()) for one in (kept, mask.kept[name]))
        assert abs(living - wanted) <= 1


def test_without_the_truth_the_held_out_error_is_told_and_the_oracle_refused(folder: Path) -> None:
    (name,) = pictures(folder, 1)
    done = run(*FIT, f"--image={name}")
    assert done.exit_code == 0, done.output
    assert "held-out error" in done.output
    assert " dB" not in done.output
    refused = run(*FIT, f"--image={name}", "--oracle", "--out=other")
    assert refused.exit_code == 2
    assert "--simulate" in refused.output


def test_the_oracle_fits_the_clean_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = pictures(folder, 1)
    clean = torch.from_numpy(np.asarray(Image.open(name)).copy()).permute(2, 0, 1) / 255
    seen = []
    make = pruning.Fits
    monkeypatch.setattr(pruning, "Fits", lambda problems: seen.extend(problems) or make(problems))
    done = run(*FIT, f"--image={name}", "--simulate", "--oracle")
    assert done.exit_code == 0, done.output
    torch.testing.assert_close(seen[0].measurements, clean.flatten()[None], rtol=0, atol=1e-6)
    assert read_ticket(Levels(folder / "ticket-deep-decoder-0.4").ticket).about.data.startswith("the clean pictures")
    assert run(*FIT, f"--image={name}", "--simulate", "--out=other").exit_code == 0
    assert (seen[1].measurements - clean.flatten()).abs().mean() > 0.01


# What is refused

CALLED = ("--prior=deep-decoder", "--task=denoise", "--image=camera", "--size=64", "--simulate")
TWO = (*CALLED[:2], "--image=astronaut,retina", "--size=64", "--simulate", "--density=0.3")
SENSED = (*FIT[:1], "--task=sense", "--image=camera", "--size=64", "--measurements=10")

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "density 0": ((*SHORT, "--density=0"), "density"),
    "density above 1": ((*SHORT, "--density=1.2"), "density"),
    "density NaN": ((*SHORT, "--density=nan"), "density"),
    "empties a layer": ((*SHORT, "--density=0.0000001"), "floor"),
    "a floor that is too high": ((*SHORT, "--density=0.1", "--floor=0.5"), "floor"),
    "a role that is none": ((*SHORT, "--density=0.3", "--roles=hidden,middle"), "middle"),
    "roles of channels": ((*SHORT, "--density=0.3", "--granularity=channel", "--roles=input"), "no roles"),
    "a mask that is learned and keeps all": ((*CALLED, "--criterion=bernoulli", "--density=1"), "below 1"),
    "a network that is not linear": ((*CALLED[1:], "--prior=unet", "--criterion=synflow", "--density=0.3"), "SynFlow"),
    "weights of two pictures": ((*TWO, "--rewind=learning-rate"), "2 networks"),
    "steps of two pictures": ((*TWO, "--rewind=step", "--rewind-step=1"), "2 networks"),
    "no final steps": ((*FIT, "--image=camera", "--final-steps=0"), "from 1 on"),
    "unknown criterion": ((*SHORT, "--density=0.3", "--criterion=beauty"), "beauty"),
    "no rounds": (("--generator=mine", "--rounds=0", "--density=0.3"), "rounds"),
    "unknown generator": (("--generator=nobody", "--density=0.3"), "nobody"),
    "a loss that is zero": ((*SHORT, "--density=0.3", "--criterion=snip"), "sensitivity"),
    "steps by a loss that is zero": ((*SHORT, "--density=0.3", "--rewind=step", "--rewind-step=1"), "learning-rate"),
    "no network": (("--density=0.3",), "one of them"),
    "two networks": ((*SHORT, "--prior=skip", "--density=0.3"), "one of them"),
    "a picture for a generator": ((*SHORT, "--density=0.3", "--image=camera"), "--image goes with --prior"),
    "data for a prior": ((*FIT, "--image=camera", "--data=pictures"), "--data goes with --generator"),
    "a step without its rewinding": ((*SHORT, "--density=0.3", "--rewind-step=2"), "step"),
    "an operator for a generator": ((*SHORT, "--density=0.3", "--operator=fourier"), "--operator goes with --prior"),
    "the name of a bundled ticket": ((*SHORT, "--density=0.3", "--name=skip-02"), "a bundled ticket 'skip-02'"),
    "a bad name": ((*SHORT, "--density=0.3", "--name=My Ticket"), "My Ticket"),
    "a batch for a giant": ((*SHORT[:-1], "--density=0.3", "--batch=99999999999999999999"), "1 to 16384"),
    "noise of nothing": ((*SHORT, "--density=0.3", "--noise=0"), "--noise goes with --prior"),
    "measurements of nothing": ((*SHORT, "--density=0.3", "--measurements=0"), "--measurements goes with --prior"),
    "a prior without a name": (("--prior=", *CALLED[1:], "--density=0.3"), "no prior ''"),
    "a picture by two spellings": ((*TWO[:2], "--image=camera,./camera", *TWO[3:]), "1 of 2"),
    "too little to hold out": ((*SENSED, "--density=0.3"), "more measurements"),
    "too little for the closing fits": ((*SENSED, "--density=0.3", "--oracle"), "more measurements"),
    "pictures in colour for a grey generator": (
        ("--generator=mnist-dcgan-28", "--density=0.3", "--data=../grey"),
        "mnist:",
    ),
    "no picture": (FIT, "--image"),
    "fewer pictures than asked": ((*FIT, "--image=camera,camera"), "1 of 2"),
    "a picture that is not there": ((*FIT, "--image=camera,nobody", "--simulate"), "nobody"),
    "pictures of two shapes": ((*FIT, "--image=camera,astronaut", "--simulate"), "shapes"),
    "unknown prior": (("--prior=magic", "--task=denoise", "--image=camera", "--density=0.3"), "magic"),
    "a prior that is not pretrained": ((*FIT, "--image=camera", "--rewind=pretrained"), "not pretrained"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(folder: Path, case: str) -> None:
    arguments, told = BAD[case]
    (folder.parent / "grey").mkdir()
    Image.new("L", (28, 28)).save(folder.parent / "grey" / "one.png")
    refused = run(*arguments)
    assert refused.exit_code == 2, refused.output
    message = refused.output.partition("Error: ")[2].rstrip("\n")
    assert told in message
    assert_one_sentence(message)
    assert not list(folder.iterdir())


# The script that finds the bundled tickets


def test_the_script_of_the_bundled_tickets_writes_a_catalogue_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).parents[1] / "pretrained" / "tickets" / "find_tickets.py"
    name, out = "digiface-dcgan-channels-01", tmp_path / "out"
    options = ["--quick", "--only", name, "--out", str(out), "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [str(script), *options])
    found = runpy.run_path(str(script), run_name="__main__")
    (entry,) = bundled_tickets(out).values()
    assert entry.name == name
    assert entry.sha256 == sha256_of(entry.path)
    ticket = read_ticket(entry.path)
    assert 0.05 < ticket.mask.density <= 0.1
    assert Mask.measured(ticketed(ticket), ticket.mask.kept).counts == ticket.mask.counts
    assert all(NAME.fullmatch(each) for each in found["TICKETS"])
    densities = {each[1].args[0].density for each in found["TICKETS"].values()}
    assert densities == {0.5, 0.3, 0.2, 0.1, 0.05}


def test_a_name_that_cannot_be_kept_is_refused_before_the_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder.parent / "home" / "tickets"
    own.write_text("in the way")
    refused = run(*SHORT, "--density=0.3", "--name=good")
    assert refused.exit_code == 2
    assert "expected a folder for 'good.safetensors'" in refused.stderr
    assert_one_sentence(refused.stderr.removeprefix("Error: ").strip())
    assert list(folder.iterdir()) == []


def test_a_name_that_was_taken_during_the_search_is_left_to_the_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder.parent / "home" / "tickets" / "mine.safetensors"
    train = Distillation.train

    def taken(self: Distillation, *network: object, **others: object) -> object:
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"of somebody else")
        return train(self, *network, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Distillation, "train", taken)
    refused = run(*SHORT, "--density=0.3", "--name=mine")
    assert refused.exit_code == 2
    assert "'mine' already" in refused.stderr
    assert other.read_bytes() == b"of somebody else"
    kept = run(*SHORT, "--density=0.3", "--name=ours")
    assert kept.exit_code == 0, kept.output
    assert load_ticket("ours").sha256 == read_ticket(Levels(folder / "ticket-mine-0.3").ticket).sha256


def test_another_mask_of_the_same_white_picture_is_another_search(folder: Path) -> None:
    Image.new("L", (64, 64), 255).save("white.png")
    for name, column in (("left.png", 0), ("right.png", 32)):
        mask = Image.new("L", (64, 64), 255)
        mask.paste(0, (column, 0, column + 32, 64))
        mask.save(name)
    asked = ("--prior=deep-decoder", "--task=inpaint", "--image=white.png", "--rounds=1", "--steps=2", "--density=0.4")
    assert run(*asked, "--mask=left.png", "--out=search").exit_code == 0
    refused = run(*asked, "--mask=right.png", "--out=search")
    assert refused.exit_code == 2
    assert "training data is" in refused.stderr
    assert_one_sentence(refused.stderr.removeprefix("Error: ").strip())


def test_a_level_that_is_a_folder_is_refused_before_anything_is_trained(folder: Path) -> None:
    assert run(*SHORT, "--density=0.3", "--out=search").exit_code == 0
    levels = Levels(folder / "search")
    levels.ticket.unlink()
    levels.level(2).unlink()
    levels.level(2).mkdir()
    refused = run(*SHORT, "--density=0.3", "--out=search")
    assert refused.exit_code == 2
    assert "level-02.safetensors is no file" in refused.stderr
    assert_one_sentence(refused.stderr.removeprefix("Error: ").strip())
