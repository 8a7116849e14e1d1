"""From measurements and a prior to images."""

from cs_lip.recovery.adam import Adam
from cs_lip.recovery.api import DEFAULT_SOLVER, SOLVERS, recover
from cs_lip.recovery.auto import Auto
from cs_lip.recovery.baselines import Lasso, OrthogonalMatchingPursuit, TotalVariation
from cs_lip.recovery.blind_search import BlindSearch
from cs_lip.recovery.fidelity import FIDELITIES, L1, Fidelity, Huber, LeastSquares, Trimmed
from cs_lip.recovery.image_adaptive import ImageAdaptive
from cs_lip.recovery.intermediate_layers import IntermediateLayers
from cs_lip.recovery.latent_problem import DEFAULT_PENALTY, LatentProblem, pose_latents
from cs_lip.recovery.latent_search import LatentSearch, Round
from cs_lip.recovery.latent_solver import Candidates, LatentSolver
from cs_lip.recovery.lbfgs import LBFGS
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.linear_estimate import LinearEstimate
from cs_lip.recovery.median_of_means import MedianOfMeans
from cs_lip.recovery.min_max import MinMax
from cs_lip.recovery.npgd import ProjectedGradient
from cs_lip.recovery.problem import Problem, pose
from cs_lip.recovery.solution import Record, Recovery, Status
from cs_lip.recovery.solver import Found, Solver, Task
from cs_lip.recovery.sparse_deviation import SparseDeviation
from cs_lip.recovery.trace import Cancel, Observe, Progress
from cs_lip.recovery.tuning import Tuning
from cs_lip.recovery.untrained_fit import UntrainedFit

__all__ = [
    "DEFAULT_PENALTY",
    "DEFAULT_SOLVER",
    "FIDELITIES",
    "L1",
    "LBFGS",
    "SOLVERS",
    "Adam",
    "Auto",
    "BlindSearch",
    "Cancel",
    "Candidates",
    "Fidelity",
    "Found",
    "Huber",
    "ImageAdaptive",
    "IntermediateLayers",
    "Lasso",
    "LatentProblem",
    "LatentSearch",
    "LatentSolver",
    "LeastSquares",
    "LevenbergMarquardt",
    "LinearEstimate",
    "MedianOfMeans",
    "MinMax",
    "Observe",
    "OrthogonalMatchingPursuit",
    "Problem",
    "Progress",
    "ProjectedGradient",
    "Record",
    "Recovery",
    "Round",
    "Solver",
    "SparseDeviation",
    "Status",
    "Task",
    "TotalVariation",
    "Trimmed",
    "Tuning",
    "UntrainedFit",
    "pose",
    "pose_latents",
    "recover",
]
