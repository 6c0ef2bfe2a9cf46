"""Batches of a split, however large it is, in an order that only the seed and the epoch decide."""

import math

import keras
import numpy as np
from numpy.typing import NDArray

from lenet5.dataset import Split
from lenet5.params import Train
from lenet5.train import distort

# images a window: 205 MB of float32, so that a memory-map is read once an epoch, whatever its size
WINDOW = 65_536
_BLOCK = 256  # images read in one go


class Batches(keras.utils.PyDataset):
    """Batches for one training: float32 images (B, H, W, 1) in 0 to 1, float32 one-hot labels (B, 10).

    Only the batches at hand are in memory: the split may be a memory-map of any size. Any epoch can be drawn
    without those before it, and any batch without the others of its epoch.
    """

    def __init__(self, split: Split, params: Train, *, first_epoch: int = 0) -> None:
        """``first_epoch`` counts from 0: a training that goes on begins with the epoch it has come to."""
        super().__init__()
        self._split = split
        self._params = params
        self._next = first_epoch
        self._begin()

    def __len__(self) -> int:
        return math.ceil(len(self._split.images) / self._params.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        size = self._params.batch_size
        rows = self._order[index * size : (index + 1) * size]
        random = np.random.default_rng([self._params.seed, self._epoch, index])
        images = distort.distort(self._split.images[rows], self._params.distortion, random)
        return images, self._split.labels[rows]

    def on_epoch_begin(self) -> None:
        self._begin()
        self._next += 1

    def _begin(self) -> None:
        self._epoch = self._next
        self._order = order(len(self._split.images), [self._params.seed, self._epoch])


def order(images: int, seed: list[int], window: int = WINDOW) -> NDArray[np.intp]:
    """A permutation of ``images`` indices (N,).

    Up to ``window`` images it is any permutation. More are shuffled in two steps: blocks of neighbours are
    put into windows at random, and the images of each window are shuffled: the disk is read in long runs.
    """
    random = np.random.default_rng(seed)
    if images <= window:
        return random.permutation(images)
    blocks = random.permutation(math.ceil(images / _BLOCK))
    neighbours = (blocks[:, np.newaxis] * _BLOCK + np.arange(_BLOCK)).ravel()
    drawn = neighbours[neighbours < images]  # the last block may be a partial one
    for start in range(0, images, window):
        random.shuffle(drawn[start : start + window])
    return drawn
