"""Uncompressing, no further than a limit: a small file can unpack to more than the disk holds."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from lenet5.core.errors import DataError

_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def gunzip(file: BinaryIO, name: str, limit: int) -> Iterator[bytes]:
    """What a file holds once uncompressed, in chunks; at most ``limit`` bytes.

    The first bytes decide, not the name: some servers uncompress a ``.gz`` on its way to us.

    Raises:
        DataError: the gzip stream breaks off or is damaged, or there is more than ``limit``.
    """
    zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if zipped else file
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
            expected="a whole gzip stream",
            found=f"{error} (after {size:,} uncompressed bytes)",
            fix="get a fresh copy",
        ) from error


def too_large(name: str, limit: int) -> DataError:
    return DataError(
        f"{name} is larger than a file of digits should be; the rest of it was not read.",
        expected=f"at most {limit:,} bytes (ingest.max_megabytes)",
        found="more",
        fix="check ingest.source in params.yaml; if the file is right, raise ingest.max_megabytes",
    )
