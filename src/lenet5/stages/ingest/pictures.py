"""Decode PNG, JPEG and other files of pictures to bytes of grey or RGB."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_MOST_PIXELS = 64_000_000
"""An image has at most 64 x 64 pixels in the end; a picture with more than this is a mistake or an attack."""
_DAMAGE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,  # Pillow raises it for a damaged PNG
    EOFError,
    IndexError,
    TypeError,
    Image.DecompressionBombError,
)


def decode(content: bytes, name: str) -> Array:
    """Return one picture; the orientation in its EXIF data is applied.

    A transparent background becomes white, or black where the visible pixels are light. A palette becomes
    RGB, 16 bits become 8 if no bit is lost.

    Args:
        content: the file.
        name: its name, for errors.

    Returns:
        uint8 (H, W) for a grey picture, (H, W, 3) for another one.

    Raises:
        DataError: the file is damaged, no picture, too large, or has pixels that lose bits.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata
            with Image.open(io.BytesIO(content)) as file:
                if file.width * file.height > _MOST_PIXELS:
                    raise _unusable(
                        name,
                        f"at most {_MOST_PIXELS:,} pixels",
                        f"{file.width}×{file.height}",
                        "make the picture smaller",
                    )
                return _pixels(ImageOps.exif_transpose(file), name)
    except _DAMAGE as error:
        found = "no bytes" if not content else str(error).replace(repr(error), "").splitlines()[0]
        if isinstance(error, UnidentifiedImageError):
            found = f"{len(content):,} bytes that begin with {content[:8]!r}" if content else "no bytes"
        raise _unusable(
            name, "a picture, such as PNG or JPEG", found, "replace the file, or remove it"
        ) from error


def _pixels(picture: Image.Image, name: str) -> Array:
    if picture.mode.startswith(("I", "F")):
        return _from_wide(np.asarray(picture), name)
    if picture.has_transparency_data:
        return _rgb(_opaque(picture.convert("RGBA")))
    if picture.mode in ("L", "1"):
        return np.asarray(picture.convert("L"))
    return _rgb(picture.convert("RGB"))


def _rgb(picture: Image.Image) -> Array:
    """Return RGB, or grey where the three channels are equal everywhere."""
    array = np.asarray(picture)
    return array[..., 0] if (array[..., :1] == array).all() else array


def _opaque(rgba: Image.Image) -> Image.Image:
    visible = np.asarray(rgba.convert("L"))[np.asarray(rgba)[..., 3] > 127]
    paper = "black" if visible.size and visible.mean() > 127 else "white"
    return Image.alpha_composite(Image.new("RGBA", rgba.size, paper), rgba).convert("RGB")


def _from_wide(wide: Array, name: str) -> Array:
    """Convert pixels of 16 or 32 bits that need only eight."""
    whole = np.rint(wide)
    if np.array_equal(whole, wide) and wide.min() >= 0:
        if wide.max() <= 255:
            return wide.astype(np.uint8)
        if wide.max() <= 65535 and not (whole % 257).any():
            return (whole // 257).astype(np.uint8)
    raise _unusable(
        name,
        "8 bits for each pixel, or 16 that hold no more than 8",
        f"values from {wide.min()} to {wide.max()}",
        "save it with 8 bits: PIL.Image.fromarray((pixels / pixels.max() * 255).round().astype('uint8'))",
    )


def _unusable(name: str, expected: str, found: str, fix: str) -> DataError:
    return DataError(f"{name} cannot be used as an image.", expected=expected, found=found, fix=fix)
