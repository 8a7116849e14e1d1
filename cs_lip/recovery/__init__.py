"""From measurements and a prior to images."""

from cs_lip.recovery.adam import Adam
from cs_lip.recovery.api import DEFAULT_SOLVER, SOLVERS, recover
from cs_lip.recovery.latent_search import LatentSearch, Round
from cs_lip.recovery.lbfgs import LBFGS
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.problem import DEFAULT_PENALTY, Problem, pose
from cs_lip.recovery.solution import Record, Recovery, Status
from cs_lip.recovery.solver import Candidates, Solver
from cs_lip.recovery.trace import Progress

__all__ = [
    "DEFAULT_PENALTY",
    "DEFAULT_SOLVER",
    "LBFGS",
    "SOLVERS",
    "Adam",
    "Candidates",
    "LatentSearch",
    "LevenbergMarquardt",
    "Problem",
    "Progress",
    "Record",
    "Recovery",
    "Round",
    "Solver",
    "Status",
    "pose",
    "recover",
]
