"""The IDX format, in which Yann LeCun published MNIST (http://yann.lecun.com/exdb/mnist/).

offset 0        two zero bytes
offset 2        type code of the elements: 0x08 is an unsigned byte
offset 3        number of dimensions, d
offset 4        d sizes, each a big-endian uint32
offset 4 + 4d   the elements, the last dimension varying fastest
"""

import math
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import chunks
from lenet5.core.errors import DataError
from lenet5.stages.ingest.memory_map import Buffer

UBYTE = 0x08
TYPES = {
    UBYTE: "unsigned byte",
    0x09: "signed byte",
    0x0B: "short",
    0x0C: "int",
    0x0D: "float",
    0x0E: "double",
}


def encode(array: NDArray[np.uint8]) -> bytes:
    """The one IDX spelling of an array: equal arrays give equal bytes, however they lie in memory."""
    return b"".join(encoded(array))


def encoded(array: NDArray[np.uint8]) -> Iterator[bytes]:
    """The same in chunks, for an array that is larger than the memory."""
    yield struct.pack(f">HBB{array.ndim}I", 0, UBYTE, array.ndim, *array.shape)
    for rows in chunks(len(array)):
        yield array[rows].tobytes()


def decode(content: Buffer, name: str, dimensions: int) -> NDArray[np.uint8]:
    """Read uncompressed IDX content; the array is a read-only view of it, uint8.

    Sizes are compared with the bytes that are there before anything is made of them, so a header
    that lies costs no memory.

    Raises:
        DataError: it is anything but unsigned bytes in ``dimensions`` dimensions, whole and without
            a byte to spare, or a dimension is empty; the message names the file and the offset.
    """
    start = 4 + 4 * dimensions
    _expect(content[:2] == b"\0\0", name, 0, "two zero bytes, as every IDX file begins", content[:2])
    _expect(content[2:3] == bytes([UBYTE]), name, 2, f"type {_type(UBYTE)}", *map(_type, content[2:3]))
    _expect(content[3:4] == bytes([dimensions]), name, 3, f"{dimensions} dimension(s)", *content[3:4])
    _expect(len(content) >= start, name, len(content), f"a header of {start} bytes")

    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    _expect(min(shape) > 0, name, 4, "at least one element in every dimension", shape)

    size = math.prod(shape)
    there = len(content) - start
    _expect(
        there == size,
        name,
        start + min(size, there),
        f"{size:,} bytes of elements, as the header says: {' × '.join(map(str, shape))}",
        f"{there:,} bytes",
    )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _expect(
    holds: bool, name: str, offset: int, expected: str, found: object = "the end of the file"
) -> None:
    if not holds:
        raise DataError(
            f"{name} is not the IDX file it should be, at byte offset {offset}.",
            expected=expected,
            found=found,
            fix="get a fresh copy",
        )


def _type(code: int) -> str:
    return f"0x{code:02x} ({TYPES.get(code, 'unknown')})"
