"""The search: levels are exact and nested, a killed one goes on, rewinding goes where it says, zeros stay zeros."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY_WIDTHS, assert_one_sentence, tiny_generator
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils import prune

from cs_lip.evaluation.ticket_search import Fits
from cs_lip.operators import Gaussian, Identity
from cs_lip.priors import UntrainedNetwork, untrained_network
from cs_lip.priors.prunable import Prunable
from cs_lip.recovery import pose
from cs_lip.recovery.solver import Task
from cs_lip.recovery.trace import Trace
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import derive_seed, stream
from cs_lip.tickets import Evidence, Mask, lottery, score, select
from cs_lip.tickets.bernoulli import BernoulliSettings
from cs_lip.tickets.criteria import AT_INITIALISATION, IN_UNITS_OF_A_LOSS
from cs_lip.tickets.curvature import snip
from cs_lip.tickets.levels import Levels
from cs_lip.tickets.lottery import search
from cs_lip.tickets.retraining import Level, Progress, Step, cosine, unheard
from cs_lip.tickets.search_settings import SearchSettings
from cs_lip.tickets.ticket import About, Ticket, read_ticket, write_ticket
from cs_lip.tickets.transfer import about_untrained, ticketed

ABOUT = About("tiny", "generator", "dcgan", {"widths": list(TINY_WIDTHS)}, "0" * 64)
SMALL = {"widths": (8, 8), "skips": (4, 4), "input_channels": 4}
SHAPE = (1, 16, 16)


@dataclass(frozen=True)
class NoiseSettings:
    size: float = 0.05
    networks: int = 1


class Noise:
    """A trainer that adds noise of the level and seed to all weights, as momentum would to those held at zero too."""

    def __init__(self, settings: NoiseSettings | None = None, killed_at: int | None = None) -> None:
        self.settings = settings or NoiseSettings()
        self.killed_at = killed_at
        self.began: list[tuple[Level, dict[str, Tensor]]] = []
        self.ended: list[list[Prunable]] = []

    def train(self, network: Prunable, *, level: Level, seed: int, progress: Progress = unheard) -> Sequence[Prunable]:
        if level.index == self.killed_at:
            raise KeyboardInterrupt
        self.began.append((level, {name: value.clone() for name, value in network.state_dict().items()}))
        trained = [self._moved(network, stream(seed, f"{level.index}/{one}")) for one in range(self.settings.networks)]
        progress(Step(level, level.steps, level.steps, 0.0))
        self.ended.append(trained)
        return trained

    def _moved(self, network: Prunable, rng: torch.Generator) -> Prunable:
        moved = copy.deepcopy(network)
        with torch.no_grad():
            for weight in moved.parameters():
                weight += self.settings.size * torch.randn(weight.shape, generator=rng)
        moved.project_()
        return moved

    fingerprint = "0" * 64

    @property
    def count(self) -> int:
        return self.settings.networks

    def check(self, network: Prunable) -> None:
        assert network.kept == {}

    def losses(self, seed: int) -> Sequence[Callable[[Prunable], Tensor]]:
        return [partial(self._pulled, stream(seed, f"loss/{one}")) for one in range(self.count)]

    def _pulled(self, rng: torch.Generator, network: Prunable) -> Tensor:
        pull = {name: torch.randn(w.shape, generator=rng) for name, w in tiny_generator().named_parameters()}
        return torch.stack([(w * pull[name]).sum() for name, w in network.named_parameters()]).sum()


def find(folder: Path, trainer: Noise | None = None, about: About = ABOUT, **asked: Any) -> Ticket:
    settings = SearchSettings(**{"density": 0.3, "rounds": 3, "steps": 4, "trained": True} | asked)
    return search(tiny_generator(), settings, trainer or Noise(), folder, about=about)


def levels_of(folder: Path) -> list[Ticket]:
    levels = Levels(folder)
    return [read_ticket(levels.level(index)) for index in range(1, levels.finished + 1)]


def same(one: Ticket, other: Ticket) -> bool:
    values = (one.values or {}, other.values or {})
    return (
        one.sha256 == other.sha256
        and values[0].keys() == values[1].keys()
        and all(torch.equal(value, values[1][name]) for name, value in values[0].items())
    )


# Levels


@given(density=st.floats(0.05, 0.9), rounds=st.integers(1, 4), allocation=st.sampled_from(["global", "uniform", "erk"]))
@examples(deadline=None, max_examples=10)
def test_levels_are_exact_nested_and_lead_to_the_density(
    tmp_path_factory: pytest.TempPathFactory, density: float, rounds: int, allocation: str
) -> None:
    folder = tmp_path_factory.mktemp("search") / "out"
    ticket = find(folder, density=density, rounds=rounds, allocation=allocation)
    levels = levels_of(folder)
    total = levels[0].mask.counts.total
    assert [level.mask.counts.kept for level in levels] == [
        round(density ** (index / rounds) * total) for index in range(1, rounds + 1)
    ]
    for before, after in pairwise(levels):
        assert after.mask.is_inside(before.mask)
        assert after.about.parent == before.sha256
    assert levels[0].about.parent == ""
    assert ticket.sha256 == levels[-1].sha256
    # Convolutions alone are pruned; a DCGAN's other names are norms, its first and its last layer.
    assert set(ticket.mask.kept) == {"main.3.weight"}


def test_one_round_of_magnitude_keeps_the_largest_weights(tmp_path: Path) -> None:
    ticket = find(tmp_path / "out", rounds=None, schedule="one-shot", roles=("hidden", "output"))
    state = tiny_generator().state_dict()
    flat = torch.cat([state[name].abs().flatten() for name in ("main.3.weight", "main.6.weight")])
    threshold = flat.sort(descending=True).values[round(0.3 * len(flat)) - 1]
    for name, kept in ticket.mask.kept.items():
        assert torch.equal(kept, state[name].abs() >= threshold)
    assert ticket.values is None
    assert ticket.about.rewind == "pretrained"
    assert ticket.about.criterion == "magnitude"
    assert ticket.about.versions["cs-lip"]


def test_scores_are_averaged_over_the_networks_of_a_level(tmp_path: Path) -> None:
    trainer = Noise(NoiseSettings(size=0.3, networks=3))
    ticket = find(tmp_path / "out", trainer, rounds=1, trained=False)
    scores = torch.stack([one.get_parameter("main.3.weight").detach().abs() for one in trainer.ended[0]]).mean(0)
    kept = ticket.mask.kept["main.3.weight"]
    assert scores[kept].min() >= scores[~kept].max()
    for asked in ({"final_steps": 2}, {"rewind": "learning-rate"}, {"rewind": "step", "rewind_step": 1}):
        with pytest.raises(ValueError, match="3 networks") as refused:
            find(tmp_path / "other", trainer, **asked)
        assert_one_sentence(refused.value)
    assert not (tmp_path / "other").exists()


def test_each_network_of_a_level_is_scored_by_its_own_loss(tmp_path: Path) -> None:
    trainer = Noise(NoiseSettings(networks=2))
    ticket = find(tmp_path / "out", trainer, rounds=1, trained=False, criterion="snip")
    name, networks = "main.3.weight", trainer.ended[0]
    mask = Mask.dense(networks[0])
    scores = [snip(*pair)[name] for pair in zip(networks, [mask] * 2, trainer.losses(0), strict=True)]
    kept = ticket.mask.kept[name]
    mean = torch.stack([one / one.sum() for one in scores]).mean(0)
    assert mean[kept].min() >= mean[~kept].max()


@pytest.mark.parametrize("criterion", IN_UNITS_OF_A_LOSS)
def test_no_picture_has_a_larger_say_for_its_larger_loss(tmp_path: Path, criterion: str) -> None:
    class Louder(Noise):
        def losses(self, seed: int) -> Sequence[Callable[[Prunable], Tensor]]:
            one, other = super().losses(seed)
            return [lambda network: one(network) ** 2, lambda network: 1000 * other(network) ** 2]

    class Even(Noise):
        def losses(self, seed: int) -> Sequence[Callable[[Prunable], Tensor]]:
            return [lambda network, loss=loss: loss(network) ** 2 for loss in super().losses(seed)]

    settings = NoiseSettings(networks=2)
    louder, even = (
        find(tmp_path / kind.__name__, kind(settings), rounds=1, trained=False, criterion=criterion).mask.kept
        for kind in (Louder, Even)
    )
    differing = sum(int((louder[name] != even[name]).sum()) for name in louder)
    assert differing <= 0.01 * sum(kept.numel() for kept in even.values()), "more than rounding"


@pytest.mark.parametrize("criterion", AT_INITIALISATION)
def test_scores_at_initialisation_train_nothing(
    tmp_path: Path, criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = BernoulliSettings(steps=20)
    monkeypatch.setattr("cs_lip.tickets.lottery.BernoulliSettings", lambda: learning)
    trainer = fits(2)
    asked = {"criterion": criterion, "at_initialisation": True, "schedule": "one-shot", "rounds": None}
    seen: list[Step] = []
    settings = SearchSettings(**{"density": 0.4} | asked)
    about = about_untrained("skip", SHAPE, 3, **SMALL)
    ticket = search(skip(), settings, trainer, tmp_path / "out", about=about, progress=seen.append)
    network = skip()
    dense = Mask.dense(network)
    seed = derive_seed(0, "scores/level-1")
    given = [Evidence(loss, 0.4, seed, learning=learning) for loss in trainer.losses(0)]
    scores = [score(criterion, network, dense, evidence) for evidence in given]
    if criterion in IN_UNITS_OF_A_LOSS:
        totals = [torch.stack([value.abs().sum() for value in one.values()]).sum() for one in scores]
        scores = [{name: one[name] / total for name in one} for one, total in zip(scores, totals, strict=True)]
    mean = {name: torch.stack([one[name] for one in scores]).mean(0) for name in scores[0]}
    assert ticket.sha256 == select(mean, 0.4, parent=dense).sha256
    assert ticket.values is None
    learned = 2 * 20 * (criterion == "bernoulli")
    assert [(step.done, step.total) for step in seen] == [(one, learned) for one in range(1, learned + 1)]


def test_a_level_that_goes_on_from_another_mask_is_refused(tmp_path: Path) -> None:
    find(tmp_path / "one", seed=1)
    (tmp_path / "one" / "ticket.safetensors").unlink()
    level = Levels(tmp_path / "one").level(2)
    ticket = read_ticket(level)
    write_ticket(level, replace(ticket, about=replace(ticket.about, parent="0" * 64)))
    with pytest.raises(ValueError, match="another mask than that of the level before") as refused:
        find(tmp_path / "one", seed=1)
    assert_one_sentence(refused.value)


def test_channels_are_removed_whole(tmp_path: Path) -> None:
    ticket = find(tmp_path / "out", granularity="channel", density=0.5, rounds=2, final_steps=3)
    kept = ticket.mask.kept
    assert set(kept) == {"main.0.weight", "main.3.weight", "main.6.weight"}
    assert 0.2 < ticket.mask.density <= 0.5
    made, read = kept["main.0.weight"].any(3).any(2).any(0), kept["main.3.weight"].any(3).any(2).any(1)
    assert torch.equal(made, read)
    assert not made.all() or not kept["main.6.weight"].all()


@pytest.mark.parametrize("criterion", ["random", "snip", "taylor", "synflow", "sensitivity"])
def test_other_criteria_find_masks_too(tmp_path: Path, criterion: str) -> None:
    ticket = find(tmp_path / "out", criterion=criterion, rounds=2)
    assert ticket.mask.counts.kept == round(0.3 * ticket.mask.counts.total)
    assert ticket.sha256 != find(tmp_path / "magnitude", rounds=2).sha256


# Rewinding


def weights_at(trainer: Noise, place: int) -> dict[str, Tensor]:
    return {name: value for name, value in trainer.began[place][1].items() if value.dim() == 4}


@pytest.mark.parametrize("trained", [True, False])
def test_rewinding_to_the_start(tmp_path: Path, trained: bool) -> None:
    trainer = Noise()
    ticket = find(tmp_path / "out", trainer, trained=trained)
    masks = [None, *(level.mask for level in levels_of(tmp_path / "out"))]
    assert [level.index for level, _ in trainer.began] == ([1, 2] if trained else [0, 1, 2])
    base = tiny_generator().state_dict()
    for place, (level, _) in enumerate(trainer.began):
        mask = masks[level.index]
        for name, value in weights_at(trainer, place).items():
            kept = torch.ones(()) if mask is None or name not in mask.kept else mask.kept[name]
            # Weights that go through a file are in half precision there.
            torch.testing.assert_close(value, base[name] * kept, rtol=2**-10, atol=1e-6)
    assert ticket.about.rewind == ("pretrained" if trained else "initial")
    assert (ticket.values is None) == trained


def test_rewinding_to_a_step_is_to_the_weights_of_that_step(tmp_path: Path) -> None:
    trainer = Noise()
    ticket = find(tmp_path / "out", trainer, rewind="step", rewind_step=2)
    assert [(level.index, level.steps, level.horizon) for level, _ in trainer.began] == [
        (0, 2, 4),
        (0, 4, 4),
        (1, 4, 4),
        (2, 4, 4),
    ]
    after = trainer.ended[0][0].get_parameter("main.3.weight").detach()
    for place, level in enumerate(levels_of(tmp_path / "out")[:2], 2):
        expected = after * level.mask.kept["main.3.weight"]
        torch.testing.assert_close(weights_at(trainer, place)["main.3.weight"], expected, rtol=2**-10, atol=1e-6)
    assert ticket.values is not None
    assert ticket.about.rewind == "step 2"


def test_rewinding_the_learning_rate_alone_keeps_the_trained_weights(tmp_path: Path) -> None:
    trainer = Noise()
    ticket = find(tmp_path / "out", trainer, rewind="learning-rate", final_steps=7)
    assert [(level.index, level.steps) for level, _ in trainer.began] == [(1, 4), (2, 4), (3, 7)]
    for place, mask in ((1, levels_of(tmp_path / "out")[1].mask), (2, ticket.mask)):
        before = trainer.ended[place - 1][0].get_parameter("main.3.weight").detach()
        began = weights_at(trainer, place)["main.3.weight"]
        torch.testing.assert_close(began, before * mask.kept["main.3.weight"], rtol=2**-10, atol=1e-6)
    assert ticket.values is not None
    assert not ticket.values["main.3.weight"][~ticket.mask.kept["main.3.weight"]].any()


# Interruption


@pytest.mark.parametrize("rewind", ["start", "learning-rate", "step"])
@pytest.mark.parametrize("killed_at", [0, 2, 3])
def test_a_killed_search_ends_with_the_ticket_of_one_that_was_not(tmp_path: Path, rewind: str, killed_at: int) -> None:
    asked = {"rewind": rewind, "rewind_step": 2 * (rewind == "step"), "final_steps": 5, "trained": False}
    whole = find(tmp_path / "whole", **asked)
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "killed", Noise(killed_at=killed_at), **asked)
    assert Levels(tmp_path / "killed").finished == killed_at
    trainer = Noise()
    assert same(find(tmp_path / "killed", trainer, **asked), whole)
    assert min(level.index for level, _ in trainer.began) == killed_at
    untouched = Noise()
    assert same(find(tmp_path / "killed", untouched, **asked), whole)
    assert untouched.began == []


def test_one_seed_makes_one_ticket_and_another_another(tmp_path: Path) -> None:
    tickets = [find(tmp_path / str(place), seed=seed, final_steps=2) for place, seed in enumerate((0, 0, 1))]
    assert same(tickets[0], tickets[1])
    assert tickets[0].sha256 != tickets[2].sha256
    assert tickets[2].about.seeds["search"] == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"density": 0.2}, "density is 0.3, not 0.2"),
        ({"rounds": 4}, "rounds is 3, not 4"),
        ({"seed": 5}, "seed is 0, not 5"),
        ({"criterion": "random"}, "criterion is magnitude, not random"),
        ({"trainer": Noise(NoiseSettings(size=0.5))}, "trainer size is 0.05, not 0.5"),
        ({"about": replace(ABOUT, base_sha256="1" * 64)}, "network base sha256 is 000"),
    ],
)
def test_a_search_with_other_settings_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    find(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=told) as refused:
        find(tmp_path, **changed)
    assert_one_sentence(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_ticket_or_level_of_another_seed_is_refused(tmp_path: Path) -> None:
    find(tmp_path / "one", seed=1)
    find(tmp_path / "two", seed=2)
    ours, its = Levels(tmp_path / "one"), Levels(tmp_path / "two")
    ours.ticket.write_bytes(its.ticket.read_bytes())
    with pytest.raises(ValueError, match="of another search") as refused:
        find(tmp_path / "one", seed=1)
    assert_one_sentence(refused.value)
    ours.ticket.unlink()
    ours.level(1).write_bytes(its.level(1).read_bytes())
    with pytest.raises(ValueError, match=r"level-01\.safetensors is of another search"):
        find(tmp_path / "one", seed=1)


def test_what_differs_far_into_a_setting_is_shown(tmp_path: Path) -> None:
    long = "picture.png, " * 20
    find(tmp_path, about=replace(ABOUT, data=f"{long}one.png"))
    with pytest.raises(ValueError, match=r"one\.png, not .*two\.png; try") as refused:
        find(tmp_path, about=replace(ABOUT, data=f"{long}two.png"))
    assert_one_sentence(refused.value)


def test_a_search_whose_network_comes_trained_is_another_one(tmp_path: Path) -> None:
    asked = {"rewind": "learning-rate", "rounds": 1}
    find(tmp_path / "out", trained=False, **asked)
    with pytest.raises(ValueError, match="trained is False, not True"):
        find(tmp_path / "out", trained=True, **asked)
    find(tmp_path / "other", trained=False, rounds=1)
    with pytest.raises(ValueError, match="rewind is initial, not pretrained"):
        find(tmp_path / "other", trained=True, rounds=1)


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"other work \(notes.txt\)") as refused:
        find(tmp_path)
    assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="is a file") as refused:
        find(tmp_path / "notes.txt")
    assert_one_sentence(refused.value)
    find(tmp_path / "out")
    levels = Levels(tmp_path / "out")
    levels.ticket.unlink()
    levels.level(2).write_bytes(levels.level(2).read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged") as refused:
        find(tmp_path / "out")
    assert_one_sentence(refused.value)
    (tmp_path / "out" / "search.json").write_text("[]")
    with pytest.raises(ValueError, match="damaged") as refused:
        find(tmp_path / "out")
    assert_one_sentence(refused.value)


@pytest.mark.parametrize(
    "asked",
    [
        {"density": 0.0},
        {"density": 1.5},
        {"density": float("nan")},
        {"density": 0.2, "steps": 0},
        {"density": 0.2, "final_steps": -1},
        {"density": 0.2, "rewind": "yesterday"},
        {"density": 0.2, "rewind": "step"},
        {"density": 0.2, "rewind_step": 3},
        {"density": 0.2, "rewind": "step", "rewind_step": 501},
        {"density": 0.2, "schedule": "linear"},
        {"density": 0.2, "rounds": 0},
        {"density": 1.0, "criterion": "bernoulli"},
        {"density": 0.2, "granularity": "channel", "roles": ("input", "hidden")},
        {"density": 0.2, "at_initialisation": True, "trained": True},
        {"density": 0.2, "at_initialisation": True, "rewind": "learning-rate"},
    ],
)
def test_settings_that_make_no_search_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="try ") as refused:
        SearchSettings(**asked)
    assert_one_sentence(refused.value)


def test_channels_share_the_density_evenly_unless_it_is_said() -> None:
    assert SearchSettings(0.2).allocation == SearchSettings(0.2, granularity="kernel").allocation == "global"
    assert SearchSettings(0.2, granularity="channel").allocation == "uniform"
    assert SearchSettings(0.2, granularity="channel", allocation="global").allocation == "global"


@pytest.mark.parametrize(
    "asked",
    [
        {"criterion": "beauty"},
        {"allocation": "fair"},
        {"granularity": "pixel"},
        {"roles": ("middle",)},
        {"floor": 0.9},
        {"density": 1e-7},
    ],
)
def test_searches_that_cannot_be_made_leave_nothing(tmp_path: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="try ") as refused:
        find(tmp_path / "out", **asked)
    assert_one_sentence(refused.value)
    assert not (tmp_path / "out").exists()


# Zeros


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), torch.optim.Adam])
@given(density=st.floats(0.1, 0.9))
@examples(deadline=None, max_examples=5)
def test_weights_held_at_zero_stay_there_under_momentum(
    make: Callable[[Any], torch.optim.Optimizer], density: float
) -> None:
    generator = tiny_generator()
    rng = stream(0, "test")
    optimiser = make(list(generator.parameters()))

    def descend(steps: int, project: bool) -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            generator(generator.sample_latents(4, generator=rng)).square().mean().backward()
            optimiser.step()
            if project:
                generator.project_()

    descend(2, False)  # so that there is momentum on every weight when the mask comes
    kept = torch.rand(generator.get_parameter("main.3.weight").shape, generator=rng) < density
    Mask({"main.3.weight": kept}).apply_(generator)
    before = generator.get_parameter("main.3.weight").detach().clone()
    descend(3, True)
    after = generator.get_parameter("main.3.weight").detach()
    assert not after[~kept].any()
    assert (after[kept] != before[kept]).float().mean() > 0.9  # no gradient reaches some taps at the border
    descend(1, False)
    assert generator.get_parameter("main.3.weight").detach()[~kept].any(), "without projection momentum revives them"


def test_the_learning_rate_falls_along_a_cosine() -> None:
    level = Level(0, 1, 8, 8)
    assert [cosine(level, done) for done in (0, 4, 8)] == pytest.approx([1, 0.5, 0])
    assert cosine(Level(0, 1, 2, 8), 2) == pytest.approx((1 + 0.5**0.5) / 2)


# Untrained networks


def pictures(count: int) -> Tensor:
    steps = torch.linspace(0, 1, 16)
    return torch.stack([(steps[None] * (one + 1) % 1 + steps[:, None]).clamp(0, 2)[None] / 2 for one in range(count)])


def fits(count: int) -> Fits:
    images = pictures(count)
    noise = 0.05 * torch.randn(images.shape, generator=stream(0, "noise"))
    return Fits([pose(Identity(SHAPE), (images + noise)[one : one + 1], noise=0.05) for one in range(count)])


def skip() -> UntrainedNetwork:
    return untrained_network("skip", SHAPE, 3, **SMALL)


def find_skip(folder: Path, trainer: Fits, **asked: Any) -> Ticket:
    settings = SearchSettings(**{"density": 0.4, "rounds": 2, "steps": 6} | asked)
    return search(skip(), settings, trainer, folder, about=about_untrained("skip", SHAPE, 3, **SMALL))


def test_a_criterion_is_told_the_density_of_weights_where_kernels_are_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, Mask]] = []

    def watched(criterion: str, network: Prunable, mask: Mask, evidence: Evidence) -> dict[str, Tensor]:
        told.append((evidence.density, mask))
        return score("magnitude", network, mask)

    monkeypatch.setattr(lottery, "score", watched)
    find_skip(tmp_path / "out", fits(1), granularity="kernel", criterion="random", density=0.25)
    (first, dense), (second, halved) = told
    assert dense.density == 1 and first == pytest.approx(0.5)
    assert abs(halved.density - 0.5) > 0.01  # kernels of 1x1 and of 3x3
    assert second / halved.density == pytest.approx(0.25 / 0.5, rel=0.02)


@pytest.mark.parametrize("count", [1, 3])
def test_a_mask_of_an_untrained_network_goes_with_its_initial_weights(tmp_path: Path, count: int) -> None:
    ticket = find_skip(tmp_path / "out", fits(count))
    assert ticket.values is None
    assert ticket.about.rewind == "initial"
    network = ticketed(ticket)
    assert Mask.measured(network, ticket.mask.kept).counts == ticket.mask.counts
    assert ticket.mask.counts.kept == round(0.4 * ticket.mask.counts.total)
    initial = skip()
    for name, kept in ticket.mask.kept.items():
        assert torch.equal(network.get_parameter(name), initial.get_parameter(name) * kept)
        assert name.endswith("weight") and kept.dim() == 4


def test_the_levels_of_an_untrained_search_are_those_of_magnitude_pruning_by_hand(tmp_path: Path) -> None:
    """Fit, prune 36.8 % of what is left over all layers, rewind; against PyTorch's own global pruning."""
    trainer = fits(1)
    ticket = find_skip(tmp_path / "out", trainer)
    network = skip()
    names = network.weight_groups()["hidden"]
    masks = {name: torch.ones_like(network.get_parameter(name)) for name in names}
    for density in (0.4**0.5, 0.4):
        masked = skip()
        masked.keep_({name: mask.bool() for name, mask in masks.items()})
        (trained,) = trainer.train(masked, level=Level(0, 2, 6, 6), seed=0)
        modules = [(trained.get_submodule(name.removesuffix(".weight")), "weight") for name in names]
        total = sum(mask.numel() for mask in masks.values())
        prune.global_unstructured(modules, prune.L1Unstructured, amount=total - round(density * total))
        masks = {name: module.weight_mask for name, (module, _) in zip(names, modules, strict=True)}
    assert all(torch.equal(ticket.mask.kept[name], mask.bool()) for name, mask in masks.items())


