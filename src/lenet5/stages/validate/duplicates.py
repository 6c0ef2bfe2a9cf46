"""Which images are identical, told by digests: six million of them take 50 MB."""

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Array, chunks

Digests = NDArray[np.uint64]


def digests(images: Array) -> Digests:
    """Eight bytes for each image (N,). That two of six million share them by chance: one in a million."""
    return np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(image.data, digest_size=8).digest())
            for rows in chunks(len(images))
            for image in np.ascontiguousarray(images[rows])
        ),
        np.uint64,
        count=len(images),
    )


def first_among(known: Digests, wanted: Digests) -> "pd.Series[int]":
    """For each of ``wanted`` (N,), the index of the first equal one of ``known`` (M,), or null: UInt32."""
    every, index = np.unique(known, return_index=True)  # in ascending order, and where each comes first
    every, index = np.append(every, 0), np.append(index, 0)  # what is beyond all of them falls on a last one
    place = np.searchsorted(every[:-1], wanted)
    return pd.Series(pd.arrays.IntegerArray(index[place].astype(np.uint32), mask=every[place] != wanted))
