"""Where a fit starts that holds measurements out: latents found by the others alone."""

from dataclasses import dataclass, field

from cs_lip.recovery.latent_problem import pose_latents
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.latent_solver import drawn
from cs_lip.recovery.learned_start import learned_starts
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.solver import Found, Task


@dataclass(frozen=True)
class BlindSearch:
    """A search that takes seconds: of a learned start where there is an encoder, and else of ten random ones.

    It serves fits that only tell when to stop and how large the error is. Where it finds less than a long search would,
    the estimate of the error is higher, not lower.

    Cost, for each image and each part that is held out: about 10 Jacobians and at most 20; without an encoder at most
    10, and 600 forward-backward passes.

    Attributes:
        refine: of the encoder's best guess.
        unaided: the search without an encoder.
    """

    refine: LevenbergMarquardt = field(default_factory=lambda: LevenbergMarquardt(20))
    unaided: LatentSearch = field(
        default_factory=lambda: LatentSearch(restarts=10, last=None, refine=LevenbergMarquardt(10))
    )

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`."""
        if task.encoder is None:
            return self.unaided.recover(task)
        problem = pose_latents(task.problem, task.generator, task.latent_penalty)
        starts = learned_starts(problem, task.encoder, 1, task.seed)
        return drawn(problem, self.refine.solve(problem, *starts, task.trace), {})
