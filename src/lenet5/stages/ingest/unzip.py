"""Uncompress a file up to a size limit, because a small file can expand to more than the disk holds."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from lenet5.core.errors import DataError

_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def gunzip(file: BinaryIO, name: str, limit: int) -> Iterator[bytes]:
    """Yield the uncompressed content of a file in chunks. A file that is not compressed is yielded as it is.

    The first bytes decide and not the name, because some servers uncompress a ``.gz`` file before they send
    it.

    Args:
        file: the file, positioned at its start.
        name: its name, for errors.
        limit: the largest uncompressed size, in bytes.

    Raises:
        DataError: the gzip stream is damaged or truncated, or the content exceeds ``limit``.
    """
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if is_gzip else file
    size = 0
    try:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise too_large(name, limit)
            yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{name} is damaged or was cut off.",
            expected="a complete gzip stream",
            found=f"{error} (after {size:,} uncompressed bytes)",
            fix="download the file again",
        ) from error


def too_large(name: str, limit: int) -> DataError:
    """Return the error for a file that exceeds ``limit`` bytes."""
    return DataError(
        f"{name} is larger than the limit; the rest was not read.",
        expected=f"at most {limit:,} bytes (ingest.max_megabytes)",
        found="more",
        fix="check ingest.source in params.yaml; if the file is right, raise ingest.max_megabytes",
    )
