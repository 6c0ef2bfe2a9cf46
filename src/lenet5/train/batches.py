"""Batches of a split, however large it is, in an order that only the seed and the epoch decide."""

import math

import keras
import numpy as np
from numpy.typing import NDArray

from lenet5.dataset import Split
from lenet5.params import Train
from lenet5.train import distort
from lenet5.train.gang import ALONE, Gang

# images a window: 205 MB of float32, so that a memory-map is read once an epoch, whatever its size
WINDOW = 65_536
_BLOCK = 256  # images read in one go


class Batches(keras.utils.PyDataset):
    """Batches for one training: float32 images (B, H, W, 1) in 0 to 1, float32 one-hot labels (B, 10).

    Only the batches at hand are in memory: the split may be a memory-map of any size. Any epoch can be drawn
    without those before it, and any batch without the others of its epoch. A member of a gang gets its share
    of each batch; the shares together are the batch.
    """

    def __init__(self, split: Split, params: Train, *, first_epoch: int = 0, gang: Gang = ALONE) -> None:
        """``first_epoch`` counts from 0: a training that goes on begins with the epoch it has come to."""
        super().__init__()
        self._gang = gang
        # all members take the same number: of the last batch up to `workers - 1` images are left over, others
        # in each epoch
        self._images = len(split.images) // gang.workers * gang.workers
        self._split = split
        self._params = params
        self._next = first_epoch
        self._begin()

    def __len__(self) -> int:
        return math.ceil(self._images / self._params.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        size = self._params.batch_size
        rows = self._order[index * size : (index + 1) * size]
        random = np.random.default_rng([self._params.seed, self._epoch, index])
        amounts = distort.draw(self._params.distortion, len(rows), random)  # the same on every member
        mine = self._gang.share(np.arange(len(rows)))
        images = distort.distort(self._split.images[rows[mine]], amounts[:, mine])
        return images, self._split.labels[rows[mine]]

    def on_epoch_begin(self) -> None:
        self._begin()
        self._next += 1

    def _begin(self) -> None:
        self._epoch = self._next
        self._order = order(len(self._split.images), [self._params.seed, self._epoch])


class InOrder(keras.utils.PyDataset):
    """Batches of a split as they lie, for validation: one at a time is in memory."""

    def __init__(self, split: Split, size: int, gang: Gang = ALONE) -> None:
        """
        Raises:
            UsageError: the members of the gang would not have equal shares; each image has to count.
        """
        super().__init__()
        gang.require_equal_shares(len(split.images))
        self._split = split
        self._size = size // gang.workers * gang.workers
        self._gang = gang

    def __len__(self) -> int:
        return math.ceil(len(self._split.images) / self._size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        end = min((index + 1) * self._size, len(self._split.images))
        rows = self._gang.share(np.arange(index * self._size, end))
        return self._split.images[rows], self._split.labels[rows]


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
