"""Find identical images by their digests; those of six million images take 50 MB."""

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Array, parts

Digests = NDArray[np.uint64]


def digests(images: Array) -> Digests:
    """Return an 8-byte digest of each image.

    The probability that any two of six million different images share a digest is one in a million.

    Args:
        images: (N, ...), any dtype.

    Returns:
        uint64 (N,).
    """
    return np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(image.data, digest_size=8).digest())
            for rows in parts(images)
            for image in np.ascontiguousarray(images[rows])
        ),
        np.uint64,
        count=len(images),
    )


def first_match(digests: Digests, reference: Digests) -> "pd.Series[int]":
    """Find each digest in a reference.

    Args:
        digests: uint64 (N,).
        reference: uint64 (M,).

    Returns:
        UInt32 (N,): the index of the first equal digest in ``reference``, or null.
    """
    ordered, index = np.unique(reference, return_index=True)
    # searchsorted returns M for a digest above all others, so the arrays get one more element
    ordered, index = np.append(ordered, 0), np.append(index, 0)
    position = np.searchsorted(ordered[:-1], digests)
    return pd.Series(
        pd.arrays.IntegerArray(index[position].astype(np.uint32), mask=ordered[position] != digests)
    )