def test_pictures_have_fits_of_their_own_and_share_the_mask(tmp_path: Path) -> None:
    trainer = fits(2)
    seen: list[Step] = []
    networks = trainer.train(skip(), level=Level(0, 1, 5, 5), seed=0, progress=seen.append)
    assert len(networks) == 2
    assert [step.done for step in seen] == list(range(1, 11))
    assert {step.total for step in seen} == {10}
    name = "output.weight"
    assert not torch.equal(networks[0].get_parameter(name), networks[1].get_parameter(name))
    both, first = find_skip(tmp_path / "both", trainer), find_skip(tmp_path / "first", fits(1))
    assert both.sha256 != first.sha256


def test_a_fit_hands_back_the_weights_of_the_chosen_iterate() -> None:
    problem = pose(Gaussian(SHAPE, 80, seed=0), Gaussian(SHAPE, 80, seed=0)(pictures(1)))
    network = skip()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def fitted(**asked: Any) -> UntrainedNetwork:
        return UntrainedFit(**asked).fitted(Task(problem, network, 0, Trace(problem)))

    last = fitted(iterations=8, stop="last")
    inputs = network.sample_input(generator=stream(0, "input/0"))
    which = torch.zeros(1, dtype=torch.long)

    def misfit(candidate: UntrainedNetwork) -> float:
        with torch.no_grad():
            return float(problem.residual(candidate(inputs), which).square().sum())

    assert misfit(last) < 0.8 * misfit(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # With so large a rate that nothing after the first iterates is better, the stop is early and so are the weights.
    early = fitted(iterations=8, learning_rate=3.0, stop="held-out", held_out=0.3)
    ran_on = fitted(iterations=8, learning_rate=3.0, stop="last")
    assert not torch.equal(early.get_parameter("output.weight"), ran_on.get_parameter("output.weight"))


def test_fits_of_nothing_and_of_generators_are_refused() -> None:
    with pytest.raises(ValueError, match="one picture each") as refused:
        Fits([])
    assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="one picture each") as refused:
        Fits([pose(Identity(SHAPE), pictures(2))])
    assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="untrained network") as refused:
        fits(1).check(tiny_generator())
    assert_one_sentence(refused.value)


