"""Turn arrays into small PNG pictures for an HTML page; equal arrays give equal bytes."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet5.core.dataset import Pictures
from lenet5.images import measures

PAPER, INK = (255, 255, 255), (24, 24, 27)
NEGATIVE, ZERO, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
"""The ends and the middle of ColorBrewer's scale RdBu, which people with colour blindness can read."""
GAP = 1
"""Pixels between the maps of a sheet."""


def data_uri(png: bytes) -> str:
    """Return a PNG file as a URI that needs no request."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def visible(images: NDArray[np.uint8], kind: Pictures) -> NDArray[np.uint8]:
    """Return images as a person looks at them: digits as ink on paper, all others as they are."""
    return 255 - images if kind == "digit" else images


def picture(image: NDArray[np.uint8]) -> str:
    """Draw one visible image, uint8 (H, W), or (H, W, 3) for RGB."""
    return _encode(image)


def sheet(maps: NDArray[np.float32], columns: int) -> str:
    """Draw feature maps side by side, from paper (0 or less) to ink (the largest value of all maps).

    Args:
        maps: (H, W, maps).
        columns: maps in one row.
    """
    top = max(float(maps.max()), 1e-12)
    return _encode(255 - _round(np.clip(_tile(maps, columns, 0.12 * top) / top, 0, 1) * 255))


def signed_sheet(maps: NDArray[np.float32], columns: int) -> str:
    """Draw maps of numbers of both signs side by side: blue below 0, white at 0, red above.

    Args:
        maps: (H, W, maps).
        columns: maps in one row.
    """
    limit = max(float(np.abs(maps).max()), 1e-12)
    return _encode(_diverging(_tile(maps, columns, 0.0) / limit))


def overlay(image: NDArray[np.uint8], values: NDArray[np.float32], limit: float) -> str:
    """Draw numbers of both signs over an image, whose brightness stays visible.

    Args:
        image: a visible image, uint8 (H, W), or (H, W, 3) for RGB.
        values: (H, W).
        limit: the absolute value of the strongest colour.
    """
    colours = _diverging(np.clip(values / max(limit, 1e-12), -1, 1)).astype(np.float64)
    shade = 0.55 + 0.45 * measures.grey(image[None])[0][..., None] / 255
    return _encode(_round(colours * shade))


def _tile(maps: NDArray[np.float32], columns: int, between: float) -> NDArray[np.float64]:
    """Return the maps in a grid with a gap between them, (rows, columns)."""
    height, width, count = maps.shape
    rows = -(-count // columns)
    grid = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), between)
    for place in range(count):
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        grid[top : top + height, left : left + width] = maps[..., place]
    return grid


def _diverging(values: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return colours, uint8 (..., 3), of numbers from -1 to 1."""
    share = np.abs(values)[..., None].astype(np.float64)
    end = np.where(values[..., None] < 0, np.array(NEGATIVE), np.array(POSITIVE))
    return _round(np.array(ZERO) * (1 - share) + end * share)


def _round(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(values).astype(np.uint8)


def _encode(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return data_uri(file.getvalue())
