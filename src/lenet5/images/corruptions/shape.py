"""Make strokes thicker or thinner, or keep only their edges."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lenet5.images.corruptions import linear
from lenet5.images.corruptions.linear import Images

Footprint = Sequence[Sequence[int]]
Filter = Callable[..., Images]

_CROSS = ((0, 1, 0), (1, 1, 1), (0, 1, 0))
_SQUARE = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
_DISK = ((0, 1, 1, 1, 0), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (0, 1, 1, 1, 0))
_LARGE = ((1,) * 5,) * 5


def thick_strokes(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Dilate: each pixel becomes the brightest of its neighbours."""
    parts: tuple[tuple[Footprint, int], ...] = (
        *((_CROSS, 2), (_CROSS, 4), (_SQUARE, 4), (_DISK, 4), (_LARGE, 4)),
    )
    return _morphology(ndimage.grey_dilation, images, *parts[severity - 1])


def thin_strokes(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Erode: each pixel becomes the darkest of its neighbours."""
    parts: tuple[tuple[Footprint, int], ...] = (
        *((_CROSS, 1), (_CROSS, 2), (_CROSS, 3), (_CROSS, 4), (_SQUARE, 4)),
    )
    return _morphology(ndimage.grey_erosion, images, *parts[severity - 1])


def canny_edges(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Keep the edges only, found by Canny's method; with severity 1 and 2, mix them with the image."""
    deviation, quarters = ((1.0, 2), (1.0, 3), (1.0, 4), (1.5, 4), (2.0, 4))[severity - 1]
    return _mixed(images, _canny(images, deviation), quarters)


def _morphology(operation: Filter, images: Images, footprint: Footprint, quarters: int) -> Images:
    return _mixed(images, operation(images, footprint=np.array([footprint], bool)), quarters)


def _mixed(images: Images, changed: Images, quarters: int) -> Images:
    return ((images * np.uint16(4 - quarters) + changed * np.uint16(quarters) + 2) // 4).astype(np.uint8)


def _canny(images: Images, deviation: float) -> Images:
    """Find edges as scikit-image does by default: Canny, A Computational Approach to Edge Detection, 1986.

    The thresholds for the gradient are 0.1 and 0.2, for pixels from 0 to 1.
    """
    smooth = linear.apply(linear.gaussian(deviation, images.shape[1:]), images).astype(np.int32)
    padded = np.pad(smooth, ((0, 0), (1, 1), (1, 1)), mode="edge")
    above, level, below = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    # Sobel's kernels, (N, H, W)
    vertical = (below - above)[:, :, :-2] + 2 * (below - above)[:, :, 1:-1] + (below - above)[:, :, 2:]
    sums = above + 2 * level + below
    horizontal = sums[:, :, 2:] - sums[:, :, :-2]
    magnitude = np.sqrt((vertical**2 + horizontal**2).astype(np.float64))
    edges = _ridges(vertical, horizontal, magnitude) & (magnitude >= 0.1 * 255)
    edges[:, [0, -1]] = edges[:, :, [0, -1]] = False
    # a weak edge stays where it touches a strong one
    parts, count = ndimage.label(edges, structure=np.pad(np.ones((1, 3, 3), int), ((1, 1), (0, 0), (0, 0))))
    strong = np.zeros(count + 1, bool)
    strong[parts[edges & (magnitude >= 0.2 * 255)]] = True
    strong[0] = False
    return np.where(strong[parts], np.uint8(255), np.uint8(0))


def _ridges(
    vertical: NDArray[np.int32], horizontal: NDArray[np.int32], magnitude: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return where the gradient is at least as large as on both sides along its direction, bool (N, H, W)."""
    padded = np.pad(magnitude, ((0, 0), (1, 1), (1, 1)))
    height, width = magnitude.shape[1:]

    def moved(down: int, right: int) -> NDArray[np.float64]:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    tall, wide = np.abs(vertical), np.abs(horizontal)
    steep = tall >= wide
    same = vertical * horizontal >= 0  # the direction goes down to the right
    # the share of the diagonal neighbour in the interpolated one
    share = np.minimum(tall, wide) / np.maximum(np.maximum(tall, wide), 1)
    ridge = np.ones(magnitude.shape, bool)
    for side in (1, -1):
        straight = np.where(steep, moved(side, 0), moved(0, side))
        diagonal = np.where(same, moved(side, side), np.where(steep, moved(side, -side), moved(-side, side)))
        ridge &= magnitude >= share * diagonal + (1 - share) * straight
    return ridge
