"""From a recipe back to the operator it describes."""

from collections.abc import Callable, Mapping

from cs_lip.operators.algebra import MAX_DEPTH, vstack
from cs_lip.operators.block_diagonal import BlockDiagonal
from cs_lip.operators.blur import blur_from_recipe
from cs_lip.operators.downsample import Downsample
from cs_lip.operators.ensembles import Gaussian, LogNormal, Rademacher, StudentT
from cs_lip.operators.fourier import SubsampledFourier, fourier_from_recipe
from cs_lip.operators.imaging import Identity, mask_from_recipe
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator
from cs_lip.operators.matrix import matrix_from_recipe
from cs_lip.operators.multi_coil import multi_coil_from_recipe
from cs_lip.operators.real_imaginary import RealImaginary
from cs_lip.operators.single_pixel import SinglePixel
from cs_lip.operators.sparse import SparseRandom
from cs_lip.operators.transforms import PartialCirculant, SubsampledDCT, SubsampledHadamard

_ENSEMBLE = frozenset({"in_shape", "m", "seed", "normalisation"})
_TRANSFORM = _ENSEMBLE | {"per_channel"}


_KINDS: dict[str, tuple[Callable[..., LinearOperator], frozenset[str]]] = {
    "gaussian": (Gaussian, _ENSEMBLE),
    "rademacher": (Rademacher, _ENSEMBLE),
    "student-t": (StudentT, _ENSEMBLE | {"degrees_of_freedom"}),
    "log-normal": (LogNormal, _ENSEMBLE | {"sigma"}),
    "sparse-random": (SparseRandom, _ENSEMBLE | {"nonzeros_per_column"}),
    "fourier": (SubsampledFourier, frozenset({"in_shape", "m", "seed", "pattern"})),
    "fourier-lines": (SubsampledFourier.lines, frozenset({"in_shape", "acceleration", "centre_fraction", "seed"})),
    "fourier-radial": (SubsampledFourier.radial, frozenset({"in_shape", "spokes"})),
    "fourier-mask": (fourier_from_recipe, frozenset({"mask"})),
    "hadamard": (SubsampledHadamard, _TRANSFORM),
    "dct": (SubsampledDCT, _TRANSFORM),
    "circulant": (PartialCirculant, _TRANSFORM),
    "identity": (Identity, frozenset({"in_shape"})),
    "mask": (mask_from_recipe, frozenset({"mask"})),
    "downsample": (Downsample, frozenset({"in_shape", "factor", "kernel"})),
    "blur": (blur_from_recipe, frozenset({"in_shape", "kernel", "border"})),
    "single-pixel": (SinglePixel, frozenset({"in_shape", "m", "patterns", "order"})),
    "multi-coil-fourier": (
        multi_coil_from_recipe,
        frozenset({"in_shape", "in_is_complex", "coil_maps", "mask"}),
    ),
    "real-imaginary": (RealImaginary, frozenset({"in_shape"})),
    "matrix": (matrix_from_recipe, frozenset({"in_shape", "in_is_complex", "matrix"})),
}


# Operators made of others: all fields but the plain ones hold the recipe of an operator, or a list of them.
_PLAIN = ("scalar", "in_shape")
_EXPRESSIONS: dict[str, tuple[Callable[..., LinearOperator], frozenset[str]]] = {
    "block-diagonal": (BlockDiagonal, frozenset({"in_shape", "block"})),
    "adjoint": (lambda operator: operator.H, frozenset({"operator"})),
    "composition": (lambda outer, inner: outer @ inner, frozenset({"outer", "inner"})),
    "sum": (lambda left, right: left + right, frozenset({"left", "right"})),
    "scaled": (lambda scalar, operator: _checked_scalar(scalar) * operator, frozenset({"scalar", "operator"})),
    "stack": (vstack, frozenset({"operators"})),
}


def operator_from_recipe(recipe: Mapping[str, object]) -> LinearOperator:
    """The operator that ``A.recipe()`` described: the same numbers bit for bit, on the CPU.

    A recipe is ``{"format": 1, "kind": "gaussian", "in_shape": [...], ...}`` with the arguments of that kind, and
    nothing else; an expression holds the recipes of its parts, and equal parts share their numbers. It may come out of
    a file that nobody checked. Numbers are float32, or of the precision of the array that the recipe holds.

    Raises:
        ValueError: it is no mapping, has an unknown kind or a newer format, lacks a key or has one too many, holds a
            value that the operator refuses, or nests more than 64 deep.
    """
    return _Builder().build(recipe, depth=1)


class _Builder:
    """Builds the operators of one recipe, each of them once."""

    def __init__(self) -> None:
        self.built: list[tuple[dict[str, object], LinearOperator]] = []

    def build(self, recipe: object, depth: int) -> LinearOperator:
        build, kind, fields = _checked_fields(recipe, depth)
        if kind in _EXPRESSIONS:
            return build(**{name: self._part(name, value, depth) for name, value in fields.items()})
        for known, operator in self.built:
            if known == {"kind": kind, **fields}:
                return operator
        operator = build(**fields)
        self.built.append(({"kind": kind, **fields}, operator))
        return operator

    def _part(self, name: str, value: object, depth: int) -> object:
        if name in _PLAIN:
            return value
        if name != "operators":
            return self.build(value, depth + 1)
        if not isinstance(value, list):
            raise ValueError(
                f"a stack needs a list of recipes, got {type(value).__name__}; try vstack([A, B]).recipe()"
            )
        return [self.build(part, depth + 1) for part in value]


def _checked_fields(recipe: object, depth: int) -> tuple[Callable[..., LinearOperator], str, dict[str, object]]:
    """What builds the recipe, its kind and its arguments."""
    if depth > MAX_DEPTH:
        raise ValueError(f"a recipe may nest at most {MAX_DEPTH} operators deep, got more; try vstack of fewer parts")
    if not isinstance(recipe, Mapping):
        raise ValueError(f"an operator's recipe must be a mapping, got {type(recipe).__name__}; try A.recipe()")
    fields = dict(recipe)
    version = fields.pop("format", None)
    if isinstance(version, bool) or not isinstance(version, int) or version != RECIPE_FORMAT:
        raise ValueError(
            f"an operator's recipe must have format {RECIPE_FORMAT}, got {version!r}; "
            "try the version of cs-lip that wrote it, or a newer one"
        )
    kind = fields.pop("kind", None)
    kinds = _KINDS | _EXPRESSIONS
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(
            f"unknown kind of operator {str(kind)[:40]!r}, expected one of {', '.join(kinds)}; try gaussian"
        )
    build, expected = kinds[kind]
    if fields.keys() != expected:
        wrong = sorted(map(str, fields.keys() ^ expected))
        raise ValueError(
            f"a recipe of kind {kind} must have the keys {', '.join(sorted(expected))}, and {', '.join(wrong)[:80]} is "
            "missing or too many; try to write the recipe again"
        )
    return build, kind, fields


def _checked_scalar(scalar: object) -> float:
    if isinstance(scalar, bool) or not isinstance(scalar, int | float):
        raise ValueError(f"c * A needs a finite real number c, got {str(scalar)[:40]!r}; try 1.0")
    return float(scalar)
