"""Read and write IDX, the format of the published MNIST files (http://yann.lecun.com/exdb/mnist/).

offset 0        two zero bytes
offset 2        type code of the elements: 0x08 is an unsigned byte, 0x0B a big-endian 16-bit integer
offset 3        number of dimensions, d
offset 4        d sizes, each a big-endian uint32
offset 4 + 4d   the elements, the last dimension varying fastest
"""

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Array, chunks
from lenet5.core.errors import DataError
from lenet5.stages.ingest.memory_map import Buffer

UBYTE = 0x08
SHORT = 0x0B
TYPES = {
    UBYTE: "unsigned byte",
    0x09: "signed byte",
    SHORT: "short",
    0x0C: "int",
    0x0D: "float",
    0x0E: "double",
}
_DTYPES = {UBYTE: ">u1", 0x09: ">i1", SHORT: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 5


def encode(array: Array) -> bytes:
    """Return an array as IDX content; equal arrays give equal bytes, whatever their memory layout.

    Args:
        array: uint8, or uint16 below 32,768, which IDX stores as a short.
    """
    return b"".join(encode_chunks(array))


def encode_chunks(array: Array) -> Iterator[bytes]:
    """Yield the same content in chunks, for an array that exceeds the memory."""
    yield header(array.dtype, array.shape)
    for rows in chunks(len(array)):
        yield elements(array[rows])


def header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return what stands before the elements of an array of uint8 or uint16."""
    code = UBYTE if dtype == np.uint8 else SHORT
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def elements(array: Array) -> bytes:
    """Return the elements of an array of uint8 or uint16."""
    return array.tobytes() if array.dtype == np.uint8 else array.astype(_DTYPES[SHORT]).tobytes()


def decode(content: Buffer, name: str, dimensions: int) -> NDArray[np.uint8]:
    """Read uncompressed IDX content.

    The sizes in the header are compared with the length of the content first, so a wrong header allocates no
    memory.

    Args:
        content: the bytes of the file.
        name: the file, for the error.
        dimensions: the expected number of dimensions.

    Returns:
        A read-only uint8 view of ``content``.

    Raises:
        DataError: the elements are not unsigned bytes, the number of dimensions is another one, a dimension
            is empty, or bytes are missing or left over. The message names the file and the offset.
    """
    _expect(content[:2] == b"\0\0", name, 0, "two zero bytes, as every IDX file begins", content[:2])
    _expect(content[2:3] == bytes([UBYTE]), name, 2, f"type {_type(UBYTE)}", *map(_type, content[2:3]))
    _expect(content[3:4] == bytes([dimensions]), name, 3, f"{dimensions} dimension(s)", *content[3:4])
    return _view(content, name, dimensions, np.dtype(np.uint8))


def decode_any(content: Buffer, name: str) -> Array:
    """Read uncompressed IDX content of any type and number of dimensions.

    Args:
        content: the bytes of the file.
        name: the file, for the error.

    Returns:
        A read-only view of ``content`` in the byte order of the file.

    Raises:
        DataError: as :func:`decode`, for an unknown type or more than five dimensions.
    """
    _expect(content[:2] == b"\0\0", name, 0, "two zero bytes, as every IDX file begins", content[:2])
    known = ", ".join(map(_type, TYPES))
    _expect(content[2:3] != b"" and content[2] in TYPES, name, 2, f"a type of {known}", *content[2:3])
    dimensions = content[3] if len(content) > 3 else 0
    _expect(1 <= dimensions <= _MOST_DIMENSIONS, name, 3, f"1 to {_MOST_DIMENSIONS} dimensions", dimensions)
    return _view(content, name, dimensions, np.dtype(_DTYPES[content[2]]))


def _view(content: Buffer, name: str, dimensions: int, dtype: np.dtype[Any]) -> Array:
    """Return the elements behind a header whose first four bytes are right, as a read-only view."""
    start = 4 + 4 * dimensions
    _expect(len(content) >= start, name, len(content), f"a header of {start} bytes")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    _expect(min(shape) > 0, name, 4, "at least one element in every dimension", shape)
    size = math.prod(shape) * dtype.itemsize
    available = len(content) - start
    _expect(
        available == size,
        name,
        start + min(size, available),
        f"{size:,} bytes of elements for the shape in the header, {' × '.join(map(str, shape))}",
        f"{available:,} bytes",
    )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _expect(
    holds: bool, name: str, offset: int, expected: str, found: object = "the end of the file"
) -> None:
    if not holds:
        raise DataError(
            f"{name} is not a valid IDX file: it differs at byte offset {offset}.",
            expected=expected,
            found=found,
            fix="download the file again",
        )


def _type(code: int) -> str:
    return f"0x{code:02x} ({TYPES.get(code, 'unknown')})"
