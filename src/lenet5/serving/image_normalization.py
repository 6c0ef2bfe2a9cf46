"""From a picture of a digit, of any size and either polarity, to what MNIST holds."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lenet5.core.errors import DataError

SIDE = 28
BOX = 20
"""LeCun et al., 1998, section III.A: the digit fits a 20x20 box, centred by its mass in a 28x28 field."""
CONTRAST = 24
"""Differences from the ground up to this are noise: a picture without larger ones is even."""
INK = 64
"""Pixels above this, of 255 for the strongest ink, are looked at when the digit is searched for."""


def from_picture(picture: Image.Image) -> NDArray[np.uint8]:
    """Normalise one picture as MNIST's makers did: uint8 (28, 28), 0 for paper and 255 for ink.

    Ink is what differs most from the ground, darker or lighter, however faint the pencil. A 28x28 picture
    on a dark ground is taken as it is. Cameras' notes on which way is up are heeded.

    Raises:
        DataError: there is no ink in it.
    """
    grey = _grey(ImageOps.exif_transpose(picture))
    ground = int(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    darker, lighter = ground - np.minimum(grey, ground), np.maximum(grey, ground) - ground
    strongest = max(darker.max(), lighter.max())
    if strongest <= CONTRAST:
        raise _blank("an even surface")
    on_light = darker.max() > lighter.max()
    if not on_light and grey.shape == (SIDE, SIDE):
        return grey
    ink = ((darker if on_light else lighter) * (255 / strongest)).round().astype(np.uint8)
    rows, columns = np.nonzero(ink > INK)
    cropped = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = (max(1, round(side * BOX / max(cropped.shape))) for side in cropped.shape)
    small = np.asarray(Image.fromarray(cropped).resize((width, height), Image.Resampling.LANCZOS))
    if not (small > INK).any():
        raise _blank("specks")
    return _centred(small)


def _blank(found: str) -> DataError:
    return DataError("There is no digit in this picture.", expected="ink", found=found)


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    """Luminance, 0 to 255. A transparent ground is paper, or slate under light ink."""
    if picture.mode.startswith(("I", "F")):  # 16 bits and more, which Pillow would clip at 255
        wide = np.asarray(picture, dtype=np.float64)
        return (wide * (255 / max(wide.max(), 1))).round().astype(np.uint8)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    rgba = picture.convert("RGBA")
    visible = np.asarray(rgba.convert("L"))[np.asarray(rgba)[..., 3] > 127]
    paper = "black" if visible.size and visible.mean() > 127 else "white"
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, paper), rgba).convert("L"))


def _centred(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Place a digit of at most 20x20 so that its centre of mass lies at (14, 14), as far as it fits.

    That is where MNIST's lie: their mean over the test images is (13.99, 14.01), counted from 0.
    """
    field = np.zeros((SIDE, SIDE), np.uint8)
    places = []
    for axis, length in enumerate(digit.shape):
        mass = digit.sum(axis=1 - axis, dtype=np.int64)
        centre = np.average(np.arange(length), weights=mass)
        places.append(int(np.clip(round(SIDE / 2 - centre), 0, SIDE - length)))
    top, left = places
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field
