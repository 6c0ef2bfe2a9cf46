"""The IDX reader gives the right array or says where the file is wrong; nothing else, whatever the bytes."""

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
NAMED = re.compile(r"digits-idx .* byte offset (\d+)")


def refusal(content: bytes, dimensions: int) -> tuple[int, str]:
    """The offset that the reader complains about, and the whole of its message."""
    with pytest.raises(DataError) as caught:
        idx.decode(content, "digits-idx", dimensions)
    found = NAMED.search(str(caught.value))
    assert found, caught.value
    return int(found[1]), str(caught.value)


@given(arrays)
def test_what_is_written_is_read(array: Bytes) -> None:
    read = idx.decode(idx.encode(array), "digits-idx", array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@given(arrays)
def test_the_encoding_does_not_depend_on_the_layout_in_memory(array: Bytes) -> None:
    assert idx.encode(np.asfortranarray(array)) == idx.encode(array)


def test_in_parts_the_encoding_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(350, dtype=np.uint8).reshape(7, 5, 10)
    whole = idx.encode(array)
    monkeypatch.setattr(dataset, "CHUNK", 3)
    assert [len(part) for part in idx.encode_chunks(array)] == [16, 150, 150, 50]
    assert idx.encode(array) == whole


def test_the_encoding_is_that_of_the_published_files(files: dict[str, bytes]) -> None:
    assert files["t10k-labels-idx1-ubyte"].startswith(b"\0\0\x08\x01\0\0\0\x14\x07\x02\x01\x00\x04")
    assert files["t10k-images-idx3-ubyte"].startswith(b"\0\0\x08\x03\0\0\0\x14\0\0\0\x1c\0\0\0\x1c")


@given(arrays, st.data())
def test_a_truncated_file_is_refused_where_it_ends(array: Bytes, data: st.DataObject) -> None:
    content = idx.encode(array)
    kept = data.draw(st.integers(0, len(content) - 1))
    offset, _ = refusal(content[:kept], array.ndim)
    assert offset == kept if kept > 3 else offset <= kept


@given(arrays, st.binary(min_size=1))
def test_trailing_bytes_are_refused_where_they_begin(array: Bytes, extra: bytes) -> None:
    content = idx.encode(array)
    offset, _ = refusal(content + extra, array.ndim)
    assert offset == len(content)


@given(arrays, st.data())
def test_a_flipped_header_byte_is_refused(array: Bytes, data: st.DataObject) -> None:
    content = bytearray(idx.encode(array))
    position = data.draw(st.integers(0, 3 + 4 * array.ndim))
    content[position] ^= data.draw(st.integers(1, 255))
    refusal(bytes(content), array.ndim)


@given(st.binary(max_size=64), st.integers(1, 4))
def test_any_bytes_are_an_array_or_refused(content: bytes, dimensions: int) -> None:
    try:
        array = idx.decode(content, "digits-idx", dimensions)
    except DataError:
        refusal(content, dimensions)
    else:
        assert idx.encode(array) == content


@given(arrays, st.integers(1, 4))
def test_another_number_of_dimensions_is_refused(array: Bytes, dimensions: int) -> None:
    assume(dimensions != array.ndim)
    assert refusal(idx.encode(array), dimensions)[0] == 3


@pytest.mark.parametrize(
    "shape", [(2**31, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1)]
)
def test_a_header_that_claims_too_much_costs_no_memory(shape: tuple[int, int, int]) -> None:
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(28 * 28)
    tracemalloc.start()
    refusal(content, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("shape", [(0, 28, 28), (60_000, 0, 28), (0, 2**32 - 1, 2**32 - 1)])
def test_a_file_without_elements_is_refused(shape: tuple[int, int, int]) -> None:
    assert refusal(struct.pack(">HBB3I", 0, 8, 3, *shape), 3)[0] == 4


@pytest.mark.parametrize(
    ("code", "name"), [(0x09, "signed byte"), (0x0D, "float"), (0x0E, "double"), (0x77, "unknown")]
)
def test_another_type_of_elements_is_named(code: int, name: str) -> None:
    offset, message = refusal(struct.pack(">HBBI", 0, code, 1, 8) + bytes(8), 1)
    assert offset == 2
    assert f"0x{code:02x} ({name})" in message
    assert "0x08 (unsigned byte)" in message
