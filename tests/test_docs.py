"""The pages under docs say what is there, and their examples run."""

import itertools
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_generator
from test_dcgan_layouts import csgm_variables
from test_decoder import csgm_state, linear_state
from test_pggan import zoo_state
from test_stylegan2 import as_rosinality, nvlabs_state

import cs_lip.operators
from cs_lip.evaluation.sweep.executors import NAMES as EXECUTORS
from cs_lip.evaluation.sweep.plan import expand
from cs_lip.evaluation.sweep.plan_file import plan_from_table, ready_plans
from cs_lip.operators import LinearOperator
from cs_lip.priors import LAYOUTS, SKIP_SETTINGS, UNTRAINED, Options, build, recognise
from cs_lip.recovery import FIDELITIES, SOLVERS, Status
from cs_lip.seeding import stream

DOCS = Path(__file__).parents[1] / "docs"


def run_examples(page: str) -> dict[str, Any]:
    """The names that a page's examples leave behind, run one after the other."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, names)
    return names


def test_examples_of_the_operators_page_run() -> None:
    names = run_examples("operators.md")
    assert names["y"].shape == (8, *names["A"].out_shape)
    assert names["solution"].shape == (names["A"].n,)


def test_examples_of_the_untrained_page_run() -> None:
    names = run_examples("untrained.md")
    assert names["image"].shape == (1, 3, 40, 50)
    assert names["losses"][-1] < names["losses"][0]


def test_every_untrained_network_is_in_a_table() -> None:
    rows = set(re.findall(r"^\| `([\w-]+)` \|", (DOCS / "untrained.md").read_text(), re.MULTILINE))
    assert rows == UNTRAINED.keys() | SKIP_SETTINGS.keys()


def test_examples_of_the_pictures_page_run() -> None:
    assert run_examples("pictures.md")["image"].pixels.shape == (1, 64, 64)


def test_every_operator_is_in_the_table() -> None:
    exported = [getattr(cs_lip.operators, name) for name in cs_lip.operators.__all__]
    kinds = {kind.__name__ for kind in exported if isinstance(kind, type) and issubclass(kind, LinearOperator)}
    listed = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "operators.md").read_text(), re.MULTILINE))
    assert kinds - {"LinearOperator"} == listed


def test_example_of_the_generators_page_runs() -> None:
    names = run_examples("generators.md")
    assert names["images"].shape == (4, 1, 28, 28)
    assert list(names["generator"].layers()) == ["start", "double-1", "double-2"]
    assert names["mine"].image_shape == (3, 16, 16)


def test_examples_of_the_tickets_page_run() -> None:
    names = run_examples("tickets.md")
    assert names["measured_layers"](names["sparse"])["main.3.weight"] == (14746, 73728)
    assert names["larger"].image_shape == (3, 96, 80)
    assert names["mask_report"](names["found"], names["other"]).fits
    assert names["moved"].kept.keys() == names["found"].mask.kept.keys()
    kept, total = names["lottery"].mask.counts
    assert kept == round(0.5 * total)
    assert names["lottery"].about.criterion == "magnitude"


def test_example_of_the_recovery_page_runs() -> None:
    recovery = run_examples("recovery.md")["recovery"]
    assert recovery.images.shape == (1, 1, 16, 16)
    assert recovery.notes[0]["held_out_misfit"] > 0


@pytest.mark.parametrize("names", [SOLVERS, FIDELITIES, list(Status)], ids=["solvers", "fidelities", "statuses"])
def test_the_recovery_page_has_a_row_for_everything_by_name(names: Iterable[str]) -> None:
    text = (DOCS / "recovery.md").read_text()
    assert [name for name in names if f"\n| `{name}` |" not in text] == []


SAMPLES = {
    "DCGAN of the PyTorch tutorial": lambda: tiny_generator().state_dict(),
    "DCGAN of CSGM in TensorFlow": lambda: csgm_variables((5, 4, 3, 3)),
    "PGGAN of pytorch_GAN_zoo": zoo_state,
    "StyleGAN2 of NVlabs stylegan2-ada-pytorch": nvlabs_state,
    "StyleGAN2 of rosinality stylegan2-pytorch": lambda: as_rosinality(nvlabs_state()),
    "VAE of CSGM in TensorFlow": lambda: {name: torch.from_numpy(value) for name, value in csgm_state().items()},
    "plain decoder": lambda: linear_state(["0", "2"], [4, 6, 9]),
}
"""A state dict in every layout."""


def test_every_layout_is_in_the_table_with_the_latents_that_it_has() -> None:
    rows = [
        line.strip("| ").split(" | ")
        for line in (DOCS / "generators.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    latents = {row[0]: row[1] for row in rows if len(row) == 6}
    assert latents.keys() - {"layout", "---", "ONNX"} == {layout.name for layout in LAYOUTS} == SAMPLES.keys()
    for name, sample in SAMPLES.items():
        blueprint = recognise(sample())
        generator = build(blueprint)
        assert blueprint.layout == name
        assert latents[name].split()[0] == generator.geometry
        with torch.no_grad():
            image = generator(generator.sample_latents(2, generator=stream(0, "test")))
        assert 0 <= image.min() < image.max() <= 1
    for space in ("w", "w+"):
        assert build(recognise(nvlabs_state(), Options(space=space))).geometry == "gaussian"


def test_the_sweeps_page_has_the_plans_the_executors_and_a_plan_that_runs() -> None:
    names = run_examples("sweeps.md")
    interval = names["rate_interval"]([True] * 19 + [False], images=range(20), seeds=[0] * 20)
    assert (round(interval.low, 2), round(interval.high, 2)) == (0.76, 0.99)
    page = (DOCS / "sweeps.md").read_text()
    listed = set(re.findall(r"^\| `(\w[\w-]*)`(?: \(default\))? \|", page, re.MULTILINE))
    assert listed == {*ready_plans(), *EXECUTORS}
    plan = plan_from_table(tomllib.loads("\n".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL))), "docs")
    assert (len(plan.methods), len(plan.claims)) == (4, 1)
    assert not any("claims" in note for note in expand(replace(plan, images=("in-range:1",))).notes)


# Results


COPIED = (
    "docs/generators.md",
    "docs/operators.md",
    "docs/recovery.md",
    "docs/tickets.md",
    "docs/untrained.md",
    "README.md",
)
"""The pages with tables of benchmarks, whole ones."""


def tables(text: str) -> list[list[str]]:
    """The lines of every table, its head first, without marks of code and bold type."""
    lines = [re.sub(r"[`*]", "", line.strip()) for line in text.splitlines()]
    grouped = itertools.groupby(lines, lambda line: line.startswith("|"))
    groups = [list(group) for is_table, group in grouped if is_table]
    return [group for group in groups if len(group) > 2]  # fewer are a formula's line


def results() -> list[str]:
    return [path.read_text() for path in sorted((DOCS.parent / "benchmarks" / "results").glob("**/*.md"))]


@pytest.mark.parametrize("page", COPIED)
def test_the_tables_of_benchmarks_are_as_they_were_measured(page: str) -> None:
    measured = [table for text in results() for table in tables(text)]
    copies = 0
    for head, _, *rows in tables((DOCS.parent / page).read_text()):
        headed = [table for table in measured if table[0] == head]
        # README.md names a solver otherwise in its head.
        source = max(headed or measured, key=lambda table: len(set(rows) & set(table)))
        if headed or len(set(rows) & set(source)) >= 2:
            copies += 1
            assert [row for row in rows if row not in source] == []
    assert copies


def test_the_intervals_of_the_tickets_page_are_those_that_were_measured() -> None:
    told = re.findall(r"\([-+][\d.]+ to [-+][\d.]+\)", (DOCS / "tickets.md").read_text())
    measured = " ".join(results())
    assert len(told) > 50 and not [interval for interval in told if interval not in measured]
