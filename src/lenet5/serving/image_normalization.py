"""Convert a picture of a digit, of any size and polarity, to the format of MNIST."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lenet5.core.errors import DataError

SIDE = 28
"""Height and width of a normalized image."""
BOX = 20
"""The digit fits a 20x20 box, whose centre of mass is at the centre (LeCun et al., 1998, section III.A)."""
CONTRAST = 24
"""Grey levels. Smaller differences from the background are noise."""
INK = 64
"""Pixels above this belong to the digit; the strongest ink is 255."""


def from_picture(picture: Image.Image) -> NDArray[np.uint8]:
    """Normalize one picture in the same way as the images of MNIST.

    Ink is darker or lighter than the background, whichever differs more. A 28x28 picture with a dark
    background is not changed. The orientation in the EXIF data is applied.

    Args:
        picture: a picture of one digit, in any mode of Pillow.

    Returns:
        uint8 (28, 28), 0 for paper and 255 for ink.

    Raises:
        DataError: the picture holds no ink.
    """
    grey = _grey(ImageOps.exif_transpose(picture))
    background = int(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    darker = background - np.minimum(grey, background)
    lighter = np.maximum(grey, background) - background
    strongest = max(darker.max(), lighter.max())
    if strongest <= CONTRAST:
        raise _blank("a surface without contrast")
    is_dark_on_light = darker.max() > lighter.max()
    if not is_dark_on_light and grey.shape == (SIDE, SIDE):
        return grey
    ink = ((darker if is_dark_on_light else lighter) * (255 / strongest)).round().astype(np.uint8)
    rows, columns = np.nonzero(ink > INK)
    cropped = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = (max(1, round(side * BOX / max(cropped.shape))) for side in cropped.shape)
    small = np.asarray(Image.fromarray(cropped).resize((width, height), Image.Resampling.LANCZOS))
    if not (small > INK).any():
        raise _blank("small spots")
    return _centred(small)


def _blank(found: str) -> DataError:
    return DataError(
        "There is no digit in this picture.",
        expected="ink on a background",
        found=found,
        fix="use a picture of one digit that fills most of it",
    )


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the luminance, uint8 (H, W). A transparent background becomes white, or black for light ink."""
    if picture.mode.startswith(("I", "F")):  # Pillow would clip these modes of 16 and 32 bits at 255
        wide = np.asarray(picture, dtype=np.float64)
        return (wide * (255 / max(wide.max(), 1))).round().astype(np.uint8)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    rgba = picture.convert("RGBA")
    visible = np.asarray(rgba.convert("L"))[np.asarray(rgba)[..., 3] > 127]
    paper = "black" if visible.size and visible.mean() > 127 else "white"
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, paper), rgba).convert("L"))


def _centred(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Place a digit, uint8 (at most 20, at most 20), with its centre of mass at (14, 14), as far as it fits.

    The images of MNIST have their centre of mass there: the mean over the test images is (13.99, 14.01), from
    0.
    """
    field = np.zeros((SIDE, SIDE), np.uint8)
    corner = []
    for axis, length in enumerate(digit.shape):
        mass = digit.sum(axis=1 - axis, dtype=np.int64)
        centre = np.average(np.arange(length), weights=mass)
        corner.append(int(np.clip(round(SIDE / 2 - centre), 0, SIDE - length)))
    top, left = corner
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field
