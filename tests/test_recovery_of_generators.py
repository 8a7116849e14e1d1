"""Every kind of generator finds its own images again from a quarter as many measurements as pixels."""

from collections.abc import Callable

import pytest
import torch
from helpers import tiny_generator
from test_decoder import linear_state
from test_pggan import zoo_state
from test_stylegan2 import nvlabs_state
from torch import Tensor, nn

from cs_lip.operators import Gaussian
from cs_lip.priors import Generator, Options, build, recognise
from cs_lip.recovery import Status, recover
from cs_lip.seeding import stream


class Conditional(nn.Module):
    """Images (3, 8, 8) from 6 latents and a class."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6 + 3, 32), nn.Linear(32, 3 * 8 * 8)
        for name, value in self.state_dict().items():
            value.copy_(torch.randn(value.shape, generator=stream(0, name)) / value.shape[-1] ** 0.5)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(torch.cat([latents, labels], 1)))
        return torch.tanh(self.outer(hidden)).unflatten(1, (3, 8, 8))


def stylegan2(space: str, labels: int = 0) -> Generator:
    return build(recognise(nvlabs_state(labels=labels), Options(space=space)))


def pggan() -> Generator:
    """With most values in [-1, 1], as those of a trained network: what is clipped has no gradient."""
    state = zoo_state(8, (16, 12, 8))
    return build(recognise({name: 0.35 * value if "toRGB" in name else value for name, value in state.items()}))


GENERATORS: dict[str, Callable[[], Generator]] = {
    "dcgan": tiny_generator,
    "pggan": pggan,
    "stylegan2 in z": lambda: stylegan2("z"),
    "stylegan2 in w": lambda: stylegan2("w", labels=3),
    "stylegan2 in w+": lambda: stylegan2("w+"),
    "decoder": lambda: build(recognise(linear_state(["0", "1"], [5, 20, 64]))),
    "a conditional module": lambda: Generator.wrap(
        Conditional(), latent_shape=(6,), value_range=(-1, 1), labels=torch.eye(3)[1:2]
    ),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_images_in_range_are_found_again(kind: str) -> None:
    generator = GENERATORS[kind]()
    latents = generator.sample_latents(1, generator=stream(9, "images"))
    if kind == "stylegan2 in w+":  # where a sample has the same w for all layers, which others need not have
        latents = latents + 0.3 * torch.randn(latents.shape, generator=stream(9, "rows"))
    with torch.no_grad():
        images = generator(latents)
    assert images.std() > 0.1
    operator = Gaussian(generator.image_shape, m=images[0].numel() // 4, seed=1)
    recovery = recover(operator, operator(images), generator, solver="latent-search")
    assert recovery.status == (Status.CONVERGED,)
    torch.testing.assert_close(recovery.images, images, rtol=0, atol=2e-3)
    with torch.no_grad():
        torch.testing.assert_close(generator(recovery.latents), recovery.images, rtol=0, atol=1e-4)
    assert (recovery.configuration["latent_penalty"] == 0) == (generator.geometry == "sphere")
