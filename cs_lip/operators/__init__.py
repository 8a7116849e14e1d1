"""Linear operators from images to measurements: the contract, its algebra, and the kinds that come with cs-lip.

>>> import torch
>>> from cs_lip.operators import Gaussian
>>> A = Gaussian((3, 64, 64), m=500, seed=0)
>>> y = A(torch.rand(2, 3, 64, 64))  # (2, 500)
>>> A.adjoint(y).shape
torch.Size([2, 3, 64, 64])
"""

from cs_lip.operators.algebra import vstack
from cs_lip.operators.analysis import coherence, restricted_isometry_lower_bound
from cs_lip.operators.dottest import dot_test
from cs_lip.operators.files import load_operator, save_operator
from cs_lip.operators.fourier import SubsampledFourier
from cs_lip.operators.gaussian import Gaussian
from cs_lip.operators.imaging import Identity, Mask
from cs_lip.operators.interop import from_deepinv, from_pylops, from_scipy, to_deepinv, to_pylops, to_scipy
from cs_lip.operators.linear import LinearOperator
from cs_lip.operators.probe import check_response, probe_response
from cs_lip.operators.recipe import operator_from_recipe

__all__ = [
    "Gaussian",
    "Identity",
    "LinearOperator",
    "Mask",
    "SubsampledFourier",
    "check_response",
    "coherence",
    "dot_test",
    "from_deepinv",
    "from_pylops",
    "from_scipy",
    "load_operator",
    "operator_from_recipe",
    "probe_response",
    "restricted_isometry_lower_bound",
    "save_operator",
    "to_deepinv",
    "to_pylops",
    "to_scipy",
    "vstack",
]
