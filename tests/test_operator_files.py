"""Operators in files and in other processes: the same numbers, or a sentence that says why not."""

import copy
import json
import math
import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from test_operators import EVERY, EXPRESSIONS, KINDS, SHAPE, Wrong, assert_same_numbers, fourier, gaussian, image

from cs_lip import files
from cs_lip.operators import (
    Gaussian,
    Identity,
    LinearOperator,
    Mask,
    check_response,
    load_operator,
    operator_from_recipe,
    probe_response,
    save_operator,
)

SUFFIXES = pytest.mark.parametrize("suffix", [".json", ".h5"])


@pytest.fixture(autouse=True)
def _no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@SUFFIXES
@EVERY
def test_a_file_holds_the_operator_bit_for_bit(make: Callable[[], LinearOperator], suffix: str, tmp_path: Path) -> None:
    A, path = make(), tmp_path / f"operator{suffix}"
    save_operator(A, path)
    with warnings.catch_warnings():
        # An operator without its matrix may come back with it, and then adds in another order.
        warnings.filterwarnings("ignore", message=".*up to rounding", category=RuntimeWarning)
        B = load_operator(str(path))
    assert B.recipe() == A.recipe()
    C = operator_from_recipe(A.recipe())
    assert_same_numbers(B, C)
    x = image(A, (2,), dtype=torch.float32)
    assert torch.equal(B(x), C(x))
    torch.testing.assert_close(A(x), B(x), rtol=1e-5, atol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@SUFFIXES
def test_recipes_of_many_kilobytes(suffix: str, tmp_path: Path) -> None:
    kept = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0)) > 0.5
    A = Mask(kept)
    assert len(json.dumps(A.recipe())) > 2**16
    save_operator(A, tmp_path / f"mask{suffix}")
    B = load_operator(tmp_path / f"mask{suffix}")
    assert isinstance(B, Mask) and torch.equal(B.mask, kept)


def test_dtype_is_not_kept_and_its_response_is_that_of_single_precision(tmp_path: Path) -> None:
    A = gaussian().double()
    assert probe_response(A) == probe_response(gaussian())
    save_operator(A, tmp_path / "a.json")
    assert torch.equal(load_operator(tmp_path / "a.json").to_matrix(), gaussian().matrix)
    assert A.matrix.dtype == torch.float64


# The checksum.


def changed(edit: Callable[[Any], None]) -> Gaussian:
    A = Gaussian((3, 16, 16), 200, seed=0)
    edit(A.matrix)
    return A


@pytest.mark.parametrize(
    "edit",
    [
        lambda matrix: matrix.mul_(1.001),
        lambda matrix: matrix[17].zero_(),
        lambda matrix: matrix[17].neg_(),
        lambda matrix: matrix.copy_(matrix.flip(0)),
        lambda matrix: matrix.copy_(matrix.flip(1)),
        lambda matrix: matrix.copy_(Gaussian((3, 16, 16), 200, seed=1).matrix),
        lambda matrix: matrix.fill_(math.nan),
    ],
    ids=["scale", "row", "sign", "order of rows", "order of columns", "seed", "NaN"],
)
def test_other_numbers_are_found_out(edit: Callable[[Any], None]) -> None:
    expected = probe_response(changed(lambda _: None))
    assert check_response(changed(lambda _: None), expected, "y.h5")
    with pytest.raises(ValueError, match=r"y\.h5 describes an operator that answers otherwise") as caught:
        check_response(changed(edit), expected, "y.h5")
    assert_one_sentence(caught.value)


def test_rounding_is_none_of_it_and_is_reported(tmp_path: Path) -> None:
    A = changed(lambda matrix: matrix.mul_(1 + 2e-7))
    expected = probe_response(changed(lambda _: None))
    assert not check_response(A, expected, "y.h5")
    path = tmp_path / "a.json"
    save_operator(gaussian(), path)
    document = json.loads(path.read_text())
    document["response"]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    with pytest.warns(RuntimeWarning, match="up to rounding, not bit for bit") as caught:
        assert_same_numbers(load_operator(path), gaussian())
    assert_one_sentence(caught[0].message)


def test_the_response_does_not_change_from_version_to_version() -> None:
    # If this fails, files already written are refused: raise the format of the files.
    response = probe_response(Identity((2, 3)))
    assert response["norm"] == pytest.approx(1.4211640587218002, abs=1e-12)
    assert response["projections"][:2] == pytest.approx([1.4920891501029345, 1.3911314445209237], abs=1e-12)
    assert response["sha256"].startswith("a5b161c03788f184")


