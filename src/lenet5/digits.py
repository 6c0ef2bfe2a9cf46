"""From a picture of a digit, of any size and either polarity, to what MNIST holds."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lenet5.errors import DataError

SIDE = 28
BOX = 20
"""LeCun et al., 1998, section III.A: the digit fits a 20x20 box, centred by its mass in a 28x28 field."""
INK = 64
"""Pixels that differ from the ground by more than this count as ink when the digit is looked for."""


def from_picture(picture: Image.Image) -> NDArray[np.uint8]:
    """Normalise one picture as MNIST's makers did: uint8 (28, 28), 0 for paper and 255 for ink.

    A 28x28 picture on a dark ground is taken as it is. Cameras' notes on which way is up are heeded.

    Raises:
        DataError: there is no ink in it.
    """
    grey = np.asarray(_on_white(ImageOps.exif_transpose(picture)).convert("L"))
    ground = int(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    light_ground = ground > 127
    # paper is seldom white: what counts is the difference to the ground
    ink = ground - np.minimum(grey, ground) if light_ground else np.maximum(grey, ground) - ground
    ink = ink.astype(np.uint8)
    rows, columns = np.nonzero(ink > INK)
    if not rows.size:
        raise _blank("an even surface")
    if not light_ground and grey.shape == (SIDE, SIDE):
        return grey
    cropped = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = (max(1, round(side * BOX / max(cropped.shape))) for side in cropped.shape)
    small = np.asarray(Image.fromarray(cropped).resize((width, height), Image.Resampling.LANCZOS))
    if not (small > INK).any():
        raise _blank("specks")
    return _centred(small)


def _blank(found: str) -> DataError:
    return DataError("There is no digit in this picture.", expected="ink", found=found)


def _on_white(picture: Image.Image) -> Image.Image:
    """A transparent ground is paper."""
    if not picture.has_transparency_data:
        return picture
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


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
