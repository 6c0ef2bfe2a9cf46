"""Every image once an epoch, in another order each time, the same for the same seed and epoch."""

import numpy as np
import pytest

from lenet5.core.dataset import Split
from lenet5.stages.train.batches import Batches, ValidationBatches, shuffled_indices
from lenet5.stages.train.params import Distortion, Train


def labels(batches: Batches) -> list[np.ndarray]:
    return [batches[index][1] for index in range(len(batches))]


@pytest.fixture
def numbered() -> Split:
    """Images that say their own place: 310 of 2x2 pixels, whose labels are that place, too."""
    numbers = np.arange(310, dtype=np.float32)
    return Split(np.ones((310, 2, 2, 1), np.float32) * numbers[:, None, None, None], numbers)


def test_every_image_comes_once_an_epoch_with_its_label_the_last_batch_too(
    numbered: Split, settings: Train
) -> None:
    batches = Batches(numbered, settings)
    drawn = [batches[index] for index in range(len(batches))]
    assert [len(images) for images, _ in drawn] == [32] * 9 + [22]
    for images, of in drawn:
        np.testing.assert_array_equal(images[:, 0, 0, 0], of)
    assert sorted(np.concatenate([of for _, of in drawn])) == list(range(310))


def test_each_epoch_has_an_order_of_its_own_which_can_be_begun_with(numbered: Split, settings: Train) -> None:
    through, later = Batches(numbered, settings), Batches(numbered, settings, first_epoch=2)
    epochs = []
    for _ in range(3):
        through.on_epoch_begin()
        epochs.append(np.concatenate(labels(through)))
    assert not np.array_equal(epochs[0], epochs[1])
    later.on_epoch_begin()
    np.testing.assert_array_equal(np.concatenate(labels(later)), epochs[2])


def test_a_batch_is_the_same_whatever_was_drawn_before_it(numbered: Split, settings: Train) -> None:
    turned = settings.model_copy(update={"distortion": Distortion(shift=1, rotation=10, scale=0.1)})
    one, other = Batches(numbered, turned), Batches(numbered, turned)
    backwards = [one[index][0] for index in reversed(range(len(one)))]
    for index, images in enumerate(reversed(backwards)):
        np.testing.assert_array_equal(other[index][0], images)
    assert not np.array_equal(backwards[-1], Batches(numbered, settings)[0][0])


def test_in_order_every_image_comes_once_with_its_label(numbered: Split) -> None:
    batches = ValidationBatches(numbered, size=100)
    drawn = [batches[index] for index in range(len(batches))]
    assert [len(images) for images, _ in drawn] == [100, 100, 100, 10]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in drawn]), numbered.images)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in drawn]), numbered.labels)


@pytest.mark.parametrize("images", [1, 255, 1024, 1025, 10_000])
def test_order_is_a_permutation_within_and_beyond_a_window(images: int) -> None:
    assert sorted(shuffled_indices(images, [1, 2], window=1024)) == list(range(images))


def test_beyond_a_window_images_are_read_in_runs_from_all_over_the_file() -> None:
    drawn = shuffled_indices(100_000, [1, 2], window=10_240)
    for start in range(0, 100_000, 10_240):
        window = drawn[start : start + 10_240]
        blocks, held = np.unique(window // 256, return_counts=True)
        assert len(blocks) <= 42  # of 391: whole ones, but for those that the window's ends cut
        assert np.ptp(window) > 50_000
        assert held.max() == 256
        assert not (np.diff(window) == 1).mean() > 0.01
