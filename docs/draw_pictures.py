"""Draw the sheet of bundled pictures: ``python docs/draw_pictures.py`` writes docs/images/pictures.png."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cs_lip.evaluation.pictures import PICTURES, picture

SHAPE = (3, 128, 128)
COLUMNS = 7


def main() -> None:
    """Draw all pictures, as a generator of 128x128 RGB images would get them."""
    rows = -(-len(PICTURES) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS, 1.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS).ravel()
    for ax, name in zip(axes, PICTURES, strict=False):
        ax.imshow(picture(name, SHAPE).pixels.permute(1, 2, 0).numpy())
        ax.set_title(name, fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    figure.savefig(Path(__file__).parent / "images" / "pictures.png", dpi=90)


if __name__ == "__main__":
    main()
