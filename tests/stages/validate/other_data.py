"""Data sets that are not MNIST: other classes, sizes and channels. All are made without a network."""

import numpy as np
from sklearn.datasets import load_digits

from lenet5.core.dataset import Array, Description, Split
from lenet5.stages.validate.params import Validate

Splits = dict[str, Split]

SHAPES = Description(classes=("circle", "square", "triangle", "cross"), pictures="object")
TINY = Description(classes=tuple(f"digit {digit}" for digit in range(10)), pictures="whole")


def params_for(base: Validate, size: int, channels: int) -> Validate:
    """Return parameters for square images of another size, with the limits of ``base``."""
    return base.model_copy(update={"height": size, "width": size, "channels": channels})


def shapes(train: int = 1200, test: int = 400, size: int = 16) -> Splits:
    """Draw filled RGB shapes at slightly different places, in similar colours, on a dark background.

    Returns:
        uint8 (N, size, size, 3); the classes are equally frequent.
    """
    generator = np.random.default_rng(1998)
    return {name: _shapes(count, size, generator) for name, count in (("train", train), ("test", test))}


def _shapes(count: int, size: int, generator: np.random.Generator) -> Split:
    labels = generator.permutation(np.arange(count) % len(SHAPES.classes)).astype(np.uint8)
    middle = (size - 1) / 2 + generator.uniform(-1, 1, (2, count, 1, 1))
    radius = size * generator.uniform(0.28, 0.38, (count, 1, 1))
    rows, columns = np.mgrid[:size, :size]
    down, right = np.abs(rows - middle[0]), np.abs(columns - middle[1])
    below = rows - middle[0] + radius
    drawn = np.select(
        [labels[:, None, None] == code for code in range(4)],
        [
            down**2 + right**2 <= radius**2,
            np.maximum(down, right) <= radius * 0.85,
            (below >= 0) & (below <= 2 * radius) & (right <= below / 2),
            (np.minimum(down, right) <= radius * 0.3) & (np.maximum(down, right) <= radius),
        ],
    )
    colours = np.array([[220, 60, 60], [60, 200, 80], [70, 90, 230], [220, 200, 60]])[labels]
    colours = np.clip(colours + generator.normal(0, 15, colours.shape), 0, 255)
    pixels = drawn[..., None] * colours[:, None, None] * generator.uniform(0.85, 1, (count, size, size, 1))
    return Split(pixels.astype(np.uint8), labels)


def tiny_digits() -> Splits:
    """Return scikit-learn's digits: uint8 (1797, 8, 8), the last 360 of them as the test split."""
    data = load_digits()
    images: Array = (data.images * 255 / 16).round().astype(np.uint8)
    labels = data.target.astype(np.uint8)
    order = np.random.default_rng(1998).permutation(len(labels))
    return {
        "train": Split(images[order[360:]], labels[order[360:]]),
        "test": Split(images[order[:360]], labels[order[:360]]),
    }
