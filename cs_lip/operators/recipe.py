"""From a recipe back to the operator it describes."""

from collections.abc import Callable, Mapping, Sequence

from cs_lip.operators.block_diagonal import BlockDiagonal
from cs_lip.operators.blur import blur_from_recipe
from cs_lip.operators.downsample import Downsample
from cs_lip.operators.ensembles import Gaussian, LogNormal, Rademacher, StudentT
from cs_lip.operators.fourier import SubsampledFourier, fourier_from_recipe
from cs_lip.operators.imaging import Identity, mask_from_recipe
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator
from cs_lip.operators.matrix import matrix_from_recipe
from cs_lip.operators.multi_coil import multi_coil_from_recipe
from cs_lip.operators.single_pixel import SinglePixel
from cs_lip.operators.sparse import SparseRandom
from cs_lip.operators.transforms import PartialCirculant, SubsampledDCT, SubsampledHadamard

_ENSEMBLE = frozenset({"in_shape", "m", "seed", "normalisation"})
_TRANSFORM = _ENSEMBLE | {"per_channel"}


def _block_diagonal(in_shape: Sequence[int], block: Mapping[str, object]) -> BlockDiagonal:
    # Refused before it is built, as a file could nest blocks without end.
    if isinstance(block, Mapping) and block.get("kind") == "block-diagonal":
        raise ValueError("the block of a block-diagonal recipe must be of another kind; try gaussian")
    return BlockDiagonal(in_shape, operator_from_recipe(block))


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
    "block-diagonal": (_block_diagonal, frozenset({"in_shape", "block"})),
    "single-pixel": (SinglePixel, frozenset({"in_shape", "m", "patterns", "order"})),
    "multi-coil-fourier": (
        multi_coil_from_recipe,
        frozenset({"in_shape", "in_is_complex", "coil_maps", "mask"}),
    ),
    "matrix": (matrix_from_recipe, frozenset({"in_shape", "in_is_complex", "matrix"})),
}


def operator_from_recipe(recipe: Mapping[str, object]) -> LinearOperator:
    """The operator that ``A.recipe()`` described: the same numbers bit for bit, on the CPU and in float32.

    A recipe is ``{"format": 1, "kind": "gaussian", "in_shape": [...], ...}`` with the
    arguments of that kind, and nothing else. It may come out of a file that nobody checked.

    Raises:
        ValueError: it is no mapping, has an unknown kind or a newer format, lacks a key or has one too many, or holds a
            value that the operator refuses.
    """
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
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(
            f"unknown kind of operator {str(kind)[:40]!r}, expected one of {', '.join(_KINDS)}; try gaussian"
        )
    build, expected = _KINDS[kind]
    if fields.keys() != expected:
        wrong = sorted(map(str, fields.keys() ^ expected))
        raise ValueError(
            f"a recipe of kind {kind} must have the keys {', '.join(sorted(expected))}, and {', '.join(wrong)[:80]} is "
            "missing or too many; try to write the recipe again"
        )
    return build(**fields)
