"""Data sets with other classes, sizes and channels are checked against their own reference."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import check_result, engine, reference, stage, suite, tables
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import Reference
from tests.stages.validate import other_data
from tests.stages.validate.conftest import Examine, Splits, Verdict, copy

pytestmark = pytest.mark.xdist_group("validate-other-data")  # the tests share references and verdicts

Check = Callable[[Splits], Verdict]


def made(folder: Path, splits: Splits, description: dataset.Description, limits: Validate) -> Reference:
    """Make the reference of some data."""
    paths = Paths(folder)
    dataset.save(paths.raw, splits, description=description)
    reference.update(paths, limits)
    return reference.load(paths.reference, limits)


def examined(splits: Splits, limits: Validate, known: Reference) -> Verdict:
    """Run all checks on some data."""
    described = tables.build(splits, limits, known)
    results = engine.evaluate(described.by_name(), suite.checks(limits, described, known.profile))
    failed = {result.name for result in results if not result.success}
    return Verdict(failed, check_result.failing_rows(described.images, results), results)


@pytest.fixture(scope="module")
def shapes() -> Splits:
    """RGB shapes, 1,200 train and 400 test images. They are shared: change only a ``copy``."""
    return other_data.shapes()


class Described(NamedTuple):
    """A data set with its reference."""

    paths: Paths
    limits: Validate
    message: str
    """What the update of the reference returned."""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, shapes: Splits, params: Validate) -> Described:
    """``shapes``, saved. The folder is shared: read it, or work in a copy."""
    paths, limits = Paths(tmp_path_factory.mktemp("shapes")), other_data.params_for(params, 16, 3)
    dataset.save(paths.raw, shapes, description=other_data.SHAPES)
    return Described(paths, limits, reference.update(paths, limits))


@pytest.fixture(scope="module")
def check(described: Described) -> Check:
    """Compare some data with the reference of ``shapes``."""
    known = reference.load(described.paths.reference, described.limits)
    return lambda splits: examined(splits, described.limits, known)


@pytest.fixture(scope="module")
def wrong_types(check: Check, shapes: Splits) -> Verdict:
    """Train has another type of pixels, test another shape, and labels have other types."""
    train, test = shapes["train"], shapes["test"]
    images = train.images.astype(np.int16)
    images[3, 8, 8], images[13, 8, 8] = -1, 256
    return check(
        {
            "train": Split(images, train.labels.astype(np.int64)),
            "test": Split(test.images.reshape(-1, 8, 32, 3), test.labels.astype(np.int64)),
        }
    )


@pytest.fixture(scope="module")
def bad_rows(check: Check, shapes: Splits) -> Verdict:
    """Single images are wrong, repeated, or nearly repeated; the last test image has no label."""
    splits = copy(shapes)
    train, test = splits["train"], splits["test"]
    train.labels[4] = 4
    train.images[5] = 0
    train.images[100:111], train.labels[100:111] = train.images[0], train.labels[0]  # one more than the limit
    train.images[200:211], train.labels[200:211] = train.images[150:161], train.labels[150:161]
    train.images[200:211, 8, 6:8, 0] ^= 0x55
    test.images[7], test.labels[7] = train.images[20], train.labels[20]
    test.images[9], test.labels[9] = np.roll(train.images[30], (1, -1), (0, 1)), train.labels[30]
    return check({"train": train, "test": Split(test.images, test.labels[:-1])})


def exchanged(split: Split) -> Split:
    """Exchange the labels circle and square."""
    return Split(split.images, np.where(split.labels < 2, 1 - split.labels, split.labels).astype(np.uint8))


def blue_first(split: Split) -> Split:
    """Store the channels as blue, green and red."""
    return Split(split.images[..., ::-1], split.labels)


@pytest.fixture(scope="module")
def changed(check: Check, shapes: Splits) -> dict[str, Verdict]:
    """Each split is damaged in one of two ways, by the split whose channels are in another order."""
    train, test = shapes["train"], shapes["test"]
    return {
        "train": check({"train": blue_first(train), "test": exchanged(test)}),
        "test": check({"train": exchanged(train), "test": blue_first(test)}),
    }


@pytest.fixture(scope="module")
def other_shares(check: Check, shapes: Splits) -> Verdict:
    """Train lacks most triangles, test all crosses, and all shapes are larger."""
    lost = {
        "train": (shapes["train"].labels == 2) & (np.arange(len(shapes["train"].labels)) % 4 > 0),
        "test": shapes["test"].labels == 3,
    }
    grown = {name: np.maximum(split.images, np.roll(split.images, 1, 1)) for name, split in shapes.items()}
    return check({name: Split(grown[name][~lost[name]], shapes[name].labels[~lost[name]]) for name in shapes})


@pytest.fixture(scope="module")
def swapped(check: Check, shapes: Splits) -> Verdict:
    return check({"train": shapes["test"], "test": shapes["train"]})


def test_types_and_shapes_are_checked(wrong_types: Verdict) -> None:
    assert wrong_types.failed == {"shape", "dtype", "label_type", "pixel_min", "pixel_max"}
    assert wrong_types.result("shape").expected == "16x16x3"


def test_bad_rows_are_named(bad_rows: Verdict) -> None:
    copies = {"train_duplicates", "test_in_train", "train_near_duplicates", "test_near_train"}
    assert bad_rows.failed == {"paired", "ink_share", "label"} | copies
    assert bad_rows.failing("label") == [("train", 4)]
    assert bad_rows.failing("ink_share") == [("train", 5)]
    assert bad_rows.failing("train_duplicates") == [("train", index) for index in range(100, 111)]
    near = [("train", index) for index in range(200, 211)]
    assert bad_rows.failing("train_near_duplicates") == near
    assert bad_rows.failing("test_in_train") == [("test", 7)]
    assert bad_rows.failing("test_near_train") == [("test", 9)]
    assert bad_rows.failing("paired") == [("test", 399)]


@pytest.mark.parametrize(("reordered", "relabelled"), [("train", "test"), ("test", "train")])
def test_changes_of_channels_and_labels_are_told_apart(
    changed: dict[str, Verdict], reordered: str, relabelled: str
) -> None:
    verdict = changed[reordered]
    likeness = verdict.result("likeness").seen
    assert f"{reordered}: all images are stored with their channels as blue, green, red" in likeness
    assert f"{relabelled}: labels circle and square are exchanged" in likeness
    wanted = {f"unlike_images_{reordered}", f"suspect_labels_{relabelled}", "label_agreement", "class_mean"}
    assert wanted <= verdict.failed


def test_other_shares_of_classes_and_ink_are_drift(other_shares: Verdict) -> None:
    drift = {f"{kind}_drift_{split}" for kind in ("ink", "class") for split in ("train", "test")}
    assert drift | {"class_present", "class_share"} <= other_shares.failed
    assert other_shares.result("class_present").seen == "1 of 8: test cross has 0"
    assert "train triangle has" in other_shares.result("class_share").seen


def test_swapped_splits_are_rejected(swapped: Verdict) -> None:
    assert swapped.failed == {"test_share"}


def test_every_check_rejects_one_of_these_damages(
    wrong_types: Verdict,
    bad_rows: Verdict,
    changed: dict[str, Verdict],
    other_shares: Verdict,
    swapped: Verdict,
) -> None:
    verdicts = [wrong_types, bad_rows, *changed.values(), other_shares, swapped]
    assert set().union(*(verdict.failed for verdict in verdicts)) == {
        result.name for result in swapped.results
    }


@pytest.mark.parametrize("seed", range(3))
def test_few_images_of_mnist_pass(examine: Examine, mnist: Splits, seed: int) -> None:
    """By chance alone, 300 images have a divergence above the limits for many images."""
    generator = np.random.default_rng(seed)
    verdict = examine(
        {
            name: Split(split.images[rows], split.labels[rows])
            for name, split in mnist.items()
            for rows in [generator.choice(len(split.labels), 300, replace=False)]
        }
    )
    assert verdict.failed == set()
    for split in ("train", "test"):
        assert verdict.result(f"ink_drift_{split}").expected.startswith("at most 0.06")


@pytest.mark.parametrize(("classes", "each"), [(40, 30), (300, 12)])
def test_many_classes_of_few_images_pass(tmp_path: Path, params: Validate, classes: int, each: int) -> None:
    splits = other_data.glyphs(classes, each)
    limits = other_data.params_for(params, 16, 1)
    known = made(tmp_path, splits, other_data.glyph_names(classes), limits)
    assert len(known.classifier.whitening) == 1  # all classes share one covariance
    assert examined(splits, limits, known).failed == set()
    transposed = {name: Split(split.images.swapaxes(1, 2), split.labels) for name, split in splits.items()}
    assert "train: all images are transposed" in examined(transposed, limits, known).result("likeness").seen


def test_small_images_pass_and_shuffled_labels_do_not(tmp_path: Path, params: Validate) -> None:
    splits = other_data.tiny_digits()
    limits = other_data.params_for(params, 8, 1)
    known = made(tmp_path, splits, other_data.TINY, limits)
    assert examined(splits, limits, known).failed == set()
    labels = np.random.default_rng(0).permutation(splits["test"].labels)
    verdict = examined(splits | {"test": Split(splits["test"].images, labels)}, limits, known)
    assert verdict.failed >= {"label_agreement", "suspect_labels_test"}
    assert "test: the labels are unrelated to the images" in verdict.result("likeness").seen


def test_data_set_passes_with_the_reference_that_the_update_made(
    described: Described, tmp_path: Path
) -> None:
    paths = Paths(shutil.copytree(described.paths.root, tmp_path / "copy"))
    assert "4 classes (circle, square, triangle, cross)" in described.message
    assert "26 checks passed on 1,200 train and 400 test images" in stage.run(paths, described.limits)


def test_reference_of_another_data_set_is_refused(described: Described, tmp_path: Path) -> None:
    paths = Paths(shutil.copytree(described.paths.root, tmp_path / "copy"))
    letters = other_data.SHAPES.model_copy(update={"classes": ("a", "b", "c", "d")})
    dataset.save(paths.raw, other_data.shapes(200, 100), description=letters)
    with pytest.raises(DataError, match="belongs to another data set") as refusal:
        stage.run(paths, described.limits)
    assert "4 classes (a, b, c, d)" in str(refusal.value)
    assert "4 classes (circle, square, triangle, cross)" in str(refusal.value)
