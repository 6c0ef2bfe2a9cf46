"""Convert the pixels of a source to bytes without loss, and flat or channels-first images to (N, H, W, …)."""

import math

import numpy as np

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError

_NEAR = 0.15
"""Grey levels. Decimals of three digits, such as 0.498 for 127 / 255, differ by less from a whole level."""
_TO_BYTES = 'images = (images * 255).round().astype("uint8")'


class Pixels:
    """Converts the arrays of one source. All of them must have pixels of one range."""

    def __init__(self) -> None:
        self._unit: bool | None = None
        """Floats go from 0 to 1. None: no floats were there yet."""

    def convert(self, array: Array, origin: str) -> Array:
        """Return images as bytes.

        Args:
            array: (N, H, W), (N, H, W, 1 or 3), (N, 1 or 3, H, W) or (N, H·W); booleans, integers from 0 to
                255, or floats from 0 to 255 or from 0 to 1.
            origin: the file, for errors.

        Returns:
            uint8 (N, H, W), or (N, H, W, 3).

        Raises:
            DataError: the shape is another one, or the pixels cannot be bytes without a loss. The message
                has the line that converts them.
        """
        return self._bytes(shaped(array, origin), origin)

    def _bytes(self, array: Array, origin: str) -> Array:
        if array.dtype == np.uint8:
            return array
        if array.dtype == np.bool_:
            return array.astype(np.uint8) * np.uint8(255)
        if array.dtype.kind in "iu":
            low, high = int(array.min()), int(array.max())
            if low < 0 or high > 255:
                line = (
                    "images = (images // 257)"
                    if low >= 0 and high <= 65535
                    else "images = images.clip(0, 255)"
                )
                raise _refused(origin, f"{array.dtype} from {low} to {high}", f'{line}.astype("uint8")')
            return array.astype(np.uint8)
        if array.dtype.kind != "f":
            line = "images = numpy.stack(list(images))" if array.dtype == object else _TO_BYTES
            raise _refused(origin, f"values of type {array.dtype}", line)
        return self._from_floats(array, origin)

    def _from_floats(self, array: Array, origin: str) -> Array:
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise _refused(
                origin, f"{count:,} values that are no numbers", "images = numpy.nan_to_num(images)"
            )
        low, high = float(array.min()), float(array.max())
        if low < 0 or high > 255:
            line = 'images = ((images - images.min()) / numpy.ptp(images) * 255).round().astype("uint8")'
            raise _refused(origin, f"{array.dtype} from {low:g} to {high:g}", line)
        unit = high <= 1
        if self._unit is None:
            self._unit = unit
        if self._unit and not unit:
            raise _refused(origin, f"some images from 0 to 1, and some from 0 to {high:g}", _TO_BYTES)
        levels = array.astype(np.float64) * (255 if self._unit else 1)
        nearest = np.rint(levels)
        if np.abs(levels - nearest).max() > _NEAR:
            range_ = "0 to 1 that are no multiples of 1/255" if self._unit else "0 to 255 with fractions"
            line = _TO_BYTES if self._unit else 'images = images.round().astype("uint8")'
            raise _refused(origin, f"{array.dtype} from {range_}", line)
        return nearest.astype(np.uint8)


def shaped(array: Array, origin: str) -> Array:
    """Return images as (N, H, W) or (N, H, W, 3), whatever their dtype.

    Raises:
        DataError: the shape is another one.
    """
    match array.shape:
        case (_, _, _) | (_, _, _, 3):
            return array
        case (_, _, _, 1):
            return array[..., 0]
        case (_, 1, _, _):
            return array[:, 0]
        case (_, 3, _, _):
            return np.moveaxis(array, 1, -1)
        case (count, pixels) if math.isqrt(pixels) ** 2 == pixels > 1:
            return array.reshape(count, math.isqrt(pixels), math.isqrt(pixels))
        case (_, pixels):
            side = math.isqrt(pixels // 3)
            line = (
                f"images = images.reshape(-1, {side}, {side}, 3), or, if the channels come first, "
                f"images.reshape(-1, 3, {side}, {side})"
                if 3 * side * side == pixels
                else "images = images.reshape(-1, height, width)"
            )
        case (_, _, _, 4):
            line = "images = images[..., :3]"
        case _:
            line = "images = images.reshape(-1, height, width)"
    raise DataError(
        f"{origin} has no images of a known shape.",
        expected="(N, H, W), (N, H, W, 1), (N, H, W, 3), (N, 1, H, W), (N, 3, H, W) or (N, H·W) of a square",
        found=str(array.shape),
        fix=f"convert the array, and save it again: {line}",
    )


def _refused(origin: str, found: str, line: str) -> DataError:
    return DataError(
        f"{origin} has pixels that cannot be bytes without a loss.",
        expected="integers from 0 to 255, or floats that are multiples of 1/255 from 0 to 1",
        found=found,
        fix=f"convert the array, and save it again: {line}",
    )
