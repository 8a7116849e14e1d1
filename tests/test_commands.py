"""Every command line in the README and under docs can be typed as it stands.

Lines that take seconds are run, on small stand-ins for the files that they name. Of the others everything happens but
the computing, which takes minutes to hours: `recover` and `restore` go on until the solver is called, `sweep` until the
first cell. `train`, `train-start`, `prune` and `generators inspect` are parsed only, since they compute from the start.
"""

import re
import shlex
import shutil
from pathlib import Path
from typing import NoReturn

import click
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import tiny_generator
from PIL import Image
from reports import tiny_sweep
from test_cli_tickets import lip_masks
from test_ticket_files import random_mask, skip_ticket

from cs_lip.cli.main import main
from cs_lip.priors import add_generator, remove_generator
from cs_lip.tickets.ticket import Ticket, write_ticket
from cs_lip.tickets.transfer import about_generator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

UNTIL_SOLVER = {"recover", "restore"}
PARSED = {"train", "train-start", "prune", "generators inspect"}
ELSEWHERE = {"generators add ffhq.pkl --name ffhq-w --space w"}
"""Needs an NVlabs pickle, which tests/test_nvlabs.py makes; here it is parsed."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

KIND = "ticket"
"""`cs-lip ticket` is what a ticket's file calls itself, and no command."""

STAND_INS = {"NAME": "my-ticket.safetensors"}
"""What a placeholder in a line is replaced by."""


class Reached(Exception):
    """The solver was called: all that comes before it went well."""


def command_lines() -> list[str]:
    """The arguments of each line in a block without a language, comments left out, each line once."""
    seen: set[str] = set()
    for page in PAGES:
        for language, block in BLOCK.findall(page.read_text()):
            if language:
                continue
            lines = [line for line in block.splitlines() if line.startswith("cs-lip ")]
            seen |= {shlex.join(shlex.split(line, comments=True)[1:]) for line in lines}
    return sorted(seen)


LINES = command_lines()


def command_of(words: list[str]) -> tuple[str, click.Command]:
    """The command that the words begin with, and its name."""
    command: click.Command = main
    names: list[str] = []
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        assert word in command.commands, f"there is no command {word} in {words}"
        command = command.commands[word]
        names.append(word)
    return " ".join(names), command


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name, small, and a home with the generator ``my-faces``."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("stocked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CS_LIP_HOME", str(folder / "home"))
        _make_pictures(folder)
        plan = "\n".join(re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.DOTALL))
        (folder / "my-plan.toml").write_text(plan)
        torch.save(tiny_generator().state_dict(), "netG.pth")
        add_generator(folder / "netG.pth", "my-faces")
        write_ticket(folder / "my-ticket.safetensors", _generator_ticket())
        write_ticket(folder / "lip.safetensors", skip_ticket())
        torch.save(lip_masks(), "mask_prune_state_6.pt")
        for line in (
            "measure -m 500 --image camera --out y.h5",
            "measure -m 100 --image camera --generator mnist-dcgan-28 --out sensor.h5",
            "recover -m 64 --generator my-faces --solver latent-search --restarts 1 --image camera --out my-run",
        ):
            assert typed(line).exit_code == 0
        shutil.copytree("my-run", "recovery")
        (folder / "made").mkdir()
        tiny_sweep(folder / "made").rename(folder / "curve")
    return folder


def _make_pictures(folder: Path) -> None:
    (folder / "photos").mkdir()
    for name in ("me.jpg", "you.png", "noisy.png", "scratched.jpg", "small.png", "photos/a.png", "photos/b.jpg"):
        Image.new("RGB", (48, 40), (180, 90, 60)).save(folder / name)
    mask = Image.new("L", (48, 40), 255)
    mask.paste(0, (5, 5, 9, 30))
    mask.save(folder / "scratches.png")


def _generator_ticket() -> Ticket:
    return Ticket(random_mask(tiny_generator()), None, about_generator("my-faces"))


@pytest.fixture
def here(stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of `stocked`."""
    copy = tmp_path / "here"
    shutil.copytree(stocked, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("CS_LIP_HOME", str(copy / "home"))
    return copy


def typed(line: str) -> Result:
    return CliRunner().invoke(main, shlex.split(line))


def reached(*arguments: object, **others: object) -> NoReturn:
    raise Reached


@pytest.mark.parametrize("line", LINES)
def test_it_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str | None] = []
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: parsed.append(context.info_name))
    result = typed(line)
    assert result.exit_code == 0, result.output
    assert parsed[-1] == command_of(shlex.split(line))[0].rpartition(" ")[2]


CARRIED_OUT = [line for line in LINES if command_of(shlex.split(line))[0] not in PARSED and line not in ELSEWHERE]


@pytest.mark.parametrize("line", CARRIED_OUT)
def test_it_runs(line: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [STAND_INS.get(word, word) for word in shlex.split(line)]
    name, _ = command_of(words)
    _clear_the_way(here, name, words)
    if name in UNTIL_SOLVER:
        monkeypatch.setattr(f"cs_lip.cli.{name}.recover_images", reached)
        result = typed(shlex.join(words))
        assert isinstance(result.exception, Reached), result.output
        return
    if name == "sweep":
        words += [] if "--dry-run" in words else ["--dry-run"]
        monkeypatch.setattr("cs_lip.evaluation.sweep.estimate.run_cell", lambda cell: None)
    result = typed(shlex.join(words))
    assert result.exit_code == 0, result.output
    assert result.output


def _clear_the_way(here: Path, name: str, words: list[str]) -> None:
    """Of what the line is about to make there is nothing yet."""
    if name == "generators add":
        remove_generator(words[words.index("--name") + 1])
    elif "--out" in words and name != "sweep":
        made = here / words[words.index("--out") + 1]
        shutil.rmtree(made, ignore_errors=True)
        made.unlink(missing_ok=True)


def test_the_lines_are_found() -> None:
    names = {command_of(shlex.split(line))[0] for line in LINES}
    groups = {"generators", "tickets"}
    assert names >= {*main.commands} - groups
    assert names >= PARSED | UNTIL_SOLVER
    assert {*LINES} >= ELSEWHERE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_within_the_text_exist(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for line in re.findall(r"`cs-lip ([^`]+)`", text):
        words = shlex.split(line)
        if words == [KIND]:
            continue
        name, command = command_of(words)
        assert name
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert [word for word in words if word.startswith("-") and word not in known] == []
    for script in re.findall(r"python ([\w/]+\.py)", text):
        assert (ROOT / script).is_file(), script
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", text):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("name", sorted(main.commands))
def test_help_has_an_example_that_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = typed(f"{name} --help").output
    examples = [line.strip() for line in shown.splitlines() if line.strip().startswith("cs-lip ")]
    assert examples
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)
    for example in examples:
        assert typed(example.removeprefix("cs-lip ")).exit_code == 0, example
