"""Draw the pictures of docs/lenet5.md: ``python -m benchmarks.walkthrough``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import command
from benchmarks.bench import ROOT
from lenet5.core import dataset
from lenet5.core.dataset import Array
from lenet5.core.paths import Paths
from lenet5.images.kernels import KERNELS
from lenet5.images.operations import convolve, convolve_channels, pool
from lenet5.system.terminal import console

FOLDER = ROOT / "docs/images"
Pictures = Sequence[tuple[str, Array]]
"""Titles and grey pictures (H, W)."""


def main() -> None:
    """Draw the first test image after each operation, and after each layer of the trained model."""
    paths = Paths(ROOT)
    image = np.asarray(dataset.load(paths.raw).splits["test"].images[:1])
    pictures: dict[str, list[Pictures]] = {
        "kernels": [kernels(image)],
        "strides": [strides(image)],
        "layers": [
            [(name if not at else "", maps[0, ..., at]) for at in range(maps.shape[-1])]
            for name, maps in layers(image, stored_weights(paths.onnx)).items()
        ],
    }
    for name, rows in pictures.items():
        draw(rows, FOLDER / f"lenet5-{name}.png")
        console.print(f"docs/images/lenet5-{name}.png", markup=False)


def kernels(image: Array) -> Pictures:
    """Return the image after each classical kernel: (1, H, W) → one picture for each."""
    results = {name: convolve(image, kernel, padding="same") for name, kernel in KERNELS.items()}
    return [("input", image[0]), *((name.replace("_", " "), result[0]) for name, result in results.items())]


def strides(image: Array) -> Pictures:
    """Return the image after a blur with several strides, and after each pooling."""
    blur = KERNELS["gaussian_blur"]
    blurred = [(f"stride {stride}", convolve(image, blur, stride)[0]) for stride in (1, 2, 3)]
    return [*blurred, ("max pooling", pool(image)[0]), ("average pooling", pool(image, kind="average")[0])]


def layers(image: Array, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return the input and the results of the first four layers, (1, H, W, channels), by title."""
    results = {"input": image[..., np.newaxis] / np.float32(255)}
    last = results["input"]
    for conv, pooling in (("C1", "S2"), ("C3", "S4")):
        kernel, bias = (weights[f"{conv.lower()}.{name}"] for name in ("kernel", "bias"))
        results[conv] = np.maximum(convolve_channels(last, kernel.transpose(2, 3, 1, 0), bias), 0)
        last = results[pooling] = pool(results[conv])
    return results


def stored_weights(path: Path) -> dict[str, Array]:
    """Return the arrays of an ONNX file by name."""
    import onnx

    return {array.name: onnx.numpy_helper.to_array(array) for array in onnx.load(path).graph.initializer}


def draw(rows: Sequence[Pictures], path: Path) -> None:
    """Write rows of pictures: 0 is white, and the largest number of a row is black, or that of the only row.

    A single row shows results of different operations, so each of its pictures has a scale of its own.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = max(map(len, rows))
    side = 1.2 if len(rows) == 1 else 0.65  # inches
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(side * columns, (side + 0.4) * len(rows)),
        dpi=110,
        layout="constrained",
        squeeze=False,
    )
    for axes, row in zip(grid, rows, strict=True):
        largest = [float(picture.max()) for _, picture in row]
        for at, ax in enumerate(axes):
            ax.set(xticks=[], yticks=[], visible=at < len(row))
            if at < len(row):
                title, picture = row[at]
                height, width = picture.shape
                ax.set_title(f"{title}\n{height}x{width}" if title else "", fontsize=7, loc="left")
                darkest = largest[at] if len(rows) == 1 else max(largest)
                ax.imshow(picture, cmap="gray_r", vmin=0, vmax=darkest, interpolation="nearest")
                ax.spines[:].set_color("lightgrey")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    command.run(main)
