"""Content of any size in a file that has no name, to be read like bytes in memory."""

import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path

Buffer = bytes | mmap.mmap


def memory_mapped(chunks: Iterable[bytes], folder: Path) -> Buffer:
    """What ``chunks`` are together, for as long as somebody holds it.

    Not even a kill leaves it behind in ``folder``.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        # no system maps an empty file
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b""
