"""Bring images of any size and channels to the size and the channels that ``ingest.image`` states."""

from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.stages.ingest.params import Image


def fitted(images: Array | Sequence[Array], target: Image, origin: str) -> Array:
    """Return images of one size.

    ``pad`` centres a smaller image; ``resize`` scales the longer side to the size first, and keeps the
    proportions. The border has the median colour of the image's own edge. Colours become grey by Pillow's
    formula (ITU-R 601); grey becomes three equal channels.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 3), or a sequence of (H, W) and (H, W, 3).
        target: what ``params.yaml`` states.
        origin: the file, for errors.

    Returns:
        uint8 (N, size, size), or (N, size, size, 3).

    Raises:
        DataError: an image has another size, and ``target.fit`` forbids to change it.
    """
    if isinstance(images, np.ndarray):
        whole = _channels(_upright(images, target, first=1), target.channels)
        if whole.shape[1:3] == (target.size, target.size):
            return whole
        images = list(whole)
    else:
        images = [_channels(_upright(image, target, first=0)[None], target.channels)[0] for image in images]
    return np.stack([_sized(image, target, origin) for image in images])


def _upright(images: Array, target: Image, *, first: int) -> Array:
    return images.swapaxes(first, first + 1) if target.transpose else images


def _channels(images: Array, channels: int) -> Array:
    """Convert (N, H, W) or (N, H, W, 3) to the number of channels."""
    if images.ndim == 3:
        return np.repeat(images[..., None], 3, axis=-1) if channels == 3 else images
    if channels == 3:
        return images
    if (images[..., :1] == images).all():
        return images[..., 0]
    flat = np.ascontiguousarray(images).reshape(len(images), -1, 3)
    grey = np.asarray(Picture.fromarray(flat).convert("L"))
    return grey.reshape(images.shape[:3])


def _sized(image: Array, target: Image, origin: str) -> Array:
    height, width = image.shape[:2]
    size = target.size
    if (height, width) == (size, size):
        return image
    if target.fit == "exact" or (target.fit == "pad" and max(height, width) > size):
        raise DataError(
            f"{origin} has an image of another size.",
            expected=f"{size}×{size} pixels (ingest.image.size)"
            if target.fit == "exact"
            else f"at most {size}×{size} pixels (ingest.image.size)",
            found=f"{width}×{height} pixels (width × height)",
            fix="set ingest.image.size to the size of the images; or set ingest.image.fit to "
            + ("`pad` (a border around smaller ones) or `resize`" if target.fit == "exact" else "`resize`"),
        )
    if target.fit == "resize":
        scale = size / max(height, width)
        smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(Picture.fromarray(image).resize(smaller, Picture.Resampling.LANCZOS))
        height, width = image.shape[:2]
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    field = np.empty((size, size, *image.shape[2:]), np.uint8)
    field[:] = np.median(edge, axis=0).astype(np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    field[top : top + height, left : left + width] = image
    return field
