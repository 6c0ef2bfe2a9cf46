"""Keep content of any size in a file without a name and read it like bytes in memory."""

import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from lenet5.core import storage

Buffer = bytes | mmap.mmap


def memory_mapped(chunks: Iterable[bytes], folder: Path) -> Buffer:
    """Return the joined chunks. The disk space is freed with the returned object.

    Args:
        chunks: the content, in order.
        folder: where the file is created. It has no name there, so even a killed process leaves no file.

    Raises:
        StorageError: the folder has no room for it.
    """
    with tempfile.TemporaryFile(dir=folder) as file, storage.failures_named(folder):
        for chunk in chunks:
            file.write(chunk)
        return mapped(file)


def mapped(file: BinaryIO) -> Buffer:
    """Return the content of a file that was written completely. The mapping stays when the file is closed."""
    file.flush()
    size = file.seek(0, 2)
    # an empty file cannot be mapped
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
