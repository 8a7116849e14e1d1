"""The documentation builds as a site without a warning, asks the network for nothing, and says all there is."""

import importlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_docs import run_examples

from cs_lip.recovery import Status

ROOT = Path(__file__).parents[1]
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
TUTORIALS = [f"tutorials/{path.stem}" for path in NOTEBOOKS]
ROOMS = ("operators", "priors", "recovery", "tickets")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; every warning fails the build: a link without a target, a page outside the menu, a docstring amiss."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # Material's advertisement of its successor is no warning about these pages.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


class Page(HTMLParser):
    """What is on a page: names of tags, ids, what it loads, and links that are none."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.empty_links: list[str] = []
        text = path.read_text(encoding="utf-8")
        self.escaped_pipes = sum(r"\|" in cell for cell in re.findall(r"<td.*?</td>", text, re.DOTALL))
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.ids.add(given.get("id") or "")
        if tag == "a" and not {"href", "id", "name"} & given.keys():
            self.empty_links.append(str(attrs))
        source = given.get("href") if tag == "link" and given.get("rel") == "stylesheet" else given.get("src")
        if source is not None:
            self.loads.append(source)


def read(site: Path, name: str) -> Page:
    return Page(site / ("index.html" if name == "index" else f"{name}/index.html"))


@pytest.mark.parametrize("name", PAGES + TUTORIALS)
def test_a_page_is_whole_and_loads_nothing_from_elsewhere(site: Path, name: str) -> None:
    page = read(site, name)
    assert page.loads
    assert [source for source in page.loads if re.match(r"(\w+:)?//", source)] == []
    # <A x, y> in a text, outside code, would be taken for a tag and vanish
    assert [tag for tag in page.tags if not re.fullmatch(r"[a-z]+[1-6]?", tag)] == []
    assert page.empty_links == []
    assert page.escaped_pipes == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_page_with_its_pictures(site: Path, path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    stored = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", ()))
    page = read(site, f"tutorials/{path.stem}")
    shown = [source for source in page.loads if source.endswith(".png") and path.stem in source]
    assert len(shown) == stored
    assert all((site / "tutorials" / path.stem / source).is_file() for source in shown)
    assert "pre" in page.tags


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_every_public_name(site: Path, room: str) -> None:
    public = importlib.import_module(f"cs_lip.{room}").__all__
    ids = read(site, f"reference/{room}").ids
    assert [name for name in public if f"cs_lip.{room}.{name}" not in ids] == []


def test_the_reference_has_what_judges_and_shows(site: Path) -> None:
    judged, shown = read(site, "reference/evaluation").ids, read(site, "reference/report").ids
    names = ("metrics.psnr", "statistics.wilson_interval", "sweep.plan.Plan", "sweep.table.Row", "oracle.OraclePeak")
    assert [name for name in names if f"cs_lip.evaluation.{name}" not in judged] == []
    names = ("report.write_report", "curves.error_figure", "density.density_figure", "style.save_figure")
    assert [name for name in names if f"cs_lip.report.{name}" not in shown] == []


def test_every_stored_table_is_on_the_page_of_benchmarks(site: Path) -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    stored = sorted(path.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*.md"))
    assert stored
    assert [name for name in stored if f'--8<-- "{name}"' not in text] == [], "docs/benchmarks.md leaves tables out"
    assert "--8<--" not in (site / "benchmarks" / "index.html").read_text(encoding="utf-8")


def test_the_first_example_recovers_a_face() -> None:
    names = run_examples("index.md")
    assert names["recovery"].status == (Status.CONVERGED,)
    assert (names["recovery"].images - names["x"]).square().mean() < 1e-6


def test_the_example_of_a_generator_of_ones_own_recovers() -> None:
    names = run_examples("how-to/generator.md")
    assert (names["recovery"].images - names["x"]).square().mean() < 1e-6


def test_the_example_of_an_operator_of_ones_own_is_right() -> None:
    names = run_examples("how-to/operator.md")
    assert names["y"].shape == (4, 60)
    assert names["error"] < 1e-14
    assert (names["recovery"].images - names["scene"]).square().mean() < 0.01


def test_the_example_of_data_of_ones_own_comes_back() -> None:
    names = run_examples("how-to/data.md")
    assert names["again"].values.equal(names["values"])
    assert names["again"].response == names["measured"].response


def test_the_signal_to_noise_ratios_are_those_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    run_examples("science.md")
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    (said,) = re.findall(r"# about ([\d, ]+) and (\d+) dB", (DOCS / "science.md").read_text(encoding="utf-8"))
    expected = [*map(int, said[0].split(",")), int(said[1])]
    assert [round(float(ratio)) for _, _, ratio in told] == expected
