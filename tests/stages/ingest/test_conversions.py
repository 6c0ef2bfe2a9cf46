"""Arrays in other types and shapes give the same bytes, or an error with the line that converts them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.params import Checksums, Image, Ingest
from lenet5.stages.ingest.stage import current_pins, run
from tests.stages.ingest import makers
from tests.stages.ingest.conftest import Digits

Change = Callable[[NDArray[Any]], NDArray[Any]]

LOSSLESS: dict[str, tuple[str, Change]] = {
    "flat": ("images", lambda a: a.reshape(len(a), -1)),
    "one channel, last": ("images", lambda a: a[..., None]),
    "one channel, first": ("images", lambda a: a[:, None]),
    "three equal channels": ("images", lambda a: np.repeat(a[..., None], 3, axis=-1)),
    "three equal channels, first": ("images", lambda a: np.repeat(a[:, None], 3, axis=1)),
    "32-bit integers": ("images", lambda a: a.astype(np.int32)),
    "floats from 0 to 255": ("images", lambda a: a.astype(np.float64)),
    "floats from 0 to 1": ("images", lambda a: a.astype(np.float32) / 255),
    "half floats from 0 to 1": ("images", lambda a: (a / 255).astype(np.float16)),
    "three decimals": ("images", lambda a: (a / 255).round(3)),
    "Fortran order": ("images", np.asfortranarray),
    "64-bit labels": ("labels", lambda a: a.astype(np.int64)),
    "labels in a column": ("labels", lambda a: a[:, None]),
    "float labels": ("labels", lambda a: a.astype(np.float32)),
    "one-hot": ("labels", lambda a: np.eye(10)[a]),
    "one-hot booleans": ("labels", lambda a: np.eye(10, dtype=bool)[a]),
    "text": ("labels", lambda a: a.astype(str)),
    "bytes": ("labels", lambda a: a.astype("S")),
}


def changed(digits: Digits, role: str, change: Change) -> dict[str, NDArray[Any]]:
    return {key: change(array) if key.endswith(role) else array for key, array in digits.items()}


@pytest.mark.parametrize(("role", "change"), LOSSLESS.values(), ids=LOSSLESS)
def test_conversion_without_loss(
    tmp_path: Path, params: Ingest, digits: Digits, role: str, change: Change
) -> None:
    makers.npz(tmp_path / "source", changed(digits, role, change))
    more = params.model_copy(update={"max_megabytes": 10})
    assert current_pins(Paths(tmp_path), more).base == params.sha256


REFUSED: dict[str, tuple[str, Change, str, str]] = {
    "floats from -1 to 1": (
        "images",
        lambda a: a / 127.5 - 1,
        "float64 from -1 to 1",
        "images = ((images - images.min())",
    ),
    "floats with a loss": (
        "images",
        lambda a: a / 255 * 0.777,
        "no multiples of 1/255",
        "(images * 255).round()",
    ),
    "fractions": ("images", lambda a: a * 0.777, "0 to 255 with fractions", "images.round()"),
    "16 bits": ("images", lambda a: a.astype(np.uint16) * 257, "uint16 from 0 to 65535", "images // 257"),
    "negative integers": (
        "images",
        lambda a: a.astype(int) - 5,
        "int64 from -5 to 250",
        "images.clip(0, 255)",
    ),
    "no number": (
        "images",
        lambda a: np.where(a == 255, np.nan, a.astype(float)),
        "values that are no numbers",
        "images = numpy.nan_to_num(images)",
    ),
    "four channels": (
        "images",
        lambda a: np.repeat(a[..., None], 4, axis=-1),
        "28, 28, 4)",
        "images[..., :3]",
    ),
    "flat in colour": (
        "images",
        lambda a: np.repeat(a.reshape(len(a), -1), 3, axis=1),
        "2352)",
        "images.reshape(-1, 28, 28, 3)",
    ),
    "flat, not square": (
        "images",
        lambda a: a.reshape(len(a), -1)[:, :700],
        "700)",
        "reshape(-1, height, width)",
    ),
    "one number an image": (
        "images",
        lambda a: a[:, 0, 0],
        "expected: (N, H, W)",
        "reshape(-1, height, width)",
    ),
    "several labels": (
        "labels",
        lambda a: np.minimum(np.eye(10)[a] + np.eye(10)[a[::-1]], 1),
        "2 labels in row",
        "one = labels.sum(axis=1) == 1",
    ),
    "no label": (
        "labels",
        lambda a: np.eye(10)[a] * (a[:, None] != a[0]),
        "0 labels in row 0",
        "one = labels",
    ),
    "probabilities": (
        "labels",
        lambda a: np.eye(10)[a] * 0.9 + 0.01,
        "other values than 0 and 1",
        "labels.argmax(axis=1)",
    ),
    "fractions of labels": ("labels", lambda a: a + 0.5, "in row 0", 'labels.astype("int64")'),
    "missing labels": (
        "labels",
        lambda a: np.where(np.arange(len(a)) == 3, np.nan, a),
        "nan in row 3",
        'labels.astype("int64")',
    ),
    "large labels": ("labels", lambda a: a.astype(int) + 300, "300 (", "correct ingest.classes"),
    "negative labels": ("labels", lambda a: a.astype(int) - 9, "-9 (", "correct ingest.classes"),
    "unknown names": (
        "labels",
        lambda a: np.char.add("digit ", a.astype(str)),
        "digit 0 (",
        "ingest.classes",
    ),
    "dates": ("labels", lambda a: a.astype("datetime64[D]"), "datetime64[D]", "labels.astype(str)"),
    "complex pixels": ("images", lambda a: a.astype(complex), "complex128", ".round().astype"),
}


@pytest.mark.parametrize(("role", "change", "found", "fix"), REFUSED.values(), ids=REFUSED)
def test_conversion_with_a_loss_is_refused(
    tmp_path: Path, params: Ingest, digits: Digits, role: str, change: Change, found: str, fix: str
) -> None:
    makers.npz(tmp_path / "source", changed(digits, role, change))
    more = params.model_copy(update={"max_megabytes": 10})
    with pytest.raises(DataError) as caught:
        run(Paths(tmp_path), more)
    message = str(caught.value)
    assert "data.npz:" in message
    assert found in message
    assert fix in message.partition("fix:")[2]
    assert not (tmp_path / "data/raw").exists()


def test_ranges_that_differ_between_train_and_test_are_refused(
    tmp_path: Path, params: Ingest, digits: Digits
) -> None:
    arrays: dict[str, NDArray[Any]] = dict(digits)
    arrays["train_images"] = digits["train_images"] / 255
    arrays["test_images"] = digits["test_images"].astype(float)
    makers.npz(tmp_path / "source", arrays)
    with pytest.raises(DataError, match=r"(?s)x_test.*some images from 0 to 1, and some from 0 to 255"):
        current_pins(Paths(tmp_path), params)


def test_names_become_positions_in_the_order_of_the_parameters(
    tmp_path: Path, params: Ingest, digits: Digits
) -> None:
    classes = ["nine", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]
    by_digit = [*classes[1:], classes[0]]
    makers.png_folder(tmp_path / "source", digits, by_digit)
    named = params.model_copy(update={"classes": classes})
    pins = current_pins(Paths(tmp_path), named).base
    assert pins.train_images == params.sha256.train_images
    run(Paths(tmp_path), named.model_copy(update={"sha256": pins}))
    written = dataset.load(tmp_path / "data/raw")
    assert [written.manifest.description.classes[code] for code in written.splits["train"].labels] == [
        by_digit[digit] for digit in digits["train_labels"]
    ]


def test_numbers_are_names_if_the_classes_have_numbers_and_positions_otherwise(
    tmp_path: Path, params: Ingest, digits: Digits
) -> None:
    makers.npz(tmp_path / "source", changed(digits, "labels", lambda a: a.astype(int) + 1))
    from_one = params.model_copy(update={"classes": [str(number) for number in range(1, 11)]})
    assert current_pins(Paths(tmp_path), from_one).base == params.sha256
    with pytest.raises(DataError, match=r"(?s)labels that ingest.classes does not name.*found: +10 \("):
        current_pins(
            Paths(tmp_path), params.model_copy(update={"classes": [str(number) for number in range(1, 10)]})
        )


def test_more_than_256_classes_have_labels_of_two_bytes(tmp_path: Path, params: Ingest) -> None:
    labels = np.arange(600, dtype=np.int64) % 300
    images = np.random.default_rng(0).integers(0, 256, (600, 8, 8), dtype=np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:300],
        "test_labels": labels[:300],
    }
    makers.npz(tmp_path / "source", arrays)
    image = Image(size=8, channels=1, fit="exact", transpose=False)
    many = params.model_copy(update={"classes": [f"c{number:03}" for number in range(300)], "image": image})
    pins = current_pins(Paths(tmp_path), many).base
    run(Paths(tmp_path), many.model_copy(update={"sha256": pins}))
    written = dataset.load(tmp_path / "data/raw").splits["train"]
    assert written.labels.dtype == np.uint16
    np.testing.assert_array_equal(written.labels, labels)
    again = idx.decode_any(idx.encode(np.asarray(written.labels)), "labels")
    np.testing.assert_array_equal(again, labels)
    assert Checksums.model_validate(pins.model_dump()) == pins
