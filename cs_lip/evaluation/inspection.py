"""What a generator is like: what it draws, how its images change with the latents, and what it cannot draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.evaluation.images import NamedImage
from cs_lip.evaluation.metrics import mse, psnr
from cs_lip.operators import Identity
from cs_lip.priors import Generator
from cs_lip.recovery import Progress, recover
from cs_lip.seeding import stream


@dataclass(frozen=True)
class Representation:
    """How well a generator can draw one picture.

    Attributes:
        picture: what to draw.
        image: ``(channels, height, width)``, the best that was found.
        mse: mean squared error, the representation error; NaN where the search diverged.
        psnr_db: the same as a peak signal-to-noise ratio with data range 1; infinite where the error is 0.
    """

    picture: NamedImage
    image: Tensor
    mse: float
    psnr_db: float


@dataclass(frozen=True)
class Inspection:
    """What `inspect_generator` found.

    Attributes:
        samples: ``(count, *image_shape)``.
        interpolations: ``(lines, points, *image_shape)``, each line from one sample to another.
        spectra: ``(latents, min(k, n))``, the singular values of the Jacobian dG/dz at some latents, descending.
        representations: one for every picture.
    """

    samples: Tensor
    interpolations: Tensor
    spectra: Tensor
    representations: tuple[Representation, ...]


def inspect_generator(
    generator: Generator,
    pictures: Sequence[NamedImage] = (),
    *,
    samples: int = 36,
    lines: int = 3,
    points: int = 8,
    spectra: int = 3,
    restarts: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Inspection:
    """Samples, interpolations, singular values of the Jacobian, and representation errors of pictures.

    Args:
        generator: what to look at; it is folded here.
        pictures: of the generator's image shape.
        lines, points: how many interpolations, and images on each.
        spectra: how many latents the Jacobian is taken at.
        restarts: of the search for each picture; the solver's own number by default.
        seed: of the latents and the search.
        progress: of the search, as in `cs_lip.recovery.recover`.

    Raises:
        ValueError: a number below one, pictures of another shape, or a generator whose derivatives are no numbers.
    """
    for name, value in (("samples", samples), ("lines", lines), ("points", points), ("spectra", spectra)):
        if value < 1:
            raise ValueError(f"the {name} must be at least 1, got {value}; try the default")
    generator = generator.fold()

    def draw(count: int, name: str) -> Tensor:
        return generator.sample_latents(count, generator=stream(seed, f"inspection/{name}"))

    starts, ends = draw(lines, "starts"), draw(lines, "ends")
    shares = torch.linspace(0, 1, points).tolist()
    with torch.no_grad():
        interpolations = torch.stack([generator(interpolate(starts, ends, share)) for share in shares], dim=1)
        drawn = generator(draw(samples, "samples"))
    return Inspection(
        samples=drawn,
        interpolations=interpolations,
        spectra=torch.stack([jacobian_spectrum(generator, latent) for latent in draw(spectra, "spectra")]),
        representations=represent(generator, pictures, restarts=restarts, seed=seed, progress=progress),
    )


def interpolate(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Latents on the great circle from ``start`` to ``end``, their lengths interpolated too; batch in front.

    Standard normal latents lie near a sphere, which a straight line would leave: its middle is shorter than any latent
    that the generator was trained on. Source: Shoemake, Animating Rotation with Quaternion Curves, SIGGRAPH 1985; for
    latents White, Sampling Generative Networks, 2016.
    """
    flat_start, flat_end = start.flatten(1), end.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(flat_start, flat_end).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.arccos(cosine)[:, None]
    lengths = torch.lerp(flat_start.norm(dim=1, keepdim=True), flat_end.norm(dim=1, keepdim=True), share)
    unit_start, unit_end = (torch.nn.functional.normalize(flat) for flat in (flat_start, flat_end))
    along = (torch.sin((1 - share) * angle) * unit_start + torch.sin(share * angle) * unit_end) / torch.sin(angle)
    return (lengths * along).reshape(start.shape)


def jacobian_spectrum(generator: Generator, latent: Tensor) -> Tensor:
    """The singular values of dG/dz at one latent, ``(min(k, n),)``, descending; intensity of the image per unit of z.

    Where they fall to zero, the image does not change with the latent: their number above the noise says in how many
    directions the generator can move at that image.

    Raises:
        ValueError: the derivatives are not finite.
    """
    basis = torch.eye(latent.numel(), dtype=latent.dtype, device=latent.device).reshape(-1, *latent.shape)
    with torch.no_grad():
        parts = torch.split(basis, generator.rows_at_once)
        tangents = torch.cat([generator.push(latent, part).flatten(1) for part in parts])
    if not tangents.isfinite().all():
        raise ValueError("the generator's derivatives are not finite; try weights that are not damaged")
    values: Tensor = torch.linalg.svdvals(tangents)
    return values


def represent(
    generator: Generator,
    pictures: Sequence[NamedImage],
    *,
    restarts: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Representation, ...]:
    """The best image of the generator for each picture: a latent search that sees every pixel.

    The search minimises |G(z) - x|^2 without any penalty, so what is left is the representation error of Bora et al.
    2017 (section 6.3), up to local minima.
    """
    if not pictures:
        return ()
    targets = torch.stack([picture.pixels for picture in pictures]).to(generator.device, generator.dtype)
    recovery = recover(
        Identity(generator.image_shape),
        targets,
        generator,
        solver="latent-search",
        restarts=restarts,
        latent_penalty=0.0,
        seed=seed,
        progress=progress,
    )
    return tuple(
        Representation(picture, image, mse(image, target), psnr(image, target))
        for picture, image, target in zip(pictures, recovery.images, targets, strict=True)
    )
