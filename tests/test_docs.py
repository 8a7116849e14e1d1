"""The pages under docs say what is there, and their examples run."""

import re
from pathlib import Path
from typing import Any

import cs_lip.operators
from cs_lip.operators import LinearOperator

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"


def test_examples_of_the_operators_page_run() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(block, names)
    assert names["y"].shape == (8, *names["A"].out_shape)
    assert names["solution"].shape == (names["A"].n,)


def test_every_operator_is_in_the_table() -> None:
    exported = [getattr(cs_lip.operators, name) for name in cs_lip.operators.__all__]
    kinds = {kind.__name__ for kind in exported if isinstance(kind, type) and issubclass(kind, LinearOperator)}
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert kinds - {"LinearOperator"} == listed
