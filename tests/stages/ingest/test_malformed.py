"""Each malformed source is an error that says what is there and what to do; nothing is retried or written."""

import io
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.params import Ingest
from lenet5.stages.ingest.stage import current_pins, run
from tests.stages.ingest import makers
from tests.stages.ingest.conftest import Digits, Server, look

Make = Callable[[Path, Digits], Any]


def edit(make: makers.Make, name: str, change: Callable[[Path], Any]) -> Make:
    """Write a good source, then change one file of it."""

    def changed(folder: Path, digits: Digits) -> None:
        make(folder, digits)
        change(folder / name)

    return changed


def file(name: str, content: bytes | str) -> Make:
    def write(folder: Path, _: Digits) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def both(*makes: Make) -> Make:
    def write(folder: Path, digits: Digits) -> None:
        for make in makes:
            make(folder, digits)

    return write


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def instead(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def socket_instead(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def pair(folder: Path, images: Any, labels: Any) -> None:
    folder.mkdir(parents=True)
    np.savez(folder / "pair.npz", images=images, labels=labels)


def archive(arrays: Callable[[Digits], dict[str, Any]]) -> Make:
    def write(folder: Path, digits: Digits) -> None:
        folder.mkdir()
        np.savez(folder / "a.npz", **arrays(digits))

    return write


def six_sets(folder: Path, digits: Digits) -> None:
    for name in ("letters", "digits"):
        makers.idx_files(
            folder,
            digits,
            lambda split, role, name=name: (  # type: ignore[misc]
                f"emnist-{name}-{split}-{role}-idx{3 if role == 'images' else 1}-ubyte"
            ),
        )


def table(columns: dict[str, Any]) -> Make:
    def write(folder: Path, _: Digits) -> None:
        folder.mkdir(parents=True)
        parquet.write_table(pa.table(columns), folder / "train.parquet")

    return write


def picture(mode: str, size: tuple[int, int] = (28, 28), colour: Any = 0) -> bytes:
    made = io.BytesIO()
    Image.new(mode, size, colour).save(made, "PNG")
    return made.getvalue()


PIXELS = ",".join(["1", *["0"] * 784])
HEADER = ",".join(["label", *(f"pixel{number}" for number in range(784))])
IDX = "train-images-idx3-ubyte"
PICTURE = "train/7/30.png"

MALFORMED: dict[str, tuple[Make, list[str]]] = {
    # what the folder holds
    "an empty folder": (lambda f, _: f.mkdir(), ["A file is missing from", "found:    no files"]),
    "other files": (
        file("notes.txt", "x"),
        ["expected: IDX files, .npz, .csv", "found:    1 files (1 .txt): notes.txt"],
    ),
    "only hidden files": (file(".DS_Store", "x"), ["found:    no files"]),
    "a zip archive": (file("mnist.zip", "PK"), ["mnist.zip is an archive", "unzip mnist.zip"]),
    "a missing IDX file": (
        edit(makers.idx_files, "t10k-labels-idx1-ubyte", Path.unlink),
        [
            "expected: t10k-labels-idx1-ubyte.gz or t10k-labels-idx1-ubyte",
            "3 files",
            "t10k-images-idx3-ubyte, train-images-idx3-ubyte",
        ],
    ),
    "IDX files of test alone": (
        both(
            edit(makers.idx_files, IDX, Path.unlink),
            lambda f, _: (f / "train-labels-idx1-ubyte").unlink(),
        ),
        ["expected: train-images-idx3-ubyte.gz or", "2 files"],
    ),
    "several data sets": (six_sets, ["holds several data sets", "emnist-digits-", "emnist-letters-", "`*`"]),
    "several archives": (
        both(makers.npz, lambda f, _: shutil.copy(f / "data.npz", f / "other.npz")),
        ["does not hold one data set", "data.npz, other.npz"],
    ),
    "several tables": (
        both(makers.kaggle, lambda f, _: shutil.copy(f / "mnist_train.csv", f / "fashion_train.csv")),
        ["holds several data sets", "fashion_train.csv, mnist_train.csv"],
    ),
    # IDX
    "an IDX file that is text": (
        edit(makers.idx_files, IDX, instead(b"<html>")),
        [IDX, "byte offset 0", "b'<h'"],
    ),
    "a cut IDX file": (
        edit(makers.idx_files, IDX, cut),
        ["byte offset 23486", "30 × 28 × 28", "23,470 bytes"],
    ),
    "a folder in place of an IDX file": (
        edit(makers.idx_files, IDX, folder_instead),
        [f"expected: {IDX}.gz or {IDX}", "3 files"],
    ),
    "a pipe in place of an IDX file": (edit(makers.idx_files, IDX, pipe_instead), ["a named pipe"]),
    "a socket in place of an IDX file": (edit(makers.idx_files, IDX, socket_instead), ["a socket"]),
    # npz
    "an archive that is text": (file("a.npz", "text"), ["a.npz cannot be read", "zip"]),
    "an archive with other arrays": (
        archive(lambda _: {"first": np.zeros(3)}),
        ["expected: x_train, y_train", "found:    first", "numpy.savez_compressed"],
    ),
    "images without labels": (
        archive(lambda digits: {"x_train": digits["train_images"]}),
        ["expected: x_train, y_train", "found:    x_train"],
    ),
    "Python objects": (
        lambda f, d: pair(f, d["train_images"], np.array([[1], [1, 2]] * 15, object)),
        ["pair.npz:labels has Python objects", "labels.astype(str)"],
    ),
    "more labels than images, and no test split": (
        lambda f, d: pair(f, d["train_images"], np.arange(40) % 10),
        ["do not belong together", "30 images and 40 labels"],
    ),
    # pictures
    "a picture that is text": (
        edit(makers.png_folder, PICTURE, lambda p: instead(b"no picture")(sorted(p.parent.iterdir())[0])),
        [".png cannot be used as an image", "10 bytes that begin with b'no pictu'"],
    ),
    "a picture of no bytes": (
        edit(makers.png_folder, PICTURE, lambda p: instead(b"")(sorted(p.parent.iterdir())[0])),
        ["found:    no bytes", "replace the file, or remove it"],
    ),
    "a cut picture": (
        edit(makers.png_folder, PICTURE, lambda p: cut(sorted(p.parent.iterdir())[0])),
        [".png cannot be used as an image"],
    ),
    "a picture of another size": (
        both(makers.png_folder, file(PICTURE, picture("L", (20, 31)))),
        ["has an image of another size", "28×28", "20×31", "`pad`", "`resize`"],
    ),
    "a picture of 16 bits": (
        both(makers.png_folder, file(PICTURE, picture("I;16", colour=300))),
        ["train/7/30.png cannot be used", "values from 300 to 300", "save it with 8 bits"],
    ),
    "a pipe in place of a picture": (
        both(makers.png_folder, lambda f, _: os.mkfifo(f / PICTURE)),
        ["a named pipe"],
    ),
    "an unknown class": (
        both(makers.png_folder, file("train/seven/30.png", picture("L"))),
        ["labels that ingest.classes does not name", "found:    seven (1 images)", "lenet5 data init"],
    ),
    "pictures without folders": (
        file("1.png", picture("L")),
        ["no pictures in folders of their classes", "CLASS/NAME.png", "1 files (1 .png): 1.png"],
    ),
    "a table of pictures that are not there": (
        edit(makers.manifest, "pictures/train-3.png", Path.unlink),
        ["labels.csv lists pictures that are not there", "no pictures/train-3.png"],
    ),
    "a table that lists a picture twice": (
        edit(
            makers.manifest,
            "labels.csv",
            lambda p: p.write_text(p.read_text() + "pictures/train-3.png,train,4\n"),
        ),
        ["lists a picture more than once", "pictures/train-3.png"],
    ),
    # tables
    "an empty table": (file("train.csv", ""), ["has no table of images", "it is empty"]),
    "a header alone": (file("train.csv", HEADER), ["a header and no rows"]),
    "no column of labels": (
        file("train.csv", f"{HEADER.replace('label', 'what')}\n{PIXELS}\n"),
        ["it has no column of labels, but what, pixel0", "785 columns"],
    ),
    "no square image": (
        file("train.csv", f"{HEADER},extra\n{PIXELS},0\n"),
        ["785 columns of pixels, which is no square image"],
    ),
    "a pixel that is text": (
        file("train.csv", f"{HEADER}\n{PIXELS}\n{PIXELS[:-1]}?\n"),
        ["a pixel that is no number", "nothing in row 1 (from 0), column pixel783"],
    ),
    "a word in place of a pixel": (
        file("train.csv", f"{HEADER}\n{PIXELS[:-1]}x\n"),
        ["'x' in row 0 (from 0), column pixel783"],
    ),
    "a short row": (
        file("train.csv", f"{HEADER}\n{PIXELS}\n{PIXELS[:-4]}\n"),
        ["nothing in row 1 (from 0), column pixel782"],
    ),
    "a long row": (
        file("train.csv", f"{HEADER}\n{PIXELS}\n{PIXELS},3,4\n"),
        ["cannot be read as a table", "785 columns", "787"],
    ),
    "a row without a label": (
        file("train.csv", f"{HEADER}\n{PIXELS}\n{PIXELS[1:]}\n"),
        ["rows without a label", "1 rows without one, the first is row 1"],
    ),
    "bytes in place of a table": (file("train.csv", b"\xff\xfe\x00" * 99), ["no text in UTF-8"]),
    "a sparse ARFF file": (
        file("a.arff", "@relation a\n@attribute p real\n@data\n{0 1}\n"),
        ["sparse ARFF file", "save it as a dense one"],
    ),
    "an ARFF file without data": (file("a.arff", "@relation a\n"), ["no line @data"]),
    # Parquet
    "a Parquet file that is text": (file("a.parquet", "text"), ["a.parquet cannot be read"]),
    "a cut Parquet file": (edit(makers.parquet_lists, "train.parquet", cut), ["a complete Parquet file"]),
    "a Parquet file without labels": (
        table({"image": [b"x"], "name": ["a"]}),
        ["it has no column of labels, but image, name"],
    ),
    "a Parquet file without images": (
        table({"label": [1], "size": [3]}),
        ["it has no images, but label, size"],
    ),
    "a row without an image": (
        table({"label": [1, 2], "image": [picture("L"), None]}),
        ["has a row without an image", "row 1 (from 0)"],
    ),
    "paths in place of pictures": (
        table({"label": [1], "image": [{"bytes": None, "path": "a.png"}]}),
        ["the path 'a.png', and no bytes", "needs them embedded"],
    ),
    "lists of several lengths": (
        table({"label": [1, 2], "image": [[1, 2, 3, 4], [1, 2, 3]]}),
        ["lists of [3, 4] values"],
    ),
    "a missing label": (
        table({"label": [1, None], "image": [picture("L")] * 2}),
        ["rows without a label", "the first is row 1"],
    ),
    "a label without a name": (
        edit(
            makers.hugging_face,
            "data",
            lambda folder: [
                parquet.write_table(
                    parquet.read_table(path).set_column(
                        1, "label", pa.array([77] * parquet.read_metadata(path).num_rows)
                    ),
                    path,
                )
                for path in [folder / "train-00000-of-00002.parquet"]
            ],
        ),
        ["labels that ingest.classes does not name", "77 (15 images)"],
    ),
    "a damaged picture in Parquet": (
        table({"label": [1, 2], "image": [picture("L"), b"text"]}),
        ["train.parquet, row 1 (from 0) cannot be used as an image"],
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("make", "messages"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_source_is_an_error_that_says_what_is_there(
    tmp_path: Path,
    params: Ingest,
    digits: Digits,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    messages: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    make(tmp_path / "source", digits)
    with pytest.raises(DataError) as caught:
        current_pins(Paths(tmp_path), params)
    text = str(caught.value)
    assert caught.value.exit_code == 4
    for message in messages:
        assert message in text, text
    assert all(f"  {line}:" in text for line in ("expected", "found", "fix")), text
    assert "network" not in text
    assert "lenet5.stages" not in text
    assert waits == []
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("nowhere/at/all", ["missing from", "nothing of this name", "holds data/, here/, one.txt"]),
        ("here/no.npz", ["expected: no.npz", "no such file", "here holds nothing"]),
        ("one.txt", ["one.txt cannot be used", "a file with another ending"]),
        ("here/*", ["found:    no files"]),
    ],
)
def test_missing_source_is_an_error_that_lists_what_is_there(
    tmp_path: Path, params: Ingest, waits: list[float], source: str, messages: list[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "one.txt").touch()
    with pytest.raises(DataError) as caught:
        run(Paths(tmp_path), params.model_copy(update={"source": source}))
    for message in messages:
        assert message in str(caught.value), str(caught.value)
    assert "network" not in str(caught.value)
    assert waits == []


@pytest.mark.parametrize("kind", ["folder", "table", "parquet", "npz"])
def test_web_server_without_a_list_of_files_needs_the_name_of_one(
    tmp_path: Path, params: Ingest, server: Server, kind: str
) -> None:
    web = params.model_copy(update={"source": server.url, "format": kind})
    with pytest.raises(DataError, match="cannot list its files"):
        current_pins(Paths(tmp_path), web)


def test_other_data_set_of_sklearn_is_an_error(tmp_path: Path, params: Ingest) -> None:
    with pytest.raises(DataError, match=r"(?s)sklearn:iris.*expected: sklearn:digits"):
        current_pins(Paths(tmp_path), params.model_copy(update={"source": "sklearn:iris"}))


def test_too_many_labels_are_an_error_of_the_inspection(tmp_path: Path, digits: Digits) -> None:
    pair(tmp_path / "source", np.zeros((1200, 8, 8), np.uint8), np.arange(1200))
    with pytest.raises(DataError, match="more than 1,000 different labels"):
        look(tmp_path)


def test_idx_type_without_a_meaning_is_an_error() -> None:
    with pytest.raises(DataError, match=r"byte offset 2.*\n.*0x0b \(short\)"):
        idx.decode_any(b"\0\0\x33\x01\0\0\0\1\0", "labels")
