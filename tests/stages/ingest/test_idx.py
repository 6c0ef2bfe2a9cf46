"""The IDX reader returns the right array, or an error with the offset, for any bytes."""

import re
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.stages.ingest import idx

Bytes = NDArray[np.uint8]

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
MESSAGE = re.compile(r"digits-idx .* byte offset (\d+)")


def refusal(content: bytes, dimensions: int) -> tuple[int, str]:
    """Return the offset in the error, and its message."""
    with pytest.raises(DataError) as caught:
        idx.decode(content, "digits-idx", dimensions)
    match = MESSAGE.search(str(caught.value))
    assert match, caught.value
    return int(match[1]), str(caught.value)


@given(arrays)
def test_decode_returns_the_encoded_array(array: Bytes) -> None:
    read = idx.decode(idx.encode(array), "digits-idx", array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@given(arrays)
def test_encoding_is_independent_of_the_memory_layout(array: Bytes) -> None:
    assert idx.encode(np.asfortranarray(array)) == idx.encode(array)


def test_encoding_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(350, dtype=np.uint8).reshape(7, 5, 10)
    whole = idx.encode(array)
    monkeypatch.setattr(dataset, "CHUNK", 3)
    assert [len(part) for part in idx.encode_chunks(array)] == [16, 150, 150, 50]
    assert idx.encode(array) == whole


def test_encoding_equals_the_published_files(files: dict[str, bytes]) -> None:
    assert files["t10k-labels-idx1-ubyte"].startswith(b"\0\0\x08\x01\0\0\0\x14\x07\x02\x01\x00\x04")
    assert files["t10k-images-idx3-ubyte"].startswith(b"\0\0\x08\x03\0\0\0\x14\0\0\0\x1c\0\0\0\x1c")


@given(arrays, st.data())
def test_truncated_file_is_an_error_at_its_end(array: Bytes, data: st.DataObject) -> None:
    content = idx.encode(array)
    kept = data.draw(st.integers(0, len(content) - 1))
    offset, _ = refusal(content[:kept], array.ndim)
    assert offset == kept if kept > 3 else offset <= kept


@given(arrays, st.binary(min_size=1))
def test_trailing_bytes_are_an_error_at_their_start(array: Bytes, extra: bytes) -> None:
    content = idx.encode(array)
    offset, _ = refusal(content + extra, array.ndim)
    assert offset == len(content)


@given(arrays, st.data())
def test_flipped_header_byte_is_an_error(array: Bytes, data: st.DataObject) -> None:
    content = bytearray(idx.encode(array))
    position = data.draw(st.integers(0, 3 + 4 * array.ndim))
    content[position] ^= data.draw(st.integers(1, 255))
    refusal(bytes(content), array.ndim)


@given(st.binary(max_size=64), st.integers(1, 4))
def test_any_bytes_are_an_array_or_an_error(content: bytes, dimensions: int) -> None:
    try:
        array = idx.decode(content, "digits-idx", dimensions)
    except DataError:
        refusal(content, dimensions)
    else:
        assert idx.encode(array) == content


@given(arrays, st.integers(1, 4))
def test_other_number_of_dimensions_is_an_error(array: Bytes, dimensions: int) -> None:
    assume(dimensions != array.ndim)
    assert refusal(idx.encode(array), dimensions)[0] == 3


@pytest.mark.parametrize(
    "shape", [(2**31, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1)]
)
def test_wrong_size_in_the_header_allocates_no_memory(shape: tuple[int, int, int]) -> None:
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(28 * 28)
    tracemalloc.start()
    refusal(content, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("shape", [(0, 28, 28), (60_000, 0, 28), (0, 2**32 - 1, 2**32 - 1)])
def test_file_without_elements_is_an_error(shape: tuple[int, int, int]) -> None:
    assert refusal(struct.pack(">HBB3I", 0, 8, 3, *shape), 3)[0] == 4


@pytest.mark.parametrize(
    ("code", "name"), [(0x09, "signed byte"), (0x0D, "float"), (0x0E, "double"), (0x77, "unknown")]
)
def test_other_element_type_is_an_error_that_names_it(code: int, name: str) -> None:
    offset, message = refusal(struct.pack(">HBBI", 0, code, 1, 8) + bytes(8), 1)
    assert offset == 2
    assert f"0x{code:02x} ({name})" in message
    assert "0x08 (unsigned byte)" in message
