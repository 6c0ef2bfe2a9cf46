"""Every epoch has each image once, in an order that only the seed and the epoch decide."""

import numpy as np
import pytest

from lenet5.core.dataset import Split
from lenet5.stages.train.batches import Batches, ValidationBatches, endless, shuffled_indices
from lenet5.stages.train.params import Distortion, Train


def labels(batches: Batches) -> list[np.ndarray]:
    return [batches[index][1] for index in range(len(batches))]


@pytest.fixture
def numbered() -> Split:
    """310 images of 2x2 pixels; the pixels and the label of each image are its index."""
    numbers = np.arange(310, dtype=np.float32)
    return Split(np.ones((310, 2, 2, 1), np.float32) * numbers[:, None, None, None], numbers)


def test_every_epoch_has_each_image_once_with_its_label(numbered: Split, settings: Train) -> None:
    batches = Batches(numbered, settings)
    drawn = [batches[index] for index in range(len(batches))]
    assert [len(images) for images, _ in drawn] == [32] * 9 + [22]
    for images, indices in drawn:
        np.testing.assert_array_equal(images[:, 0, 0, 0], indices)
    assert sorted(np.concatenate([indices for _, indices in drawn])) == list(range(310))


def test_each_epoch_has_another_order_and_can_be_the_first(numbered: Split, settings: Train) -> None:
    through, later = Batches(numbered, settings), Batches(numbered, settings, first_epoch=2)
    epochs = []
    for _ in range(3):
        through.on_epoch_begin()
        epochs.append(np.concatenate(labels(through)))
    assert not np.array_equal(epochs[0], epochs[1])
    later.on_epoch_begin()
    np.testing.assert_array_equal(np.concatenate(labels(later)), epochs[2])


def test_stream_of_epochs_has_the_batches_of_each_epoch(numbered: Split, settings: Train) -> None:
    by_epoch = Batches(numbered, settings, first_epoch=1)
    stream = endless(Batches(numbered, settings, first_epoch=1))
    for _ in range(3):
        by_epoch.on_epoch_begin()
        for expected, (images, indices) in zip(labels(by_epoch), stream, strict=False):
            np.testing.assert_array_equal(indices, expected)
            np.testing.assert_array_equal(images[:, 0, 0, 0], expected)
    validation = ValidationBatches(numbered, 100)
    again = [indices for _, (_, indices) in zip(range(8), endless(validation), strict=False)]
    np.testing.assert_array_equal(np.concatenate(again), np.tile(np.arange(310), 2))


def test_batch_does_not_depend_on_earlier_batches(numbered: Split, settings: Train) -> None:
    turned = settings.model_copy(update={"distortion": Distortion(shift=1, rotation=10, scale=0.1)})
    one, other = Batches(numbered, turned), Batches(numbered, turned)
    backwards = [one[index][0] for index in reversed(range(len(one)))]
    for index, images in enumerate(reversed(backwards)):
        np.testing.assert_array_equal(other[index][0], images)
    assert not np.array_equal(backwards[-1], Batches(numbered, settings)[0][0])


@pytest.mark.parametrize("per_item", [2, 3, 10, 100])
def test_item_of_several_batches_has_them_in_order(numbered: Split, settings: Train, per_item: int) -> None:
    bent = settings.model_copy(update={"distortion": Distortion(shift=1, rotation=10, scale=0.1, elastic=1)})
    single, several = Batches(numbered, bent), Batches(numbered, bent, batches_per_item=per_item)
    assert several.steps == single.steps == len(single) == 10
    assert len(several) == -(-9 // per_item) + 1  # the last batch is an item of its own: it is not whole
    items, batches = ([each[i] for i in range(len(each))] for each in (several, single))
    for items_of, batches_of in zip(zip(*items, strict=True), zip(*batches, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(items_of), np.concatenate(batches_of))
    assert len(items[0][0]) == 32 * min(9, per_item)
    assert several.steps_until(0) == min(9, per_item)
    assert len(items[-1][0]) == 22
    assert [several.steps_until(index) for index in (len(several) - 2, len(several) - 1)] == [9, 10]


def test_validation_batches_have_each_image_once_in_stored_order(numbered: Split) -> None:
    batches = ValidationBatches(numbered, size=100)
    drawn = [batches[index] for index in range(len(batches))]
    assert [len(images) for images, _ in drawn] == [100, 100, 100, 10]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in drawn]), numbered.images)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in drawn]), numbered.labels)


@pytest.mark.parametrize("images", [1, 255, 1024, 1025, 10_000])
def test_shuffled_indices_are_a_permutation(images: int) -> None:
    assert sorted(shuffled_indices(images, [1, 2], window=1024)) == list(range(images))


def test_large_split_is_read_in_long_runs_from_the_whole_file() -> None:
    drawn = shuffled_indices(100_000, [1, 2], window=10_240)
    for start in range(0, 100_000, 10_240):
        window = drawn[start : start + 10_240]
        blocks, counts = np.unique(window // 256, return_counts=True)
        assert len(blocks) <= 42  # of 391 blocks; only those at the ends of the window are partial
        assert np.ptp(window) > 50_000
        assert counts.max() == 256
        assert not (np.diff(window) == 1).mean() > 0.01
