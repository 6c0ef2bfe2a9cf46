"""Divide the images of a source without a test split, each class in the same proportion."""

import hashlib

import numpy as np

from lenet5.core.dataset import Array, chunks


def chosen_for_test(images: Array, labels: Array, *, share: float, seed: int) -> Array:
    """Choose the images of the test split.

    The pixels of an image and the seed decide, and not its row: the same images in another order give the
    same split, equal images of a class fall on the same side, and when a source grows, most of its earlier
    images keep theirs.

    Args:
        images: (N, ...), read in parts.
        labels: (N,).
        share: of the images of each class. A class of two images or more gives at least one, and keeps one.
        seed: another one gives another split.

    Returns:
        bool (N,): True for test.
    """
    key = seed.to_bytes(4, "big")
    order = np.empty(len(images), np.uint64)
    for rows in chunks(len(images)):
        for row, image in enumerate(images[rows], start=rows.start):
            digest = hashlib.blake2b(image.tobytes(), digest_size=8, key=key).digest()
            order[row] = int.from_bytes(digest, "big")
    chosen = np.zeros(len(images), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        distinct = np.unique(order[members])
        wanted = min(max(1, round(share * len(members))), len(members) - 1)
        if wanted < 1 or len(distinct) < 2:
            continue
        ranks = np.sort(order[members])
        chosen[members] = order[members] < max(ranks[wanted], distinct[1])
    return chosen
