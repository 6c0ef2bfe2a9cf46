"""Find images that repeat another one with a few other pixels, or at another place.

A row of pixels has a digest that does not depend on the place of its ink. Each image keeps ``_KEPT`` of its
digests: the smallest ones, as in MinHash (Broder, 1997). Two images that share most rows share one of these
with near certainty, and a shared digest also tells how far one image is shifted against the other. The pixels
of such pairs are then compared. Time and memory grow linearly with the images: 24 bytes for each.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Array, Split, parts
from lenet5.stages.validate import frames

_KEPT = 4
_NEIGHBOURS = 10
"""Images with an equal digest that are compared with each one: a row that thousands share proves little."""
_SMALLEST_ROW = 3
"""Pixels of ink in a row. Shorter rows are equal by chance."""
_BASE = 0x9E3779B97F4A7C15  # an odd number, so that it has an inverse modulo 2 ** 64
_PAIRS = 10_000
"""Pairs that are compared at a time."""


def find(splits: Mapping[str, Split], names: Sequence[str], max_pixels: int) -> "dict[str, pd.Series[int]]":
    """Find near-duplicates among the images of some splits.

    Identical images at the same place are left out; ``duplicates`` finds them.

    Args:
        splits: raw splits by name.
        names: the splits to search; an image is a near-duplicate of one in the first of them.
        max_pixels: the largest number of pixels in which near-duplicates differ, after one of them is
            shifted.

    Returns: For each split, UInt32 (N,): the index of a near-identical image of the first split, or null. In
        the first split it is the index of an earlier image.
    """
    images = [splits[name].images if name in splits else np.empty((0, 0, 0), np.uint8) for name in names]
    counts = [len(each) for each in images]
    first = np.full(sum(counts), -1, np.int64)
    if counts[0] and len({each.shape[1:] for each in images if len(each)}) == 1 and images[0].ndim in (3, 4):
        channels = images[0].shape[3] if images[0].ndim == 4 else 1
        rows = [each.reshape(*each.shape[:2], math.prod(each.shape[2:])) for each in images]
        _search(rows, first, max_pixels, channels)
    found = np.split(first, np.cumsum(counts)[:-1])
    return {
        name: pd.Series(pd.arrays.IntegerArray(np.where(each < 0, 0, each).astype(np.uint32), mask=each < 0))
        for name, each in zip(names, found, strict=True)
    }


def column(splits: Mapping[str, Split], images: pd.DataFrame, max_pixels: int) -> "pd.Series[int]":
    """Return the near-duplicates as a column of the table of ``frames.images``."""
    near = find(splits, frames.SPLITS, max_pixels)
    sizes = images["split"].value_counts(sort=False)
    columns = [near[name].reindex(range(int(sizes[name]))) for name in images["split"].unique()]
    return pd.concat(columns, ignore_index=True)


def _search(images: Sequence[Array], first: NDArray[np.int64], max_pixels: int, channels: int) -> None:
    """Write the index of the near-duplicate of each image into ``first`` (N,), over all splits.

    Args:
        images: (N, H, W × channels) of each split.
        first: the result.
        max_pixels: as for :func:`find`.
        channels: values of one pixel, which stand side by side.
    """
    # a digest and its position in one number, so that sorting needs no index; a position is below 2 ** 32
    keys = np.arange(len(first) * _KEPT, dtype="<u8")
    places = np.empty((len(first), _KEPT, 2), np.uint8)
    start = 0
    for each in images:
        for rows in parts(each) if len(each) else ():
            digests, places[start : start + rows.stop - rows.start] = _sketch(each[rows])
            keys[start * _KEPT : start * _KEPT + digests.size] |= digests.ravel().astype(
                np.uint64
            ) << np.uint64(32)
            start += len(digests)
    keys.sort()
    kept, ordered = keys.view("<u4").reshape(-1, 2).T  # the lower and the upper half, without a copy
    missing = np.searchsorted(ordered, 1)  # 0: there is no such row
    ordered, kept = ordered[missing:], kept[missing:]
    step = max(1, _PAIRS * 28 * 28 // max(math.prod(images[0].shape[1:]), 28 * 28))
    for lag in range(1, _NEIGHBOURS + 1):
        equal = np.flatnonzero(ordered[lag:] == ordered[:-lag])
        for start in range(0, len(equal), step):
            earlier, later = kept[equal[start : start + step]], kept[equal[start : start + step] + lag]
            pairs = np.stack([earlier, later]) // _KEPT  # the digests are in the order of the images
            shifts = places.reshape(-1, 2)[earlier].astype(np.int64) - places.reshape(-1, 2)[later]
            wanted = (pairs[0] < len(images[0])) & (pairs[0] != pairs[1])
            _compare(images, pairs[:, wanted], shifts[wanted], max_pixels, first, channels)


def _compare(
    images: Sequence[Array],
    pairs: NDArray[np.integer],
    shifts: NDArray[np.int64],
    max_pixels: int,
    first: NDArray[np.int64],
    channels: int,
) -> None:
    """Compare the pixels of pairs (2, P), the second image of each shifted by (rows, columns) (P, 2)."""
    earlier, later = images[0][pairs[0]], _take(images, pairs[1])
    _, height, width = earlier.shape
    rows = np.arange(height)[np.newaxis, :, np.newaxis] - shifts[:, :1, np.newaxis]  # (P, H, 1)
    columns = np.arange(width)[np.newaxis, np.newaxis, :] - shifts[:, 1:, np.newaxis]  # (P, 1, W)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = np.arange(len(later))[:, np.newaxis, np.newaxis]
    moved = np.where(inside, later[index, rows.clip(0, height - 1), columns.clip(0, width - 1)], 0)
    values = (earlier != moved).reshape(len(later), height, width // channels, channels)
    different = values.any(axis=3).sum(axis=(1, 2))
    is_copy = (different == 0) & ~shifts.any(axis=1)
    near = (different <= max_pixels) & ~is_copy
    # the smallest index wins, so that the result does not depend on the order of the pairs
    order = np.argsort(pairs[0][near])[::-1]
    target, source = pairs[1][near][order], pairs[0][near][order].astype(np.int64)
    better = (first[target] < 0) | (source < first[target])
    first[target[better]] = source[better]


def _take(images: Sequence[Array], index: NDArray[np.integer]) -> Array:
    """Return the images with these indices over all splits, in their order."""
    taken = np.empty((len(index), *images[0].shape[1:]), images[0].dtype)
    start = 0
    for each in images:
        here = (index >= start) & (index < start + len(each))
        if here.any():  # an empty array can have another shape
            taken[here] = each[index[here] - start]
        start += len(each)
    return taken


def _sketch(images: Array) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Return the smallest digests of rows (N, _KEPT), 0 for a missing one, and their places (N, _KEPT, 2).

    The place of a row is its number and the column of its first ink.
    """
    count, height, width = images.shape
    mask = (1 << 64) - 1
    powers = np.array([pow(_BASE, column, 1 << 64) for column in range(width)], np.uint64)
    inverses = np.array([pow(_BASE, -column, 1 << 64) & mask for column in range(width)], np.uint64)
    with np.errstate(over="ignore"):
        # a polynomial of the pixels; its quotient by the power of the first ink is the same wherever the ink
        # is
        polynomials = images.astype(np.uint64) @ powers  # (N, H)
        ink = images != 0
        begin = ink.argmax(axis=2)
        digests = polynomials * inverses[begin]
        digests ^= digests >> np.uint64(31)
        digests = (digests * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)
    digests = np.where(ink.sum(axis=2) < _SMALLEST_ROW, 1 << 32, digests.astype(np.int64))
    smallest = digests.argsort(axis=1, kind="stable")[:, : min(_KEPT, height)]  # (N, _KEPT)
    kept = np.zeros((count, _KEPT), np.uint32)
    places = np.zeros((count, _KEPT, 2), np.uint8)
    values = np.take_along_axis(digests, smallest, axis=1)
    repeated = np.zeros_like(values, bool)
    repeated[:, 1:] = values[:, 1:] == values[:, :-1]
    kept[:, : values.shape[1]] = np.where((values >= 1 << 32) | repeated, 0, values)
    places[:, : values.shape[1], 0] = smallest
    places[:, : values.shape[1], 1] = np.take_along_axis(begin, smallest, axis=1)
    return kept, places
