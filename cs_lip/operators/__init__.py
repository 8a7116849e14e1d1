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
from cs_lip.operators.block_diagonal import BlockDiagonal
from cs_lip.operators.blur import Blur, gaussian_kernel, motion_kernel
from cs_lip.operators.dottest import dot_test
from cs_lip.operators.downsample import Downsample
from cs_lip.operators.ensembles import Gaussian, LogNormal, Rademacher, StudentT
from cs_lip.operators.files import load_operator, save_operator
from cs_lip.operators.fourier import SubsampledFourier
from cs_lip.operators.imaging import Identity, Mask, bernoulli_mask, box_mask
from cs_lip.operators.interop import from_deepinv, from_pylops, from_scipy, to_deepinv, to_pylops, to_scipy
from cs_lip.operators.linear import LinearOperator
from cs_lip.operators.matrix import MatrixOperator
from cs_lip.operators.multi_coil import MultiCoilFourier, birdcage_maps
from cs_lip.operators.probe import check_response, probe_response
from cs_lip.operators.real_imaginary import RealImaginary
from cs_lip.operators.recipe import operator_from_recipe
from cs_lip.operators.single_pixel import SinglePixel
from cs_lip.operators.sparse import SparseRandom
from cs_lip.operators.transforms import PartialCirculant, SubsampledDCT, SubsampledHadamard

__all__ = [
    "BlockDiagonal",
    "Blur",
    "Downsample",
    "Gaussian",
    "Identity",
    "LinearOperator",
    "LogNormal",
    "Mask",
    "MatrixOperator",
    "MultiCoilFourier",
    "PartialCirculant",
    "Rademacher",
    "RealImaginary",
    "SinglePixel",
    "SparseRandom",
    "StudentT",
    "SubsampledDCT",
    "SubsampledFourier",
    "SubsampledHadamard",
    "bernoulli_mask",
    "birdcage_maps",
    "box_mask",
    "check_response",
    "coherence",
    "dot_test",
    "from_deepinv",
    "from_pylops",
    "from_scipy",
    "gaussian_kernel",
    "load_operator",
    "motion_kernel",
    "operator_from_recipe",
    "probe_response",
    "restricted_isometry_lower_bound",
    "save_operator",
    "to_deepinv",
    "to_pylops",
    "to_scipy",
    "vstack",
]
