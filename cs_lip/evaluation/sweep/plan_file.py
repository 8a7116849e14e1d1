"""Plans as TOML: the user's own, and those that are ready."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from cs_lip.evaluation.sweep.claims import Claim
from cs_lip.evaluation.sweep.methods import Method
from cs_lip.evaluation.sweep.plan import Plan, plan_to_table
from cs_lip.evaluation.sweep.words import choose

LISTS: dict[str, type] = {
    "images": str,
    "measurements": int,
    "operator": str,
    "noise": float,
    "outliers": float,
    "fidelity": str,
}
VALUES: dict[str, type] = {"seeds": int, "restarts": int, "generator": str, "name": str, "results": str}
METHOD_KEYS = tuple(each.name for each in fields(Method))
CLAIM_KEYS = tuple(each.name for each in fields(Claim))
KEYS = (*LISTS, *VALUES, "method", "claim")
MAX_BYTES = 2**20


def read_plan(path: Path, *, quick: bool = False) -> Plan:
    """The plan in a TOML file.

    Args:
        path: of the file.
        quick: whether what its table ``[quick]`` says replaces what stands before it.

    Raises:
        ValueError: no such file, no TOML, an unknown key or value, which is named with the nearest known one, or no
            table ``[quick]`` where it is asked for.
    """
    if path.is_dir():
        raise ValueError(f"{path!s:.160} is a folder, expected a plan's file; try --images {path!s:.160} for pictures")
    if not path.is_file():
        raise ValueError(f"there is no plan {path!s:.160}; try --plan with one of {', '.join(ready_plans())}")
    with path.open("rb") as file:
        return _parsed(file.read(MAX_BYTES), str(path), quick)


def ready_plans() -> tuple[str, ...]:
    """The names of the plans that come with cs-lip."""
    folder = resources.files("cs_lip.evaluation") / "plans"
    return tuple(sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml")))


def ready_plan(name: str, *, quick: bool = False) -> Plan:
    """A plan that comes with cs-lip.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ready_plans() and Path(name).is_file():
        raise ValueError(f"{name!s:.160} is a file, not the name of a ready plan; try it without --plan")
    choose(name, ready_plans(), "ready plan")
    file = resources.files("cs_lip.evaluation") / "plans" / f"{name}.toml"
    return _parsed(file.read_bytes(), name, quick)


def plan_text(plan: Plan) -> str:
    """The plan as TOML that `read_plan` reads back."""
    return tomli_w.dumps(plan_to_table(plan))


def plan_from_table(table: Mapping[str, Any], source: str) -> Plan:
    """The plan in a table of lists, as TOML has it.

    Raises:
        ValueError: as `read_plan`; the message names the source.
    """
    for key in table:
        choose(key, KEYS, "key", f" in the plan {source:.120}")
    given: dict[str, Any] = {name: _list(table[name], name, kind) for name, kind in LISTS.items() if name in table}
    given |= {name: _value(table[name], name, kind) for name, kind in VALUES.items() if name in table}
    if "images" not in given:
        raise ValueError(f'the plan {source:.120} says no images; try images = ["in-range:4", "astronaut"]')
    claims = tuple(_claim(each) for each in _claims(table, source))
    return Plan(methods=tuple(_method(each) for each in _methods(table, source)), claims=claims, **given)


def _parsed(content: bytes, source: str, quick: bool) -> Plan:
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"the plan {source:.120} is no TOML ({reason}); try to correct it there") from None
    smaller = table.pop("quick", None)
    if quick and not isinstance(smaller, dict):
        raise ValueError(f"the plan {source:.120} has no table [quick]; try it without --quick")
    if quick and smaller:
        table |= smaller
        # A small form measures less, so it says less, and methods for other operators have nothing to do.
        operators = _list(table.get("operator", list(Plan.operator)), "operator", str)
        table["claim"] = [each for each in _claims(table, source) if each.get("operator") in operators]
        if "method" not in smaller:
            table["method"] = [each for each in map(partial(_only, operators), _methods(table, source)) if each]
    return plan_from_table(table, source)


def _only(operators: Collection[str], method: Mapping[str, Any]) -> Mapping[str, Any]:
    """A method's table with those of its operators; empty where it had others alone."""
    if not method.get("operator"):
        return method
    kept = [each for each in _list(method["operator"], "operator", str) if each in operators]
    return {**method, "operator": kept} if kept else {}


def _methods(table: Mapping[str, Any], source: str) -> list[Mapping[str, Any]]:
    return _tables(table.get("method", []), f"methods of the plan {source:.120}", "[[method]] and below it a solver")


def _method(table: Mapping[str, Any]) -> Method:
    for key in table:
        choose(key, METHOD_KEYS, "key", " in a method of the plan")
    if "solver" not in table:
        raise ValueError('a method of the plan says no solver; try solver = "auto"')
    given: dict[str, Any] = {key: (_list if key in LISTS else _value)(value, key, str) for key, value in table.items()}
    return Method(**given)


def _claims(table: Mapping[str, Any], source: str) -> list[Mapping[str, Any]]:
    return _tables(table.get("claim", []), f"claims of the plan {source:.120}", "[[claim]] and below it what it says")


def _claim(table: Mapping[str, Any]) -> Claim:
    for key in table:
        choose(key, CLAIM_KEYS, "key", " in a claim of the plan")
    if missing := [key for key in CLAIM_KEYS if key != "at_least" and key not in table]:
        raise ValueError(f"a claim of the plan has no {missing[0]}; try {missing[0]} = {_EXAMPLES[missing[0]]}")
    return Claim(**{key: _value(value, key, float if key == "at_least" else str) for key, value in table.items()})


def _tables(given: Any, what: str, attempt: str) -> list[Mapping[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise ValueError(f"the {what} are no tables; try {attempt}")
    return given


def _list(given: Any, name: str, kind: type) -> tuple[Any, ...]:
    values = given if isinstance(given, list) else [given]
    return tuple(_value(value, name, kind, "every one of ") for value in values)


def _value(given: Any, name: str, kind: type, which: str = "") -> Any:
    if kind is float and type(given) is int:
        return float(given)
    if type(given) is not kind:
        words = {str: "text", int: "a whole number", float: "a number"}
        raise ValueError(f"{which}the plan's {name} must be {words[kind]}, got {given!r:.60}; try {_EXAMPLES[name]}")
    return given


_EXAMPLES = {
    "images": '["in-range:4", "astronaut"]',
    "measurements": "[50, 100, 200]",
    "operator": '["gaussian"]',
    "noise": "[0.01]",
    "outliers": "[0.02]",
    "fidelity": '["least-squares"]',
    "seeds": "3",
    "restarts": "10",
    "generator": '"digiface-dcgan"',
    "name": '"mine"',
    "solver": '"auto"',
    "prior": '"skip"',
    "ticket": '"bundled"',
    "results": '"benchmarks/results"',
    "says": '"a ticket is as good as the dense network"',
    "source": '"Wu et al. 2023"',
    "ours": '"latent-search digiface-dcgan-02"',
    "rival": '"latent-search"',
    "at_least": "-0.1",
}
