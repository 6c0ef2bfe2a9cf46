"""The archive of Keras is read as four arrays; a damaged one, or a pickle, is an error."""

import io
import re
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress

from lenet5.core.errors import DataError
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.stages.ingest.source import Source
from lenet5.stages.ingest.sources import npz
from lenet5.stages.ingest.sources.contract import Reader

LIMIT = 1_000_000
IMAGES = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
LABELS = np.arange(3, dtype=np.uint8)
ARRAYS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
CONTENTS = {item.key: idx.encode(ARRAYS[item.member]) for item in MNIST_FILES}


def archive(**changes: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **(ARRAYS | changes))
    return file.getvalue()


def archive_with(member: str, content: bytes) -> bytes:
    """Return a valid archive in which one member has these bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive())) as good, zipfile.ZipFile(file, "w") as changed:
        for name in good.namelist():
            changed.writestr(name, content if name == f"{member}.npy" else good.read(name))
    return file.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def read(content: bytes, limit: int = LIMIT) -> dict[str, bytes]:
    folder = Path(tempfile.gettempdir())
    source = Source("mnist.npz", folder, limit=limit, attempts=1)
    reader = Reader(source, folder, limit, Progress(disable=True))
    parts: dict[str, list[Any]] = {}
    for part in npz.members(io.BytesIO(content), "mnist.npz", reader):
        if part.images is not None:
            parts.setdefault(f"{part.split}_images", []).append(part.images)
        else:
            parts.setdefault(f"{part.split}_labels", []).append(np.asarray(part.labels).astype(np.uint8))
    return {key: idx.encode(np.concatenate(arrays)) for key, arrays in parts.items()}


def refusal(content: bytes, limit: int = LIMIT) -> str:
    """Return the message of the error, on one line."""
    with pytest.raises(DataError) as caught:
        read(content, limit)
    message = re.sub(r"\s+", " ", str(caught.value))
    assert message.startswith("mnist.npz")
    return message


@pytest.mark.parametrize("order", ["C", "F"])
def test_read_returns_idx_content(order: Any) -> None:
    assert read(archive(x_train=np.array(IMAGES, order=order))) == CONTENTS


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickle_is_an_error_and_is_never_loaded(tmp_path: Path) -> None:
    content = archive(y_train=np.array([Trap(tmp_path / "sprung"), 1, 2], object))
    assert "object" in refusal(content)
    assert not (tmp_path / "sprung").exists()
    with np.load(io.BytesIO(content), allow_pickle=True) as unsafe:
        assert unsafe["y_train"].shape == (3,)
    assert (tmp_path / "sprung").exists(), "the pickle does run code when it is loaded"


def test_missing_member_is_an_error_that_names_it() -> None:
    content = io.BytesIO()
    np.savez(content, x_train=IMAGES, y_train=LABELS, x_test=IMAGES)
    message = refusal(content.getvalue())
    assert "test labels beside x_test" in message
    assert "x_train, y_train, x_test" in message.partition("found")[2]


def test_member_above_the_limit_is_not_uncompressed() -> None:
    content = archive(x_train=np.zeros((60_000, 28, 28), np.uint8))
    assert len(content) < LIMIT
    tracemalloc.start()
    assert "mnist.npz:x_train is larger" in refusal(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT


@pytest.mark.parametrize("shape", [(2**40, 28, 28), (3, 2, 3), (0, 2, 2), (3, 2, -2), (2**63, 2**63, 0)])
def test_wrong_size_in_the_header_allocates_no_memory(shape: tuple[int, int, int]) -> None:
    tracemalloc.start()
    refusal(archive_with("x_train", npy_header(shape) + IMAGES.tobytes()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT


@pytest.mark.parametrize(
    "member",
    [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00" + bytes(20), npy_header((3, 2, 2)), b"not an array at all"],
)
def test_member_that_is_not_an_array_is_an_error(member: bytes) -> None:
    refusal(archive_with("x_train", member))


@given(st.data())
def test_damaged_archive_is_an_error_or_unchanged_data(data: st.DataObject) -> None:
    good = archive()
    content = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        contents = read(bytes(content))
    except DataError:
        refusal(bytes(content))
    else:
        assert contents == CONTENTS  # the change was in a date or another unused field


@given(st.binary(max_size=200))
def test_any_member_is_an_array_or_an_error(member: bytes) -> None:
    header = npy_header((3, 2, 2))
    for content in (member, header[:10] + member, header[: struct.calcsize("6s")] + member):
        refusal(archive_with("x_train", content))
