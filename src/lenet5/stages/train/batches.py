"""Draw batches from a split of any size, in an order that only the seed and the epoch decide."""

import math
from collections.abc import Iterator

import keras
import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.stages.train import augment
from lenet5.stages.train.params import Train
from lenet5.stages.train.sharding import SINGLE_PROCESS, ProcessGroup

Item = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images (B, H, W, channels) in 0 to 1, and one-hot labels (B, classes)."""
WINDOW = 65_536
"""Images that are shuffled together; grey ones of 28x28 pixels take 205 MB.

Larger splits are read from disk once per epoch.
"""
_BLOCK = 256
"""Neighbouring images that stay in the same window, so that the disk is read in long runs."""


class Batches(keras.utils.PyDataset):
    """Batches for one training: float32 images (B, H, W, channels) in 0 to 1, float32 one-hot labels.

    Only the current batches are in memory, so the split may be a memory map of any size. Each epoch can be
    drawn without the earlier ones, and each batch without the other batches of its epoch. Each process of a
    group gets its share of each batch; the shares together are the batch. An item may be several whole
    batches in one array, because TensorFlow waits for each item.
    """

    def __init__(
        self,
        split: Split,
        params: Train,
        *,
        first_epoch: int = 0,
        group: ProcessGroup = SINGLE_PROCESS,
        batches_per_item: int = 1,
    ) -> None:
        """Prepare the first epoch.

        Args:
            split: the images and their one-hot labels.
            params: batch size, seed and augmentation.
            first_epoch: counted from 0; a resumed training starts after the epochs of its checkpoint.
            group: the processes that share out each batch.
            batches_per_item: the largest number of batches that ``[index]`` returns, one after the other. The
                last batch of an epoch is an item of its own if it has fewer images.
        """
        super().__init__()
        self._group = group
        # every process needs the same number of images, so each epoch drops at most `group.size - 1` images,
        # and not the same ones in every epoch
        images = len(split.images) // group.size * group.size
        whole, rest = divmod(images, params.batch_size)
        self._items = [
            range(first, min(first + batches_per_item, whole)) for first in range(0, whole, batches_per_item)
        ]
        if rest:
            self._items.append(range(whole, whole + 1))
        self._split = split
        self._params = params
        self._next_epoch = first_epoch
        self._shuffle()

    @property
    def steps(self) -> int:
        """Return the number of batches in an epoch."""
        return self.steps_until(len(self) - 1)

    def steps_until(self, index: int) -> int:
        """Return the number of batches of an epoch up to the end of the item ``index``, or of the last item.

        Keras counts beyond the last item if ``steps_per_execution`` does not divide their number.
        """
        return self._items[min(index, len(self) - 1)].stop

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        size, batches = self._params.batch_size, self._items[index]
        rows = [self._order[number * size : (number + 1) * size] for number in batches]
        taken = np.concatenate([self._group.share(each) for each in rows])
        images = self._split.images[taken]
        if self._params.distortion.is_used:
            start = 0
            for number, each in zip(batches, rows, strict=True):
                share = self._group.share(np.arange(len(each)))
                part = slice(start, start := start + len(share))
                images[part] = self._distorted(images[part], number, len(each), share)
        return images, self._split.labels[taken]

    def _distorted(
        self, images: NDArray[np.float32], number: int, count: int, share: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Distort this process's share of the batch ``number``, which has ``count`` images."""
        limits, random = (
            self._params.distortion,
            np.random.default_rng([self._params.seed, self._epoch, number]),
        )
        # every process draws for the whole batch, so the images do not depend on the number of processes
        amounts = augment.draw_amounts(limits, count, random)
        fields = augment.draw_fields(limits, count, images.shape[1:3], random)
        disturbance = augment.draw_disturbance(limits, count, images.shape[1:3], random)
        moved = augment.augment(images, amounts[:, share], None if fields is None else fields[:, share])
        return augment.disturb(moved, disturbance.of(share))

    def on_epoch_begin(self) -> None:
        self._shuffle()
        self._next_epoch += 1

    def _shuffle(self) -> None:
        self._epoch = self._next_epoch
        self._order = shuffled_indices(len(self._split.images), [self._params.seed, self._epoch])


class ValidationBatches(keras.utils.PyDataset):
    """Batches of a split in stored order, for validation. One batch at a time is in memory."""

    def __init__(self, split: Split, size: int, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Check that the processes together score every image.

        Args:
            split: the images and their one-hot labels.
            size: images in one batch, over all processes.
            group: the processes that share out each batch.

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

    def __getitem__(self, index: int) -> Item:
        end = min((index + 1) * self._size, len(self._split.images))
        rows = self._group.share(np.arange(index * self._size, end))
        return self._split.images[rows], self._split.labels[rows]


def endless(batches: Batches | ValidationBatches) -> Iterator[Item]:
    """Yield the items of one epoch after the other, without end."""
    while True:
        batches.on_epoch_begin()
        yield from map(batches.__getitem__, range(len(batches)))


def shuffled_indices(images: int, seed: list[int], window: int = WINDOW) -> NDArray[np.intp]:
    """Return a random permutation of ``images`` indices, intp (N,).

    Up to ``window`` images, every permutation is possible. More images are shuffled in two steps, so that the
    disk is read in long runs: blocks of neighbours are assigned to windows at random, then the images of each
    window are shuffled.
    """
    random = np.random.default_rng(seed)
    if images <= window:
        return random.permutation(images)
    blocks = random.permutation(math.ceil(images / _BLOCK))
    neighbours = (blocks[:, np.newaxis] * _BLOCK + np.arange(_BLOCK)).ravel()
    indices = neighbours[neighbours < images]  # the last block may be partial
    for start in range(0, images, window):
        random.shuffle(indices[start : start + window])
    return indices
