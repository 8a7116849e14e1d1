"""WGAN-GP: a generator against a critic that estimates the Wasserstein distance of its images to real ones."""

import copy
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from cs_lip.priors import DCGAN, Blueprint
from cs_lip.seeding import stream
from cs_lip.tickets.norms import recalibrate_
from cs_lip.training.critic import Critic
from cs_lip.training.settings import Settings

BETAS = (0.0, 0.9)
"""Of Adam, as in algorithm 1 of Gulrajani et al. 2017."""

SPREAD = 0.02
"""Standard deviation of the generator's initial weights (Radford et al. 2016, section 4)."""


Network = TypeVar("Network", bound=nn.Module)


class Losses(NamedTuple):
    """What one step of the generator ended with.

    Attributes:
        distance: mean critic on real images less that on drawn ones, an estimate of the Wasserstein distance up to the
            critic's slope.
        penalty: mean (|grad D| - 1)^2.
    """

    distance: float
    penalty: float


class Training:
    """A training in progress: both networks, their optimisers, the averaged weights, and how many steps were made.

    With critic D and generator G, D minimises E D(G(z)) - E D(x) + penalty E (|grad D(u)| - 1)^2 with u uniform between
    a real and a drawn image, and G maximises E D(G(z)); both by Adam. Source: Gulrajani, Ahmed, Arjovsky, Dumoulin &
    Courville, Improved Training of Wasserstein GANs, NeurIPS 2017, algorithm 1. The averaged weights (Yazici et al.,
    ICLR 2019) are what the training is for.

    All that is random in step i is drawn from a stream named after i, so a training that goes on from a checkpoint
    does as if it had never stopped: on one machine, with as many threads, to the same bits.

    Args:
        settings: what to do.
        pictures: ``(pictures, channels, height, width)``, uint8, of the shape that the generator draws.

    Raises:
        ValueError: pictures of another shape or type, or none.
    """

    def __init__(self, settings: Settings, pictures: Tensor) -> None:
        self.settings = settings
        self.pictures = pictures
        self.step = 0
        self.generator = _to_empty(lambda: DCGAN(settings.widths, first=settings.first))
        if pictures.dtype != torch.uint8:
            raise ValueError(
                f"the pictures are {pictures.dtype}, expected torch.uint8; try (255 * images).round().byte()"
            )
        if tuple(pictures.shape[1:]) != self.generator.image_shape or len(pictures) == 0:
            raise ValueError(
                f"the pictures have shape {tuple(pictures.shape)}, expected (pictures, "
                f"{', '.join(map(str, self.generator.image_shape))}); try pictures of that shape"
            )
        self.critic = _to_empty(lambda: Critic(settings.widths, settings.first))
        rng = stream(settings.seed, "training/initial-weights")
        _initialise(self.generator, lambda weight: weight.normal_(0, SPREAD, generator=rng))
        _initialise(self.critic, lambda weight: nn.init.kaiming_normal_(weight, 0.2, generator=rng))
        for network in (self.generator, self.critic):
            network.to(memory_format=torch.channels_last)
        self.averaged = {name: value.detach().clone() for name, value in self.generator.named_parameters()}
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=BETAS, foreach=True)
            for name, network in (("generator", self.generator), ("critic", self.critic))
        }

    def start_from(self, generator: DCGAN) -> None:
        """Begin with the weights of a generator of the same widths instead of random ones, and hold at zero what it
        holds there.

        Raises:
            ValueError: steps were made already, or it has other widths.
        """
        sizes = (generator.widths, generator.first)
        if self.step or sizes != (self.settings.widths, self.settings.first):
            raise ValueError(
                f"a training of widths {self.settings.widths} at step {self.step} cannot begin with a generator of "
                f"widths {generator.widths}; try the widths of the generator, and a new training"
            )
        self.generator.load_state_dict(generator.state_dict())
        self.generator.keep_(generator.kept)
        self.averaged = {name: value.detach().clone() for name, value in self.generator.named_parameters()}

    def advance(self) -> Losses:
        """One step of the generator, after the critic's."""
        rng = stream(self.settings.seed, f"training/step-{self.step}")
        self.generator.train()
        rate = self.settings.learning_rate * min(1.0, 2 * (1 - self.step / self.settings.steps))
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = rate
        self.critic.requires_grad_(True)
        for _ in range(self.settings.critic_steps):
            losses = self._improve_critic(rng)
        self.critic.requires_grad_(False)
        self._improve_generator(rng)
        self.step += 1
        return losses

    def _improve_critic(self, rng: torch.Generator) -> Losses:
        count = self.settings.batch
        chosen = torch.randint(len(self.pictures), (count,), generator=rng)
        real = self.pictures[chosen].to(self.generator.dtype) / 255
        with torch.no_grad():
            drawn = self.generator(self._latents(rng))
        places = torch.rand(count, 1, 1, 1, generator=rng).to(real.dtype)
        between = torch.lerp(real, drawn, places).requires_grad_()
        of_real, of_drawn = self.critic(torch.cat([real, drawn])).split(count)
        distance = of_real.mean() - of_drawn.mean()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        self._descend("critic", self.settings.penalty * penalty - distance)
        return Losses(float(distance.detach()), float(penalty.detach()))

    def _improve_generator(self, rng: torch.Generator) -> None:
        self._descend("generator", -self.critic(self.generator(self._latents(rng))).mean())
        self.generator.project_()
        # The average forgets faster at first, so that it does not remember the initial weights.
        keep = min(self.settings.averaging, (1 + self.step) / (10 + self.step))
        for name, value in self.generator.named_parameters():
            self.averaged[name].lerp_(value.detach(), 1 - keep)

    def _descend(self, network: str, loss: Tensor) -> None:
        optimiser = self.optimisers[network]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def _latents(self, rng: torch.Generator) -> Tensor:
        return self.generator.sample_latents(self.settings.batch, generator=rng)

    def blueprint(self) -> Blueprint:
        """The generator with the averaged weights, its batch norms measured anew on images of its own."""
        generator = copy.deepcopy(self.generator)
        generator.load_state_dict(self.averaged, strict=False)
        recalibrate_(generator, stream(self.settings.seed, "training/norms"))
        state = {
            name: value.contiguous() for name, value in generator.state_dict().items() if "num_batches" not in name
        }
        return Blueprint("dcgan", {"widths": list(self.settings.widths), "first": self.settings.first}, state)


def _to_empty(make: Callable[[], Network]) -> Network:
    """A network with memory but without values, so that PyTorch's initial weights use no global random numbers."""
    with torch.device("meta"):
        network = make()
    return network.to_empty(device="cpu")


def _initialise(network: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Weights of convolutions by ``draw``; biases zero, norms the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            with torch.no_grad():
                draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
