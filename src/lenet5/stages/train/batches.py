"""Batches of a split of any size, in an order that only the seed and the epoch decide."""

import math

import keras
import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.stages.train import augment
from lenet5.stages.train.params import Train
from lenet5.stages.train.sharding import SINGLE_PROCESS, ProcessGroup

# 205 MB of float32: a memory map of any size is read once in each epoch
WINDOW = 65_536
_BLOCK = 256  # images read in one go


class Batches(keras.utils.PyDataset):
    """Batches for one training: float32 images (B, H, W, 1) in 0 to 1, float32 one-hot labels (B, 10).

    Only the current batches are in memory, so the split may be a memory map of any size. Any epoch can be
    drawn without the earlier ones, and any batch without the others of its epoch. Each process of a group
    gets its share of each batch; the shares together are the batch.
    """

    def __init__(
        self, split: Split, params: Train, *, first_epoch: int = 0, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Prepare the first epoch.

        Args:
            split: the images and their one-hot labels.
            params: batch size, seed and augmentation.
            first_epoch: counted from 0; a resumed training starts after the epochs of its checkpoint.
            group: the processes that share out each batch.
        """
        super().__init__()
        self._group = group
        # every process takes the same number of images, which drops at most `group.size - 1` images in each
        # epoch, different ones every time
        self._images = len(split.images) // group.size * group.size
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
        amounts = augment.draw_amounts(
            self._params.distortion, len(rows), random
        )  # the same in every process
        mine = self._group.share(np.arange(len(rows)))
        images = augment.augment(self._split.images[rows[mine]], amounts[:, mine])
        return images, self._split.labels[rows[mine]]

    def on_epoch_begin(self) -> None:
        self._begin()
        self._next += 1

    def _begin(self) -> None:
        self._epoch = self._next
        self._order = shuffled_indices(len(self._split.images), [self._params.seed, self._epoch])


class ValidationBatches(keras.utils.PyDataset):
    """Batches of a split in stored order, for validation. One batch at a time is in memory."""

    def __init__(self, split: Split, size: int, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Check that every image is scored.

        Raises:
            UsageError: the images cannot be shared out equally.
        """
        super().__init__()
        group.require_equal_shares(len(split.images))
        self._split = split
        self._size = size // group.size * group.size
        self._group = group

    def __len__(self) -> int:
        return math.ceil(len(self._split.images) / self._size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        end = min((index + 1) * self._size, len(self._split.images))
        rows = self._group.share(np.arange(index * self._size, end))
        return self._split.images[rows], self._split.labels[rows]


def shuffled_indices(images: int, seed: list[int], window: int = WINDOW) -> NDArray[np.intp]:
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
