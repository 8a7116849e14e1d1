"""Median of means as a game of two players: the search of Jalal et al. 2020."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cs_lip.recovery.adam import cosine
from cs_lip.recovery.latent_problem import LatentProblem
from cs_lip.recovery.latent_solver import Candidates, LatentSolver
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.median_of_means import MedianOfMeans, blocks_of
from cs_lip.recovery.trace import Trace
from cs_lip.seeding import stream


@dataclass(frozen=True)
class MinMax(LatentSolver):
    """min over z, max over z' of the median over blocks B of ``l_B(z) - l_B(z')``, ``l_B`` the mean squared residual.

    Both players are latents with Adam: in every step each descends on its own loss over the block whose difference of
    losses is the median one; the two losses of an outlier are alike huge, and its block is rarely in the middle. It
    departs from the published code in three places: (1) the blocks are drawn anew in every step, with the size that
    suits the contamination (`MedianOfMeans`), as in Lecue & Lerasle 2020; (2) the learning rate decays along a cosine
    instead of averaging the last latents; (3) the best start is refined by Levenberg-Marquardt on the deterministic
    `MedianOfMeans`, since the noise of the game hides the bottom of a basin.

    Cost: two forward and two backward passes a step and start, and one refinement an image.

    Source: Jalal, Liu, Dimakis & Caramanis, Robust Compressed Sensing using Generative Models, NeurIPS 2020.

    Attributes:
        seed: of the blocks and of the second player's starts; the first one's are the recovery's.
    """

    steps: int = 500
    learning_rate: float = 0.1
    restarts: int = 10
    seed: int = 0
    refine: LevenbergMarquardt = field(default_factory=LevenbergMarquardt)

    def solve(self, problem: LatentProblem, latents: Tensor, which: Tensor, trace: Trace) -> Candidates:
        """One row for every image.

        Raises:
            ValueError: the fidelity is not `MedianOfMeans`.
        """
        fidelity = problem.problem.fidelity
        if not isinstance(fidelity, MedianOfMeans):
            raise ValueError(
                f"this solver needs the fidelity MedianOfMeans, got {type(fidelity).__name__}; try "
                "fidelity=MedianOfMeans(contamination=0.05), or another solver"
            )
        ends = self._play(problem, fidelity, latents, which, trace)
        residual = problem.residual(ends, which)
        best = Candidates(ends, which, residual, torch.zeros_like(which, dtype=torch.bool)).best(problem)
        return self.refine.solve(problem, best.latents, best.which, trace).join(best)

    def _play(
        self, problem: LatentProblem, fidelity: MedianOfMeans, latents: Tensor, which: Tensor, trace: Trace
    ) -> Tensor:
        """Where the first player's rows end."""
        rng = stream(self.seed, "blocks")
        other = problem.generator.sample_latents(len(latents), generator=stream(self.seed, "second player"))
        players = [latents.clone(), other.to(latents)]
        optimisers = [torch.optim.Adam([player], lr=self.learning_rate) for player in players]
        residuals = [problem.residual(player, which) for player in players]
        m = problem.problem.m
        with trace.timed("min-max"):
            for step in range(self.steps):
                for turn, (player, optimiser) in enumerate(zip(players, optimisers, strict=True)):
                    optimiser.param_groups[0]["lr"] = self.learning_rate * cosine(step / self.steps)
                    blocks = blocks_of(torch.randperm(m, generator=rng), fidelity.size(m)).to(which.device)
                    rival = residuals[1 - turn]

                    def weigh(seen: Tensor, rows: slice, blocks: Tensor = blocks, rival: Tensor = rival) -> Tensor:
                        return _median_block(seen.square() - rival[rows].square(), blocks)

                    residuals[turn], player.grad = problem.gradient(player, which, weigh=weigh)
                    optimiser.step()
                trace.log("min-max", residuals[0], which)
                if trace.cancelled:
                    break
        return players[0].detach()


def _median_block(differences: Tensor, blocks: Tensor) -> Tensor:
    """Weights, m in all, on the members of the block with the median difference: (rows, m), blocks (count, size)."""
    chosen = differences[:, blocks].mean(2).median(1).indices
    members = blocks[chosen]
    weight = differences.new_full(members.shape, differences.shape[1] / members.shape[1])
    return torch.zeros_like(differences).scatter(1, members, weight)
