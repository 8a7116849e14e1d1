"""Real handwritten digits that ship with the package, for demos and benchmarks of generators of digits."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cs_lip.evaluation.images import NamedImage
from cs_lip.evaluation.pictures import bundled_photographs
from cs_lip.priors.catalogue import pretrained_folder

SHEET, SIDE = "mnist-test-digits.png", 28
DIGIT_SHAPE = (1, SIDE, SIDE)
SHOWN = 8


def bundled_digits() -> Tensor:
    """The first 64 images of MNIST's test set, ``(64, 1, 28, 28)`` in [0, 1], ink bright.

    By Yann LeCun and Corinna Cortes, CC BY-SA 3.0. ``pretrained/make_mnist_digits.py`` made the sheet that they lie in.
    """
    with Image.open(pretrained_folder() / SHEET) as sheet:
        pixels = torch.from_numpy(np.array(sheet, dtype=np.float32) / 255)
    rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
    return pixels.reshape(rows, SIDE, columns, SIDE).transpose(1, 2).reshape(-1, *DIGIT_SHAPE)


def bundled_samples(image_shape: tuple[int, int, int]) -> list[NamedImage]:
    """Real pictures to try a generator on: digits for images of their shape, photographs for all others."""
    if image_shape != DIGIT_SHAPE:
        return bundled_photographs(image_shape)
    return [NamedImage(f"digit-{index}", "digit", digit) for index, digit in enumerate(bundled_digits()[:SHOWN], 1)]
