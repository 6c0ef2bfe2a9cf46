"""Loading a dataset folder returns the saved arrays, or an error that names the damaged file."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError
from tests.conftest import Arrays


@pytest.fixture
def splits(digits: Arrays) -> dict[str, Split]:
    return {
        "train": Split(digits["train_images"][:40], digits["train_labels"][:40]),
        "test": Split(digits["test_images"][:20], digits["test_labels"][:20]),
    }


@pytest.fixture
def folder(tmp_path: Path, splits: dict[str, Split]) -> Path:
    dataset.save(tmp_path / "digits", splits, made_from="something", padding=2)
    return tmp_path / "digits"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def garble_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[10] = ord(" ")  # an unbalanced brace
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(np.zeros(3)))


def replace_by_objects(path: Path) -> None:
    np.save(path, np.array([{"an": "object"}], dtype=object), allow_pickle=True)


def replace_by_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, images=np.zeros(3))


def begin_like_an_archive(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 and no more")


def change_the_type(path: Path) -> None:
    np.save(path, np.load(path).astype(np.int8))


def change_the_shape(path: Path) -> None:
    np.save(path, np.load(path)[..., np.newaxis])


def swap_two(path: Path) -> None:
    np.save(path, np.load(path)[::-1])


DAMAGES = [
    flip,
    truncate,
    cut_in_the_header,
    garble_the_header,
    empty,
    Path.unlink,
    replace_by_pickle,
    replace_by_objects,
    replace_by_archive,
    begin_like_an_archive,
    change_the_type,
    change_the_shape,
    swap_two,
]


def test_load_maps_saved_arrays_into_memory(folder: Path, splits: dict[str, Split]) -> None:
    loaded = dataset.load(folder)
    assert loaded.splits.keys() == splits.keys()
    for name, split in splits.items():
        for array, saved in (
            (loaded.splits[name].images, split.images),
            (loaded.splits[name].labels, split.labels),
        ):
            assert isinstance(array, np.memmap)
            assert not array.flags.writeable
            assert array.dtype == saved.dtype
            np.testing.assert_array_equal(array, saved)
    assert (loaded.manifest.made_from, loaded.manifest.padding) == ("something", 2)


def test_load_returns_floats_and_empty_splits(tmp_path: Path) -> None:
    saved = {
        "floats": Split(np.random.default_rng(0).random((3, 4, 4, 1), np.float32), np.eye(3, 10)),
        "none": Split(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)),
    }
    dataset.save(tmp_path / "digits", saved)
    loaded = dataset.load(tmp_path / "digits").splits
    np.testing.assert_array_equal(loaded["floats"].images, saved["floats"].images)
    assert loaded["none"].images.shape == (0, 28, 28)


def test_same_arrays_give_the_same_bytes(tmp_path: Path, splits: dict[str, Split]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    dataset.save(one, splits)
    dataset.save(two, dict(reversed(splits.items())))
    names = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(names) == 5
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@pytest.mark.parametrize("lengths", [(0,), (40,), (40, 0, 20), (1, 1, 58)])
def test_split_saved_in_parts_has_the_bytes_of_numpy_save(
    tmp_path: Path, digits: Arrays, lengths: tuple[int, ...]
) -> None:
    images, labels = digits["train_images"][: sum(lengths)], digits["train_labels"][: sum(lengths)]
    ends = np.cumsum(lengths)
    parts = (
        Split(images[end - length : end], labels[end - length : end])
        for length, end in zip(lengths, ends, strict=True)
    )
    made = dataset.save(tmp_path / "parts", {"train": parts})
    assert made == dataset.save(tmp_path / "whole", {"train": Split(images, labels)})
    for name, array in (("images", images), ("labels", labels)):
        np.save(tmp_path / "numpy.npy", array)
        saved = (tmp_path / "parts/train" / f"{name}.npy").read_bytes()
        assert saved == (tmp_path / "numpy.npy").read_bytes()
        assert saved == (tmp_path / "whole/train" / f"{name}.npy").read_bytes()


@pytest.mark.parametrize("second", [np.zeros((2, 28, 27), np.uint8), np.zeros((2, 28, 28), np.int8)])
def test_part_of_another_shape_or_dtype_or_no_part_writes_no_file(
    tmp_path: Path, splits: dict[str, Split], second: np.ndarray
) -> None:
    for parts in ([splits["train"], Split(second, splits["train"].labels)], []):
        with pytest.raises(ValueError, match=r"does not fit|no part"):
            dataset.save(tmp_path / "digits", {"train": parts})
    assert not list(tmp_path.iterdir())


def test_numbers_of_images_and_labels_may_differ(tmp_path: Path, splits: dict[str, Split]) -> None:
    """The stage ``validate`` rejects such data, so it must be able to read it."""
    uneven = Split(splits["train"].images, splits["train"].labels[:-3])
    dataset.save(tmp_path / "digits", {"train": uneven})
    loaded = dataset.load(tmp_path / "digits").splits["train"]
    assert (len(loaded.images), len(loaded.labels)) == (40, 37)


@pytest.mark.parametrize("file", ["train/images.npy", "test/labels.npy"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_array_is_an_error_that_names_the_file(
    folder: Path, file: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / file)
    with pytest.raises(DataError, match=re.escape(file)):
        dataset.load(folder)


@pytest.mark.parametrize("key", ["sha256", "dtype", "shape"])
def test_edited_manifest_is_an_error(folder: Path, key: str) -> None:
    path = folder / dataset.MANIFEST
    manifest = json.loads(path.read_text())
    other = {"sha256": "0" * 64, "dtype": "|i1", "shape": [40, 784]}
    manifest["splits"]["train"]["images"][key] = other[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"train/images\.npy"):
        dataset.load(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"splits": {}, "more": 1}', '{"splits": {"a": 1}}']
)
def test_invalid_manifest_is_an_error(folder: Path, content: str) -> None:
    (folder / dataset.MANIFEST).write_text(content)
    with pytest.raises(DataError, match=r"manifest\.json was damaged or changed"):
        dataset.load(folder)


def test_folder_without_manifest_is_an_error(folder: Path) -> None:
    (folder / dataset.MANIFEST).unlink()
    with pytest.raises(DataError, match="There is no dataset in"):
        dataset.load(folder)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="There is no dataset in"):
        dataset.load(folder)


def test_digest_depends_on_the_arrays_only(tmp_path: Path, splits: dict[str, Split]) -> None:
    train = splits["train"]

    def digest(split: Split, name: str = "train", made_from: str | None = None) -> str:
        return dataset.save(tmp_path / "digits", {name: split}, made_from=made_from).digest

    one_pixel = train.images.copy()
    one_pixel[7, 14, 14] ^= 1
    different = [
        digest(train),
        digest(Split(one_pixel, train.labels)),
        digest(Split(train.images, train.labels[::-1])),
        digest(Split(train.images.reshape(40, 784), train.labels)),
        digest(Split(train.images.view(np.int8), train.labels)),
        digest(Split(train.labels, train.images)),
        digest(train, name="test"),
    ]
    assert len(set(different)) == len(different)
    assert digest(train, made_from="elsewhere") == digest(
        Split(np.asfortranarray(train.images), train.labels)
    )
    assert digest(train) == different[0]


@pytest.mark.parametrize("padding", [0, 2])
def test_raw_pixels_are_recovered_exactly(padding: int) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    border = ((0, 0), (padding, padding), (padding, padding))
    processed = dataset.rescale(np.pad(every, border))[..., np.newaxis]
    np.testing.assert_array_equal(dataset.raw_pixels(processed, padding), every, strict=True)


@pytest.mark.parametrize("value", [0.5, 1.5, -1 / 255, np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 9])
def test_images_that_are_no_rescaled_pixels_are_an_error(value: float, row: int) -> None:
    """Row 0 is in the border, row 9 is not."""
    processed = np.zeros((2, 20, 20, 1), np.float32)
    processed[1, row, 9] = value
    with pytest.raises(DataError, match="not the raw images, padded and rescaled"):
        dataset.raw_pixels(processed, padding=2)


@pytest.mark.parametrize("padding", [0, 2])
def test_raw_pixels_of_rgb_images_have_their_channels(padding: int) -> None:
    every = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    processed = dataset.rescale(np.pad(every, border))
    np.testing.assert_array_equal(dataset.raw_pixels(processed, padding), every, strict=True)
