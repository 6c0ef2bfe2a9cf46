"""Convert a picture of any size and mode to an image like those that a model was trained on.

A model file says which conversion its data set needs (:class:`lenet5.core.dataset.Description`) and which
size and channels it takes, so every client of a version converts pictures in the same way:

    digit    crop to the ink, scale to a box of 20/28 of the side, centre by mass, light ink on black
    object   crop to what differs from the background, scale to the side, centre, on black
    whole    resize as ``ingest.image.fit: resize`` does, with a border where the picture is not square
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lenet5.core.dataset import Pictures
from lenet5.core.errors import DataError
from lenet5.stages.ingest import fit
from lenet5.stages.ingest.params import Image as ImageParams

BOX = 20 / 28
"""Side of the box for the ink, as a share of the side of the image. In MNIST, the centre of mass of a 20x20
box is at the centre of 28x28 pixels (LeCun et al., 1998, section III.A)."""
CONTRAST = 24
"""Grey levels. Smaller differences from the background are noise."""
INK = 64
"""Pixels above this belong to the ink; the strongest ink is 255."""

Shape = tuple[int, ...]
"""(H, W) for grey images, (H, W, 3) for RGB; H and W are equal."""


def convert(picture: Image.Image, pictures: Pictures, shape: Shape) -> NDArray[np.uint8]:
    """Convert one picture. The orientation in its EXIF data is applied.

    Args:
        picture: a picture in any mode of Pillow.
        pictures: the conversion that the data set needs.
        shape: shape of the images that the model takes.

    Returns:
        uint8 of this shape.

    Raises:
        DataError: the picture shows nothing but background, and the conversion looks for an object.
    """
    side, colour = shape[0], len(shape) > 2
    picture.load()
    if picture.info or picture.format is None:  # a file without any metadata has no orientation
        ImageOps.exif_transpose(picture, in_place=True)
    if pictures == "digit":
        grey = _ink(_grey(picture), side)
        return np.repeat(grey[..., None], shape[2], axis=2) if colour else grey
    pixels = _rgb(picture) if colour else _grey(picture)
    if pictures == "whole":
        target = ImageParams(size=side, channels=3 if colour else 1, fit="resize", transpose=False)
        return np.asarray(fit.fitted([pixels], target, "the picture")[0])
    is_like_the_data = pixels.shape[:2] == (side, side) and _background(pixels).max() <= CONTRAST
    return pixels if is_like_the_data else _object(pixels, side)


def _ink(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image like those of MNIST, uint8 (side, side): 0 for paper and 255 for ink.

    Ink is darker or lighter than the background, whichever differs more. A picture of this size with a dark
    background is not changed.
    """
    background = int(_background(grey))
    darker, lighter = background - int(grey.min()), int(grey.max()) - background
    strongest = max(darker, lighter)
    if strongest <= CONTRAST:
        raise _blank("a surface without contrast")
    is_dark_on_light = darker > lighter
    if not is_dark_on_light and grey.shape == (side, side):
        return grey
    difference = (
        background - np.minimum(grey, background)
        if is_dark_on_light
        else np.maximum(grey, background) - background
    )
    ink = (difference * (255 / strongest)).round().astype(np.uint8)
    rows, columns = np.nonzero(ink > INK)
    cropped = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    small = _fitted(cropped, round(side * BOX))
    if not (small > INK).any():
        raise _blank("small spots")
    return _centred_by_mass(small, side)


def _object(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Crop to what differs from the background, make the background black, and centre.

    A grey value becomes its difference from the background, so an object on white is inverted, as
    Fashion-MNIST does (Xiao et al., 2017, section 2). Colours stay as they are.
    """
    background = _background(pixels)
    difference = np.abs(pixels.astype(np.int16) - background)
    strength = difference if pixels.ndim == 2 else difference.max(axis=2)
    if strength.max() <= CONTRAST:
        raise _blank("a surface without contrast")
    if pixels.ndim == 2:
        furthest = max(int(background), 255 - int(background))
        on_black = (difference * (255 / furthest)).round().astype(np.uint8)
    else:
        on_black = np.where((strength > CONTRAST)[..., None], pixels, 0).astype(np.uint8)
        if on_black.max() <= CONTRAST:
            raise _blank("a black object, which nobody sees on a black background")
    rows, columns = np.nonzero(strength > CONTRAST)
    window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    small = _fitted(on_black[window], side)
    field = np.zeros((side, side, *pixels.shape[2:]), np.uint8)
    top, left = ((side - length) // 2 for length in small.shape[:2])
    field[top : top + small.shape[0], left : left + small.shape[1]] = small
    return field


def _background(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the median of the border, rounded down: a grey value, or one value for each channel."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    border.sort(axis=0)  # np.median takes 20 times as long; the number of values is even
    middle = len(border) // 2
    return (border[middle - 1].astype(np.int16) + border[middle]) // 2


def _fitted(cropped: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Scale an image so that its longer side has ``longest`` pixels."""
    height, width = (max(1, round(length * longest / max(cropped.shape[:2]))) for length in cropped.shape[:2])
    return _resized(cropped, height, width)


def _resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _blank(found: str) -> DataError:
    return DataError(
        "This picture shows only background.",
        expected="an object, or ink, on a background of one brightness",
        found=found,
        fix="use a picture of one object that fills most of it",
    )


def _rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the colours, uint8 (H, W, 3). A transparent background becomes paper, as in :func:`_grey`."""
    if picture.mode.startswith(("I", "F")):
        return np.repeat(_grey(picture)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = _on_paper(picture)
    return np.asarray(picture.convert("RGB"))


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the luminance, uint8 (H, W). A transparent background becomes white, or black for light ink."""
    if picture.mode.startswith(("I", "F")):  # Pillow would clip these modes of 16 and 32 bits at 255
        wide = np.asarray(picture, dtype=np.float64)
        return (wide * (255 / max(wide.max(), 1))).round().astype(np.uint8)
    if picture.has_transparency_data:
        picture = _on_paper(picture)
    return np.asarray(picture if picture.mode == "L" else picture.convert("L"))


def _on_paper(picture: Image.Image) -> Image.Image:
    """Replace a transparent background by white, or by black where what is visible is light."""
    rgba = picture.convert("RGBA")
    visible = np.asarray(rgba.convert("L"))[np.asarray(rgba)[..., 3] > 127]
    paper = "black" if visible.size and visible.mean() > 127 else "white"
    return Image.alpha_composite(Image.new("RGBA", rgba.size, paper), rgba)


def _centred_by_mass(ink: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Place ink in an image with its centre of mass at the centre, as far as it fits.

    The images of MNIST have their centre of mass there: the mean over the test images is (13.99, 14.01), from
    0.
    """
    field = np.zeros((side, side), np.uint8)
    corner = []
    for axis, length in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis, dtype=np.int64)
        centre = np.average(np.arange(length), weights=mass)
        corner.append(int(np.clip(round(side / 2 - centre), 0, side - length)))
    top, left = corner
    field[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return field
