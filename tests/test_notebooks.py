"""Every notebook runs from top to bottom, and is stored with the pictures that it drew."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def has_picture(cell: NotebookNode) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_there_are_notebooks() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@every
def test_it_runs_and_ends_with_a_picture(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert has_picture(code(notebook)[-1])


@every
def test_it_is_stored_whole_and_tells_nothing_of_the_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert has_picture(cells[-1])
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert str(Path(__file__).parents[1]) not in path.read_text(encoding="utf-8")


@every
def test_it_uses_nothing_private(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                assert not [name.name for name in node.names if name.name.startswith("_")]
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_") or node.attr in ("__init__", "__call__")


def test_what_they_read_is_small() -> None:
    data = Path(__file__).parents[1] / "notebooks" / "data"
    assert 0 < sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) < 10**6
