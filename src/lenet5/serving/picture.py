"""Read a PNG or JPEG picture as an image that a model takes, in bounded memory."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lenet5.core.dataset import Description
from lenet5.core.errors import DataError
from lenet5.serving import image_normalization

FORMATS = ("PNG", "JPEG")
"""Formats that are read. Others of Pillow start programs such as Ghostscript, or nobody needs them."""
MAX_PIXELS = 16_000_000
"""Limit of the pixels of one picture. A small file can hold many more, and they would fill the memory."""


def reject_what_pillow_warns_about() -> None:
    """Make Pillow's warnings errors in this process, so that a damaged picture has no answer.

    ``warnings.catch_warnings`` would do it for one picture, but not when several threads read pictures.
    """
    warnings.filterwarnings("error", module=r"PIL\.")
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode(
    file: Path | BinaryIO, name: str, description: Description, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Open and convert a picture; arguments and errors are those of :func:`open_header`, :func:`convert`."""
    return convert(open_header(file, name), name, description, shape)


def open_header(file: Path | BinaryIO, name: str) -> Image.Image:
    """Return a picture of which only the header is read: format, size and mode.

    Args:
        file: a path, or an open file.
        name: of the picture, for messages.

    Raises:
        DataError: it is no picture, or has too many pixels.
    """
    with _translated(name):
        picture = Image.open(file, formats=FORMATS)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        picture.close()
        raise unreadable(name, f"{width:,}x{height:,} pixels")
    return picture


def convert(
    picture: Image.Image, name: str, description: Description, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Decode a picture, close it, and return it converted.

    Args:
        picture: of :func:`open_header`.
        name: of the picture, for messages.
        description: says how pictures of this data set are converted.
        shape: of the images that the model takes: (H, W), or (H, W, 3) for RGB.

    Returns:
        uint8 of this shape.

    Raises:
        DataError: it is damaged, or shows nothing.
    """
    with _translated(name), picture:
        return image_normalization.convert(picture, description.pictures, shape)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn every exception of Pillow into a :class:`DataError` that names the picture."""
    try:
        yield
    except DataError as error:
        parts = error.parts
        raise DataError(
            f"{name}: {parts['what']}",
            expected=parts["expected"],
            found=parts["found"],
            fix=None if parts["fix"] is None else str(parts["fix"]),
        ) from None
    except UnidentifiedImageError:  # its message is the address of the file in memory
        raise unreadable(name, "something that is no PNG or JPEG picture") from None
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise unreadable(name, str(error) or type(error).__name__) from None


def unreadable(name: str, found: object) -> DataError:
    """Return the error for a picture that cannot be read.

    Args:
        name: of the picture.
        found: what is there instead.
    """
    return DataError(
        f"{name} cannot be read.",
        expected=f"a PNG or JPEG picture, at most {MAX_PIXELS:,} pixels",
        found=found,
        fix="check the path, the format and the size of the file",
    )
