"""Classical models of images as solvers: sparse in a fixed transform, or of small total variation; no network."""

from cs_lip.recovery.baselines.lasso import Lasso
from cs_lip.recovery.baselines.omp import OrthogonalMatchingPursuit
from cs_lip.recovery.baselines.tv import TotalVariation

__all__ = ["Lasso", "OrthogonalMatchingPursuit", "TotalVariation"]
