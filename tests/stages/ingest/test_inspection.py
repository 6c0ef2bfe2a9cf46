"""An inspection suggests parameters and says what looks wrong."""

import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet5.core.errors import DataError
from lenet5.stages.ingest.inspection import inspect
from lenet5.stages.ingest.known import KNOWN
from tests.stages.ingest import makers
from tests.stages.ingest.conftest import Digits, look


def folder_of(root: Path, *shapes: tuple[int, ...], level: int = 255) -> None:
    """Write twenty-two pictures of each shape, of two classes."""
    for number, shape in enumerate(shapes * 22):
        image = np.zeros(shape, np.uint8)
        image[2:5, 2:5] = level
        place = root / "source" / "ab"[number % 2 if len(shapes) % 2 else number // len(shapes) % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(makers.png(image))


@pytest.mark.parametrize(
    ("shapes", "size", "fit"),
    [
        ([(28, 28)], 28, "exact"),
        ([(28, 28, 3)], 28, "exact"),
        ([(64, 64)], 64, "exact"),
        ([(7, 7)], 8, "resize"),
        ([(20, 30)], 30, "resize"),
        ([(65, 65)], 32, "resize"),
        ([(28, 28), (30, 20)], 32, "resize"),
    ],
)
def test_size_and_fit_are_suggested(tmp_path: Path, shapes: Any, size: int, fit: str) -> None:
    folder_of(tmp_path, *shapes)
    found = look(tmp_path)
    assert (found.size, found.fit) == (size, fit)
    assert found.images == 22 * len(shapes)


def notes_of(root: Path) -> str:
    return "\n".join(look(root).notes)


def test_sizes_are_told(tmp_path: Path) -> None:
    folder_of(tmp_path, (28, 28), (30, 20), (90, 28))
    notes = notes_of(tmp_path)
    assert "The images have 3 sizes: 28 to 90 pixels high, 20 to 28 wide." in notes
    assert "Images are larger than 64 pixels and must be resized." in notes


def test_images_that_are_not_square_are_told(tmp_path: Path) -> None:
    folder_of(tmp_path, (20, 30))
    assert "The images are not square: 20 pixels high, 30 wide." in notes_of(tmp_path)


def test_dark_images_are_told(tmp_path: Path) -> None:
    folder_of(tmp_path, (28, 28), level=1)
    assert "The images are dark: the largest pixel is 1" in notes_of(tmp_path)


def test_light_background_is_told(tmp_path: Path, digits: Digits) -> None:
    makers.idx_files(tmp_path / "source", digits)
    assert not look(tmp_path).light_background
    inverted: dict[str, NDArray[Any]] = {
        key: 255 - array if key.endswith("images") else array for key, array in digits.items()
    }
    makers.png_folder(tmp_path / "inverted", inverted)
    found = look(tmp_path, "inverted")
    assert found.light_background
    assert "The images are dark on a light background." in found.notes


def test_few_images_and_unequal_classes_are_told(tmp_path: Path) -> None:
    labels = np.array([0] * 300 + [1] * 25 + [2] * 3)
    images = np.random.default_rng(0).integers(0, 256, (328, 8, 8), np.uint8)
    arrays = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:300],
        "test_labels": labels[:300],
    }
    makers.npz(tmp_path / "source", arrays)
    notes = notes_of(tmp_path)
    assert "Classes with less than 20 images in train: 2 (3)." in notes
    assert "more than ten times the images of the smallest" in notes
    assert "Classes without an image in test: 1, 2." in notes


def test_labels_that_do_not_fit_the_images_are_told(tmp_path: Path, digits: Digits) -> None:
    makers.npz(tmp_path / "source", digits | {"train_labels": digits["train_labels"][:7]})
    assert "train has 30 images and 7 labels." in notes_of(tmp_path)


def test_range_and_type_are_those_of_the_source(tmp_path: Path, digits: Digits) -> None:
    arrays: dict[str, NDArray[Any]] = {
        key: (array / 255).astype(np.float32) if key.endswith("images") else array
        for key, array in digits.items()
    }
    makers.npz(tmp_path / "source", arrays)
    found = look(tmp_path)
    assert (found.dtype, found.minimum, found.maximum) == ("float32", 0.0, 1.0)


def test_grey_images_in_three_channels_are_grey(tmp_path: Path, digits: Digits) -> None:
    arrays = {
        key: np.repeat(array[..., None], 3, axis=-1) if key.endswith("images") else array
        for key, array in digits.items()
    }
    makers.npz(tmp_path / "source", arrays)
    assert look(tmp_path).channels == 1


def test_known_labels_have_names(tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"kind {number}" for number in range(10))
    digest = hashlib.sha256(digits["train_labels"].tobytes()).hexdigest()
    monkeypatch.setitem(KNOWN, digest, names)
    for name in ("idx", "csv of Kaggle"):
        makers.MAKERS[name](tmp_path / name, digits)
        found = look(tmp_path, name)
        assert found.classes == names
        assert found.counts["test"]["kind 3"] == (digits["test_labels"] == 3).sum()
    monkeypatch.undo()
    assert look(tmp_path, "idx").classes == tuple("0123456789")


def test_large_source_needs_little_memory(tmp_path: Path) -> None:
    """Of 61 MB of pixels, and as many labels as images, only parts are in memory at a time."""
    count = 120_000
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8)).astype(np.float64)
    makers.npz(tmp_path / "source", {"train_images": images, "train_labels": np.arange(count) % 10})
    del images
    tracemalloc.start()
    found = inspect("source", tmp_path, max_megabytes=100, attempts=1, scratch=tmp_path / "scratch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.images == count
    assert peak < 30_000_000


def test_one_class_alone_is_told(tmp_path: Path) -> None:
    makers.npz(
        tmp_path / "source",
        {"train_images": np.ones((30, 8, 8), np.uint8), "train_labels": np.zeros(30, np.uint8)},
    )
    assert "There is only one class." in notes_of(tmp_path)


def test_source_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing from"):
        look(tmp_path)
