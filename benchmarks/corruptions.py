"""The picture of docs/evaluation.md, every corruption of one image: ``python -m benchmarks.corruptions``."""

from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks import command
from benchmarks.bench import ROOT
from lenet5.core import dataset, files
from lenet5.core.paths import Paths
from lenet5.images import corruptions
from lenet5.stages.evaluate.figures import default_style
from lenet5.system.terminal import console

PICTURE = ROOT / "docs/images/corruptions.png"
SEED = 1998
_COLUMNS = 2


def main(
    index: Annotated[int, typer.Option(help="Position of the image in the test split.", min=0)] = 0,
) -> None:
    """Draw every corruption at every severity."""
    image = np.asarray(dataset.load(Paths(ROOT).raw).splits["test"].images[index])
    with default_style(), files.replacing(PICTURE) as partial:
        # Pillow reads the format from the name, and that of the partial file has another ending
        draw(image).savefig(partial, format="png", dpi=100, metadata={"Software": None})
    console.print(f"Changed: {PICTURE}", markup=False)


def draw(image: NDArray[np.uint8]) -> Figure:
    """Draw one row for each corruption: the image, then severities 1 to 5.

    Args:
        image: uint8 (H, W).
    """
    names = [name for name in corruptions.CORRUPTIONS if name != "identity"]
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 0.56 * rows), layout="constrained")
    for part, column in zip(
        figure.subfigures(1, _COLUMNS, squeeze=False)[0],
        (names[start : start + rows] for start in range(0, len(names), rows)),
        strict=True,
    ):
        grid = part.subplots(rows, 1 + len(corruptions.SEVERITIES))
        for cells, name in zip(grid, column, strict=False):
            pictures = [
                corruptions.corrupt(name, image[np.newaxis], severity, SEED, block=0)[0]
                for severity in corruptions.SEVERITIES
            ]
            for cell, picture in zip(cells, [image, *pictures], strict=True):
                cell.imshow(picture, cmap="gray", vmin=0, vmax=255)
            label = name.replace("_", " ")
            cells[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for cell in grid.ravel():
            cell.set(xticks=[], yticks=[])
        for severity, cell in zip(corruptions.SEVERITIES, grid[0][1:], strict=True):
            cell.set_title(f"{severity}", fontsize=8)
    return figure


if __name__ == "__main__":
    command.run(main)
