"""Block-based compressive sensing: one small operator for every block of the image."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cs_lip.operators.algebra import expression_recipe
from cs_lip.operators.arguments import checked_image_shape
from cs_lip.operators.linear import LinearOperator


class BlockDiagonal(LinearOperator):
    """y_b = B x_b for every block x_b: A is block diagonal with the same operator B in each place (Gan 2007).

    The image is cut into blocks side by side, without overlap. With ``B.in_shape`` = (b_h, b_w) each channel is cut;
    ``A(x)`` maps ``(*batch, channels, height, width)`` to ``(*batch, channels, height / b_h, width / b_w,
    *B.out_shape)``. With (channels, b_h, b_w) a block has all channels, and ``channels`` is missing in the result.

    The normalisation is that of B: A A^H is B B^H for each block, norm and condition number are B's, and with a
    `Gaussian` of variance 1/m_B it is E|A x|^2 = |x|^2. Memory is that of B; for a dense B of size m_B x b_h b_w time
    is O(n m_B), one matrix product for all blocks, where a dense A of as many measurements would take O(n m).

    >>> from cs_lip.operators import Gaussian
    >>> BlockDiagonal((3, 64, 64), Gaussian((8, 8), m=16, seed=0)).out_shape
    (3, 8, 8, 16)

    Args:
        in_shape: (channels, height, width) or (height, width), multiples of the block's height and width.
        block: the operator B on one block; A shares its numbers.

    Raises:
        ValueError: an argument is out of its range, or the blocks do not tile the image.
    """

    def __init__(self, in_shape: Sequence[int], block: LinearOperator) -> None:
        in_shape = checked_image_shape(in_shape)
        if not isinstance(block, LinearOperator) or isinstance(block, BlockDiagonal):
            raise ValueError(
                f"BlockDiagonal needs a linear operator on one block, other than a BlockDiagonal, got "
                f"{type(block).__name__}; try Gaussian((8, 8), m=16, seed=0)"
            )
        small = block.in_shape
        if len(small) not in (2, 3) or (len(small) == 3 and small[:1] != in_shape[:-2]):
            raise ValueError(
                f"the block's operator must take (height, width) or all channels of the image {in_shape}, got {small}; "
                "try an operator on (8, 8)"
            )
        rows, columns = in_shape[-2] // small[-2], in_shape[-1] // small[-1]
        if (rows * small[-2], columns * small[-1]) != in_shape[-2:]:
            raise ValueError(
                f"height and width must be multiples of the block's {small[-2:]}, got {in_shape}; try to crop or pad "
                "the image to a multiple"
            )
        separate = in_shape[:-2] if len(small) == 2 else ()
        super().__init__(
            in_shape,
            (*separate, rows, columns, *block.out_shape),
            in_is_complex=block.in_is_complex,
            out_is_complex=block.out_is_complex,
        )
        self.block = block

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "block"}``, the last the recipe of B; see `operator_from_recipe`.

        Raises:
            ValueError: B has no recipe, or one that nests more than 63 operators deep.
        """
        return expression_recipe("block-diagonal", in_shape=list(self.in_shape), block=self.block.recipe())

    def _apply_forward(self, x: Tensor) -> Tensor:
        height, width = self.block.in_shape[-2:]
        tiles = x.reshape(*x.shape[:-2], x.shape[-2] // height, height, x.shape[-1] // width, width)
        axes = len(self.block.in_shape)
        return self.block._apply_forward(tiles.movedim((-4, -2), (-axes - 2, -axes - 1)))

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        tiles = self.block._apply_adjoint(y)
        axes = len(self.block.in_shape)
        tiles = tiles.movedim((-axes - 2, -axes - 1), (-4, -2))
        return tiles.flatten(-2).flatten(-3, -2).contiguous()
