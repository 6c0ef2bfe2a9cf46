"""Uncompressing stops at a limit, and a damaged stream is a ``DataError``."""

import gzip
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet5.core.errors import DataError
from lenet5.stages.ingest.unzip import gunzip

CONTENT = bytes(range(256)) * 20
LIMIT = 10_000


def unzipped(content: bytes, limit: int = LIMIT) -> bytes:
    return b"".join(gunzip(io.BytesIO(content), "digits.gz", limit))


@given(st.binary(max_size=LIMIT).filter(lambda some: some[:2] != b"\x1f\x8b"))
def test_returns_compressed_and_plain_content(content: bytes) -> None:
    assert unzipped(content) == content
    assert unzipped(gzip.compress(content)) == content


def test_several_gzip_members_are_joined() -> None:
    assert unzipped(gzip.compress(b"LeNet") + gzip.compress(b"-5")) == b"LeNet-5"


@given(st.integers(2, len(gzip.compress(CONTENT)) - 1))
def test_truncated_stream_is_an_error(kept: int) -> None:
    with pytest.raises(DataError, match=r"digits\.gz is damaged or was cut off"):
        unzipped(gzip.compress(CONTENT)[:kept])


@given(st.data())
def test_flipped_byte_is_an_error_or_harmless(data: st.DataObject) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    position = data.draw(st.integers(2, len(packed) - 1))
    packed[position] ^= data.draw(st.integers(1, 255))
    try:
        content = unzipped(bytes(packed))
    except DataError:
        return
    assert content == CONTENT  # the change was in a date or another unused field


def test_content_of_exactly_the_limit_is_accepted() -> None:
    assert len(unzipped(gzip.compress(bytes(LIMIT)))) == LIMIT
    with pytest.raises(DataError, match=r"max_megabytes"):
        unzipped(gzip.compress(bytes(LIMIT + 1)))
    with pytest.raises(DataError, match=r"max_megabytes"):
        unzipped(bytes(LIMIT + 1))


def test_decompression_bomb_is_not_uncompressed() -> None:
    bomb = gzip.compress(bytes(100_000_000), compresslevel=1)
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    with pytest.raises(DataError, match="larger than"):
        unzipped(bomb, limit=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
