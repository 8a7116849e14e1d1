"""What the measurements alone give back, without any prior."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator as SciPyOperator
from scipy.sparse.linalg import lsqr
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.recovery.problem import as_real


def least_squares(operator: LinearOperator, measurements: Tensor, *, iterations: int = 200) -> Tensor:
    """The least-squares image of least norm, ``A^+ y``, by LSQR (Paige & Saunders 1982, in SciPy).

    Args:
        operator: ``A``, of ``in_shape`` (channels, height, width).
        measurements: ``(images, *out_shape)``.
        iterations: LSQR's limit; it also stops at a relative residual of 1e-6.

    Returns:
        ``(images, *in_shape)``, not clipped to [0, 1].
    """
    real_dtype = measurements.real.dtype

    def forward(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        image = torch.as_tensor(vector, dtype=real_dtype, device=measurements.device)
        response = operator(image.reshape(operator.in_shape))
        return as_real(response, operator.out_shape).double().cpu().numpy()

    def adjoint(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        real = torch.as_tensor(vector, dtype=real_dtype, device=measurements.device)
        pairs = torch.view_as_complex(real.reshape(-1, 2)) if measurements.is_complex() else real
        return operator.adjoint(pairs.reshape(operator.out_shape)).flatten().double().cpu().numpy()

    shape = (operator.m, operator.n)
    matrix = SciPyOperator(shape, matvec=forward, rmatvec=adjoint, dtype=np.float64)
    vectors = as_real(measurements, operator.out_shape).double().cpu().numpy()
    with torch.no_grad():
        found = [lsqr(matrix, vector, atol=1e-6, btol=1e-6, iter_lim=iterations)[0] for vector in vectors]
    return torch.as_tensor(np.stack(found), dtype=real_dtype, device=measurements.device).reshape(
        -1, *operator.in_shape
    )
