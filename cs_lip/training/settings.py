"""What a training is: everything that its numbers depend on, but the pictures."""

from dataclasses import dataclass

SIZES = {28: (7, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5)}
"""Side of the images: side of the first feature map, and how often it doubles."""


@dataclass(frozen=True)
class Settings:
    """Settings of one training by WGAN-GP (Gulrajani et al. 2017).

    Attributes:
        widths: channels of the generator's feature maps, from the latent to the image, as in `cs_lip.priors.DCGAN`.
        first: side of its first feature map.
        steps: of the generator.
        batch: images in a step.
        critic_steps: of the critic before each step of the generator.
        penalty: weight of (|grad D| - 1)^2.
        learning_rate: of Adam, for both networks, falling linearly to zero over the last half of the steps.
        averaging: share that the averaged weights keep of themselves in a step.
        seed: of initial weights, latents, the order of the pictures and the penalty's places.
    """

    widths: tuple[int, ...]
    first: int
    steps: int = 20000
    batch: int = 64
    critic_steps: int = 5
    penalty: float = 10.0
    learning_rate: float = 2e-4
    averaging: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("steps", self.steps, 1),
            ("batch", self.batch, 2),
            ("critic steps", self.critic_steps, 1),
            ("latents", self.widths[0], 1),
            ("width", min(self.widths[1:]), 1),
        ):
            if value < least:
                raise ValueError(f"the {name} must be at least {least}, got {value}; try {name} of {max(least, 64)}")
        for name, number, least_number, most in (
            ("penalty", self.penalty, 0.0, 1e6),
            ("learning rate", self.learning_rate, 1e-8, 1.0),
            ("averaging", self.averaging, 0.0, 0.99999),
        ):
            if not least_number <= number <= most:
                raise ValueError(f"the {name} must be from {least_number:g} to {most:g}, got {number}; try the default")


def dcgan_settings(size: int, channels: int, *, latents: int = 100, width: int = 64, **others: float) -> Settings:
    """Settings of a DCGAN for images ``(channels, size, size)`` whose last feature map has ``width`` channels.

    Every map before it has twice the channels of the next, as in the PyTorch tutorial.

    Raises:
        ValueError: a size that is not one of `SIZES`, or a setting out of its range.
    """
    if size not in SIZES:
        raise ValueError(f"the size must be one of {', '.join(map(str, SIZES))}, got {size}; try --size 64")
    first, doublings = SIZES[size]
    maps = tuple(width * 2**step for step in reversed(range(doublings)))
    return Settings(widths=(latents, *maps, channels), first=first, **others)  # type: ignore[arg-type]
