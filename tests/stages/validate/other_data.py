"""Data sets that are not MNIST: other classes, sizes and channels. All are made without a network."""

from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
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


def glyphs(classes: int, each: int, size: int = 16) -> Splits:
    """Render characters of a font, slightly moved, scaled and noisy: uint8 (N, size, size).

    Args:
        classes: number of characters.
        each: train images of each; test has a third as many.
        size: height and width.
    """
    generator = np.random.default_rng(1998)
    pictures = _characters(classes, size)  # (C, scales, size, size)
    return {
        name: _glyphs(pictures, count, generator) for name, count in (("train", each), ("test", each // 3))
    }


def glyph_names(classes: int) -> Description:
    """Return the description of :func:`glyphs`."""
    return Description(classes=tuple(f"U+{point:04X}" for point in _points(classes)), pictures="whole")


def _points(classes: int) -> list[int]:
    ranges = ((0x41, 0x5B), (0x391, 0x3A2), (0x3B1, 0x3CA), (0x410, 0x450), (0x531, 0x557), (0x10D0, 0x10F6))
    more = ((0x2190, 0x2200), (0x2200, 0x2300), (0x25A0, 0x2600))
    return [point for first, last in (*ranges, *more) for point in range(first, last)][:classes]


def _characters(classes: int, size: int) -> Array:
    path = Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    rows = []
    for point in _points(classes):
        row = []
        for scale in (0.7, 0.75, 0.8):
            font = ImageFont.truetype(str(path), round(size * scale))
            picture = Image.new("L", (size, size))
            ImageDraw.Draw(picture).text((size / 2, size / 2), chr(point), 255, font, anchor="mm")
            row.append(np.asarray(picture))
        rows.append(row)
    return np.array(rows)


def _glyphs(pictures: Array, each: int, generator: np.random.Generator) -> Split:
    labels = generator.permutation(np.repeat(np.arange(len(pictures)), each))
    chosen = pictures[labels, generator.integers(0, pictures.shape[1], len(labels))]
    shifts = generator.integers(-1, 2, (len(labels), 2))
    moved = np.stack([np.roll(image, shift, (0, 1)) for image, shift in zip(chosen, shifts, strict=True)])
    brightness = generator.uniform(0.7, 1, (len(labels), 1, 1))
    noisy = moved * brightness + (moved > 0) * generator.normal(0, 12, moved.shape)
    dtype = np.uint8 if len(pictures) <= 256 else np.uint16
    return Split(np.clip(noisy, 0, 255).astype(np.uint8), labels.astype(dtype))