def test_the_loss_of_fits_is_the_mean_squared_error_of_denoising() -> None:
    trainer = fits(2)
    network = skip()
    for picture, (problem, loss) in enumerate(zip(trainer.problems, trainer.losses(7), strict=True)):
        inputs = network.sample_input(generator=stream(derive_seed(7, f"fits/picture-{picture}"), "input/0"))
        error = (network(inputs).flatten() - problem.measurements[0]).square().mean()
        torch.testing.assert_close(loss(network), error, rtol=0.1, atol=0)  # the gain is an estimate
        assert loss(network).requires_grad


def test_the_way_to_a_point_to_rewind_to_ends_with_its_last_step() -> None:
    trainer = fits(1)
    (early,) = trainer.train(skip(), level=Level(0, 1, 3, 8), seed=0)
    task = Task(trainer.problems[0], skip(), derive_seed(0, "fits/picture-0"), Trace(trainer.problems[0]))
    last = UntrainedFit(iterations=3, stop="last").fitted(task)
    assert torch.equal(early.get_parameter("output.weight"), last.get_parameter("output.weight"))


def test_a_fit_that_diverges_is_pruned_no_further(tmp_path: Path) -> None:
    wild = Fits([pose(Identity(SHAPE), 1e25 * pictures(1))])
    with pytest.raises(ValueError, match="diverged at step") as refused:
        find_skip(tmp_path / "out", wild)
    assert_one_sentence(refused.value)
