"""What each kind of source does beside the common case."""

import csv
import io
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.ingest import idx, pictures
from lenet5.stages.ingest.params import Image, Ingest
from lenet5.stages.ingest.sources import folder, parquet, table
from lenet5.stages.ingest.stage import current_pins, run
from tests.stages.ingest import makers
from tests.stages.ingest.conftest import Digits, Server, look

Arrays = dict[str, NDArray[Any]]


def ingested(root: Path, params: Ingest, **changes: Any) -> dataset.Dataset:
    """Pin what the source holds, ingest it, and return the data set."""
    params = params.model_copy(update=changes)
    pins = current_pins(Paths(root), params)
    run(Paths(root), params.model_copy(update={"sha256": pins.base}))
    return dataset.load(root / "data/raw")


def image(size: int = 28, channels: Any = 1, fit: Any = "exact", transpose: bool = False) -> Image:
    return Image(size=size, channels=channels, fit=fit, transpose=transpose)


@pytest.fixture
def colours() -> Arrays:
    """60 and 30 RGB images of three classes."""
    random = np.random.default_rng(1)
    arrays: Arrays = {}
    for split, count in (("train", 60), ("test", 30)):
        labels = np.arange(count) % 3
        images = random.integers(0, 60, (count, 16, 16, 3), np.uint8)
        images[np.arange(count), :, :, labels] += 150
        arrays |= {f"{split}_images": images, f"{split}_labels": labels.astype(np.uint8)}
    return arrays


@pytest.mark.parametrize("name", ["idx", "npz", "png folder", "parquet, lists", "parquet of Hugging Face"])
def test_rgb_images_are_the_same_in_every_format(
    tmp_path: Path, params: Ingest, colours: Arrays, name: str
) -> None:
    makers.MAKERS[name](tmp_path / "source", colours)
    found = look(tmp_path)
    assert (found.classes, found.channels, found.size) == (("0", "1", "2"), 3, 16)
    written = ingested(tmp_path, params, classes=["0", "1", "2"], image=image(16, 3))
    for split, arrays in written.splits.items():
        np.testing.assert_array_equal(arrays.images, colours[f"{split}_images"])
        np.testing.assert_array_equal(arrays.labels, colours[f"{split}_labels"])


@pytest.mark.parametrize("make", makers.MAKERS.values(), ids=makers.MAKERS)
def test_parts_join_to_the_whole(
    tmp_path: Path, params: Ingest, digits: Digits, make: makers.Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "source", digits)
    monkeypatch.setattr(dataset, "CHUNK", 7)
    monkeypatch.setattr(folder, "_AT_A_TIME", 4)
    monkeypatch.setattr(table, "_ROWS", 3)
    monkeypatch.setattr(parquet, "_ROWS", 4)
    assert current_pins(Paths(tmp_path), params).base == params.sha256
    assert look(tmp_path).images == 50


# IDX
def qmnist_labels(labels: NDArray[Any]) -> bytes:
    """Eight big-endian 32-bit columns; the first is the class, the others say who wrote the digit."""
    columns = np.zeros((len(labels), 8), ">i4")
    columns[:, 0] = labels
    columns[:, 1:] = np.arange(len(labels))[:, None]
    return struct.pack(">HBB2I", 0, 0x0C, 2, *columns.shape) + columns.tobytes()


def test_labels_of_qmnist_are_the_first_of_eight_columns(
    tmp_path: Path, params: Ingest, digits: Digits
) -> None:
    (tmp_path / "source").mkdir()
    for split in ("train", "test"):
        content = idx.encode(digits[f"{split}_images"])
        (tmp_path / f"source/qmnist-{split}-images-idx3-ubyte").write_bytes(content)
        content = qmnist_labels(digits[f"{split}_labels"])
        (tmp_path / f"source/qmnist-{split}-labels-idx2-int").write_bytes(content)
    assert current_pins(Paths(tmp_path), params).base == params.sha256
    assert "qmnist-train-labels-idx2-int has eight columns" in look(tmp_path).notes[0]


def emnist(folder: Path, name: str, arrays: Arrays, first: int = 0) -> None:
    """As published: rows and columns are exchanged."""
    stored = {
        key: array.swapaxes(1, 2) if key.endswith("images") else array + np.uint8(first)
        for key, array in arrays.items()
    }
    makers.idx_files(
        folder,
        stored,
        lambda split, role: f"gzip/emnist-{name}-{split}-{role}-idx{3 if role == 'images' else 1}-ubyte.gz",
    )


