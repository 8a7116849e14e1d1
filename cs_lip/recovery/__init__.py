"""From measurements and a prior to images."""

from cs_lip.recovery.adam import Adam
from cs_lip.recovery.api import DEFAULT_SOLVER, SOLVERS, recover
from cs_lip.recovery.fidelity import Fidelity, LeastSquares
from cs_lip.recovery.latent_problem import DEFAULT_PENALTY, LatentProblem, pose_latents
from cs_lip.recovery.latent_search import LatentSearch, Round
from cs_lip.recovery.latent_solver import Candidates, LatentSolver
from cs_lip.recovery.lbfgs import LBFGS
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.problem import Problem, pose
from cs_lip.recovery.solution import Record, Recovery, Status
from cs_lip.recovery.solver import Found, Solver, Task
from cs_lip.recovery.trace import Cancel, Progress

__all__ = [
    "DEFAULT_PENALTY",
    "DEFAULT_SOLVER",
    "LBFGS",
    "SOLVERS",
    "Adam",
    "Cancel",
    "Candidates",
    "Fidelity",
    "Found",
    "LatentProblem",
    "LatentSearch",
    "LatentSolver",
    "LeastSquares",
    "LevenbergMarquardt",
    "Problem",
    "Progress",
    "Record",
    "Recovery",
    "Round",
    "Solver",
    "Status",
    "Task",
    "pose",
    "pose_latents",
    "recover",
]