@pytest.mark.parametrize(
    "response",
    [
        None,
        [],
        {},
        {"norm": 1.0, "projections": [1.0] * 8},
        {"norm": 1.0, "projections": [1.0] * 7, "sha256": ""},
        {"norm": 1.0, "projections": ["1"] * 8, "sha256": ""},
        {"norm": None, "projections": [1.0] * 8, "sha256": ""},
        {"norm": 1.0, "projections": [1.0] * 8, "sha256": 0},
    ],
)
def test_what_is_no_response(response: object) -> None:
    with pytest.raises(ValueError, match=r"y\.h5 holds no whole response") as caught:
        check_response(Identity(SHAPE), response, "y.h5")
    assert_one_sentence(caught.value)


# Files that are none.


def saved(path: Path) -> Path:
    save_operator(fourier(), path)
    return path


@SUFFIXES
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"kind": "cs-lip recovery"}, "is of kind 'cs-lip recovery', expected cs-lip operator"),
        ({"kind": None}, "is of some other program"),
        ({"format": 2}, "has format 2, this version reads 1; try the version that wrote it"),
        ({"format": None}, "has format None"),
        ({"operator": None}, "is not a whole .* file written by cs-lip"),
        ({"response": None}, "is not a whole .* file written by cs-lip"),
        ({"operator": {"format": 1, "kind": "telepathy"}}, "unknown kind of operator 'telepathy'"),
        ({"operator": 3}, "recipe must be a mapping, got int"),
        ({"operator": fourier(2).recipe()}, "answers otherwise"),
        ({"response": 3}, "holds no whole response"),
    ],
)
def test_edited_files(suffix: str, edit: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"operator{suffix}")
    if suffix == ".json":
        document = json.loads(path.read_text()) | edit
        path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    else:
        with h5py.File(path, "r+") as file:
            for key, value in edit.items():
                del file.attrs[key]
                if value is not None:
                    file.attrs[key] = json.dumps(value) if key in ("operator", "response") else value
    with pytest.raises(ValueError, match=message) as caught:
        load_operator(path)
    assert_one_sentence(caught.value)
    assert str(path) in str(caught.value)


@SUFFIXES
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"neither",
        b"\xff\xfe\x00",
        b"[]",
        b'{"kind": ["cs-lip operator"]}',
        b"[" * 10**5,
        b'{"kind": "cs-lip operator", "format": 1, "operator": ' + b"[" * 10**5,
    ],
)
def test_foreign_content(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"operator{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="operator") as caught:
        load_operator(path)
    assert_one_sentence(caught.value)


@SUFFIXES
def test_a_file_cut_short(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"operator{suffix}")
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is not a whole .* file written by cs-lip"):
            load_operator(path)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda folder: load_operator(folder / "none.json"),
            r"there is no file .*none.json; try a file that save",
        ),
        (lambda folder: load_operator(folder / "none.h5"), "there is no file"),
        (lambda folder: load_operator(folder / "a.pkl"), r"must end in \.json or \.h5, got 'a\.pkl'"),
        (lambda folder: save_operator(fourier(), folder / "a.pt"), r"must end in \.json or \.h5, got 'a\.pt'"),
        (lambda folder: save_operator(fourier(), folder / "no/a.json"), "there is no folder .*no to write a.json into"),
        (lambda folder: save_operator(Wrong(False), folder / "a.json"), "a Wrong operator has no recipe"),
        (
            lambda folder: save_operator(1e300 * Identity((2,)), folder / "a.json"),
            r"Scaled maps standard normal numbers beyond what float32 holds, .*; try to scale it, 1e-3 \* A",
        ),
    ],
)
def test_bad_paths(act: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        act(tmp_path)
    assert_one_sentence(caught.value)
    assert not list(tmp_path.iterdir())


@SUFFIXES
def test_a_crash_leaves_the_old_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / f"operator{suffix}")
    before = path.read_bytes()

    def no_space(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        save_operator(gaussian(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Other processes.


def answers(operators: list[LinearOperator], recipes: str) -> list[tuple[Any, Any]]:
    """What an operator that came over, and one that was rebuilt here, measure."""
    torch.set_num_threads(1)
    rebuilt = [operator_from_recipe(recipe) for recipe in json.loads(recipes)]
    pairs = zip(operators, rebuilt, strict=True)
    return [tuple(each(image(each, dtype=torch.float32)).numpy() for each in pair) for pair in pairs]


def test_a_spawned_process_measures_the_same() -> None:
    operators = [make() for make in (KINDS | EXPRESSIONS).values()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            recipes = json.dumps([A.recipe() for A in operators])
            there = executor.submit(answers, copy.deepcopy(operators), recipes).result(timeout=120)
        for A, (received, rebuilt) in zip(operators, there, strict=True):
            here = A(image(A, dtype=torch.float32)).numpy()
            assert np.array_equal(received, here)
            np.testing.assert_allclose(rebuilt, here, rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(threads)