def test_letters_of_emnist_have_names_and_are_turned(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    emnist(tmp_path / "source", "letters", digits, first=1)
    found = look(tmp_path)
    assert found.classes == tuple("abcdefghij")
    written = ingested(
        tmp_path, params, classes=list("abcdefghijklmnopqrstuvwxyz"), image=image(transpose=True)
    )
    np.testing.assert_array_equal(written.splits["train"].images, digits["train_images"])
    np.testing.assert_array_equal(written.splits["train"].labels, digits["train_labels"])


def test_exchanged_rows_and_columns_are_seen(tmp_path: Path) -> None:
    """In digits that are as published, and not in the same digits with rows and columns exchanged."""
    random = np.random.default_rng(0)
    ones = np.zeros((60, 28, 28), np.uint8)
    for number, (row, column) in enumerate(random.integers(4, 8, (60, 2))):
        ones[number, row : row + 18, 6 + column : 9 + column] = 200
    labels = np.ones(60, np.uint8)
    arrays: Arrays = {
        "train_images": np.concatenate([ones, np.zeros_like(ones)]),
        "train_labels": np.concatenate([labels, labels * 0]),
        "test_images": ones,
        "test_labels": labels,
    }
    emnist(tmp_path / "source", "digits", arrays)
    found = look(tmp_path)
    assert found.transposed
    assert any("ingest.image.transpose: true" in note for note in found.notes)
    makers.idx_files(tmp_path / "upright", arrays)
    assert not look(tmp_path, "upright").transposed


def test_a_pattern_chooses_one_of_several_data_sets(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    emnist(tmp_path / "source", "letters", digits, first=1)
    emnist(tmp_path / "source", "digits", digits)
    with pytest.raises(DataError, match="several data sets"):
        look(tmp_path)
    chosen = params.model_copy(
        update={"source": "source/gzip/emnist-digits-*", "image": image(transpose=True)}
    )
    assert current_pins(Paths(tmp_path), chosen).base == params.sha256


def test_the_highest_copy_of_a_file_counts(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    makers.idx_files(tmp_path / "source", digits)
    shutil.copytree(tmp_path / "source", tmp_path / "source/old/copy")
    (tmp_path / "source/old/copy/train-images-idx3-ubyte").write_bytes(b"damaged")
    assert current_pins(Paths(tmp_path), params).base == params.sha256


def test_links_to_folders_are_followed_once(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    makers.idx_files(tmp_path / "elsewhere", digits)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/loop").symlink_to(tmp_path / "source")
    assert current_pins(Paths(tmp_path), params).base == params.sha256


@pytest.mark.parametrize("names", ["dots", "archive"])
def test_web_server_is_asked_for_all_usual_names(
    tmp_path: Path, params: Ingest, digits: Digits, server: Server, names: str
) -> None:
    plain = tmp_path / "files"
    if names == "dots":
        makers.idx_files(plain, digits)
        server.files = {p.name.replace("-idx", ".idx"): p.read_bytes() for p in plain.iterdir()}
    else:
        makers.npz(plain, digits)
        server.files = {"mnist.npz": (plain / "data.npz").read_bytes()}
    web = params.model_copy(update={"source": server.url})
    assert current_pins(Paths(tmp_path), web).base == params.sha256


@pytest.fixture
def store() -> Iterator[Any]:
    """An object store that lists its files."""
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/images", recursive=True)


@pytest.mark.parametrize("make", makers.MAKERS.values(), ids=makers.MAKERS)
def test_every_format_is_read_from_an_object_store(
    tmp_path: Path, params: Ingest, digits: Digits, make: makers.Make, store: Any
) -> None:
    make(tmp_path / "files", digits)
    store.put(str(tmp_path / "files"), "/images", recursive=True)
    remote = params.model_copy(update={"source": "memory://images"})
    assert current_pins(Paths(tmp_path), remote).base == params.sha256


@pytest.mark.parametrize(("make", "name"), [(makers.kaggle, "mnist_train.csv"), (makers.npz, "data.npz")])
def test_one_file_can_be_the_source(
    tmp_path: Path, digits: Digits, server: Server, make: makers.Make, name: str
) -> None:
    make(tmp_path / "mine", digits)
    server.files = {name: (tmp_path / "mine" / name).read_bytes()}
    expected = 50 if name.endswith("npz") else 30
    assert look(tmp_path, f"mine/{name}").images == expected
    assert look(tmp_path, f"{server.url}/{name}").images == expected


# npz
def test_validation_split_of_an_archive_joins_train(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    """As MedMNIST has it."""
    arrays: Arrays = {
        "train_images": digits["train_images"][:20],
        "train_labels": digits["train_labels"][:20, None],
        "val_images": digits["train_images"][20:],
        "val_labels": digits["train_labels"][20:, None],
        "test_images": digits["test_images"],
        "test_labels": digits["test_labels"][:, None],
    }
    makers.npz(tmp_path / "source", arrays, lambda split, role: f"{split}_{role}")
    assert current_pins(Paths(tmp_path), params).base == params.sha256
    assert "The 10 images of the validation split are used as train." in look(tmp_path).notes


def test_validation_split_is_test_if_there_is_no_other_one(
    tmp_path: Path, params: Ingest, digits: Digits
) -> None:
    makers.png_folder(tmp_path / "source", digits)
    (tmp_path / "source/test").rename(tmp_path / "source/valid")
    assert current_pins(Paths(tmp_path), params).base == params.sha256
    found = look(tmp_path)
    assert found.has_test_split
    assert "The 20 images of the validation split are used as test." in found.notes


# folders
def test_folder_around_all_others_and_other_names_of_splits(
    tmp_path: Path, params: Ingest, digits: Digits
) -> None:
    makers.png_folder(tmp_path / "made", digits)
    (tmp_path / "made/train").rename(tmp_path / "made/training_set")
    (tmp_path / "made/test").rename(tmp_path / "made/Testing")
    shutil.copytree(tmp_path / "made", tmp_path / "source/archive/mnist_png")
    assert current_pins(Paths(tmp_path), params).base == params.sha256


def test_files_without_a_class_are_left_out_and_named(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    makers.png_folder(tmp_path / "source", digits)
    Picture.new("L", (5, 5)).save(tmp_path / "source/test/unlabelled.png")
    (tmp_path / "source/readme.txt").write_text("About the data")
    assert current_pins(Paths(tmp_path), params).base == params.sha256
    notes = "\n".join(look(tmp_path).notes)
    assert "no folder names their class: 1 files (1 .png): test/unlabelled.png" in notes
    assert "they are no pictures: 1 files (1 .txt): readme.txt" in notes


def test_test_folder_without_classes_is_no_test_split(tmp_path: Path, digits: Digits) -> None:
    """As Kaggle hands out the images of a competition."""
    makers.png_folder(tmp_path / "source", digits)
    for picture in sorted((tmp_path / "source/test").rglob("*.png")):
        picture.rename(tmp_path / "source/test" / picture.name)
    found = look(tmp_path)
    assert not found.has_test_split
    assert sum(found.counts["train"].values()) == 30
    assert "There is no test split" in found.notes[-2] + found.notes[-1]


def test_class_may_have_the_word_of_a_split_in_its_name(tmp_path: Path, digits: Digits) -> None:
    makers.png_folder(tmp_path / "source", {k: v for k, v in digits.items() if "train" in k})
    (tmp_path / "source/7").rename(tmp_path / "source/test tubes")
    (tmp_path / "source/4").rename(tmp_path / "source/train station")
    found = look(tmp_path)
    assert {"test tubes", "train station"} <= set(found.classes)
    assert found.images == 30


def test_pictures_of_every_mode_become_bytes(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    grey = Picture.fromarray(ramp)
    turned = io.BytesIO()
    exif = Picture.Exif()
    exif[0x0112] = 3  # upside down
    Picture.fromarray(ramp[::-1, ::-1]).save(turned, "PNG", exif=exif)
    saved: dict[str, bytes] = {"turned": turned.getvalue()}
    for name, picture in {
        "grey": grey,
        "rgb": grey.convert("RGB"),
        "palette": grey.convert("P"),
        "opaque": grey.convert("RGBA"),
        "sixteen bits": Picture.fromarray(ramp.astype(np.uint16) * 257),
    }.items():
        file = io.BytesIO()
        picture.save(file, "PNG")
        saved[name] = file.getvalue()
    for name, content in saved.items():
        np.testing.assert_array_equal(pictures.decode(content, name), ramp, name)
    black_on_nothing = np.zeros((8, 8, 4), np.uint8)
    black_on_nothing[2:6, 2:6, 3] = 255
    decoded = pictures.decode(makers.png(black_on_nothing), "glyph")
    assert decoded[0, 0] == 255
    assert decoded[3, 3] == 0


def test_metadata_of_an_image_folder_name_classes_and_splits(tmp_path: Path, digits: Digits) -> None:
    """The table of pictures wins over folders; pictures that it does not list are left out."""
    makers.manifest(tmp_path / "source", digits)
    Picture.new("L", (28, 28)).save(tmp_path / "source/pictures/other.png")
    with (tmp_path / "source/labels.csv").open() as file:
        rows = list(csv.reader(file))
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    with (tmp_path / "source/labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([*row[:2], words[int(row[2])]] for row in rows[1:])])
    found = look(tmp_path)
    assert sorted(found.classes) == sorted(words)
    assert found.images == 50
    assert "labels.csv does not list them: 1 files (1 .png): pictures/other.png" in "\n".join(found.notes)


# tables
def test_label_of_a_table_without_a_header_may_be_the_last_column(tmp_path: Path, params: Ingest) -> None:
    """As UCI's optical digits have it: 64 pixels, of which the first one is always 0, and the class."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 17, (40, 64))
    pixels[:, 0] = 0
    labels = np.arange(40) % 10
    (tmp_path / "source").mkdir()
    np.savetxt(tmp_path / "source/optdigits.csv", np.column_stack([pixels, labels]), "%d", ",")
    found = look(tmp_path)
    assert found.classes == tuple("0123456789")
    assert (found.size, found.maximum) == (8, 16)
    assert "the largest pixel is 16, and white is 255" in "\n".join(found.notes)


def test_test_table_without_labels_and_a_column_of_numbers_are_left_out(
    tmp_path: Path, digits: Digits
) -> None:
    makers.kaggle(tmp_path / "source", digits)
    lines = (tmp_path / "source/mnist_test.csv").read_text().splitlines()
    without = "\n".join(line.partition(",")[2] for line in lines)
    (tmp_path / "source/mnist_test.csv").write_text(without)
    lines = (tmp_path / "source/mnist_train.csv").read_text().splitlines()
    numbered = "\n".join([f",{lines[0]}", *(f"{row},{line}" for row, line in enumerate(lines[1:]))])
    (tmp_path / "source/mnist_train.csv").write_text(numbered)
    found = look(tmp_path)
    assert (found.images, found.has_test_split) == (30, False)
    assert "Left out: mnist_test.csv, it has no column of labels" in found.notes[0]


def test_words_in_a_table_are_names_of_classes(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    makers.kaggle(tmp_path / "source", digits)
    for path in (tmp_path / "source").iterdir():
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(f"class {row}" for row in rows)]))
    names = [f"class {digit}" for digit in range(10)]
    assert look(tmp_path).classes == tuple(names)
    named = params.model_copy(update={"classes": names})
    assert current_pins(Paths(tmp_path), named).base == params.sha256


# Parquet
def test_names_of_hugging_face_keep_their_order(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    makers.hugging_face(tmp_path / "source", digits, words)
    assert look(tmp_path).classes == tuple(words)
    named = params.model_copy(update={"classes": words})
    assert current_pins(Paths(tmp_path), named).base == params.sha256


# scikit-learn
def test_digits_of_sklearn_need_no_files(tmp_path: Path, params: Ingest) -> None:
    found = look(tmp_path, "sklearn:digits")
    assert (found.images, found.size, found.format) == (1797, 8, "sklearn")
    assert found.classes == tuple("0123456789")
    written = ingested(tmp_path, params, source="sklearn:digits", image=image(8))
    train, test = written.splits["train"], written.splits["test"]
    assert len(train.images) + len(test.images) == 1797
    assert {*np.unique(train.images)} == {round(level * 255 / 16) for level in range(17)}
    assert abs(len(test.images) - params.test_share * 1797) <= 10
