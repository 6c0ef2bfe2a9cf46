"""Read Keras' ``mnist.npz``, a zip archive of four ``.npy`` members, without NumPy's object loader.

``numpy.load`` allocates the size that a member's header states before it reads the elements. This module
compares that size with the directory of the archive first. It accepts unsigned bytes only, so it never opens
a pickle.
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from lenet5.core.errors import DataError
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.memory_map import Buffer, memory_mapped
from lenet5.stages.ingest.mnist_files import MNIST_FILES, MnistFile
from lenet5.stages.ingest.unzip import too_large

_CHUNK = 1 << 20
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
)


def read(file: BinaryIO, name: str, limit: int, folder: Path) -> dict[str, Buffer]:
    """Return each array of the archive as IDX content.

    Args:
        file: the archive.
        name: its name, for errors.
        limit: the largest size of a member, in bytes.
        folder: where temporary files without a name are created.

    Returns:
        The content by the keys of ``MNIST_FILES``.

    Raises:
        DataError: the file is not such an archive, a member is missing, damaged or larger than ``limit``, or
            a member is not uint8 with the number of dimensions in ``MNIST_FILES``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return {item.key: _read_member(archive, item, name, limit, folder) for item in MNIST_FILES}
    except _DAMAGE as error:
        raise DataError(
            f"{name} cannot be read.",
            expected=f"a zip archive with {', '.join(f'{item.member}.npy' for item in MNIST_FILES)}",
            found=error,
            fix="download the file again",
        ) from error


def _read_member(archive: zipfile.ZipFile, item: MnistFile, name: str, limit: int, folder: Path) -> Buffer:
    where = f"{name}:{item.member}"
    entry = archive.getinfo(f"{item.member}.npy")
    if entry.file_size > limit:
        raise too_large(where, limit)
    with archive.open(entry) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{where} has .npy version {version}")
        shape, fortran_order, dtype = _HEADERS[version](member)
        if dtype != np.uint8 or len(shape) != item.dimensions:
            raise DataError(
                f"{where} has the wrong type or shape.",
                expected=f"uint8 in {item.dimensions} dimension(s)",
                found=f"{dtype} of shape {shape}",
                fix="download the file again",
            )
        elements = memory_mapped(iter(lambda: member.read(_CHUNK), b""), folder)
    if len(elements) != math.prod(shape):
        raise ValueError(f"{where} has {len(elements):,} bytes of elements for shape {shape}")
    array = np.frombuffer(elements, np.uint8).reshape(shape, order="F" if fortran_order else "C")
    return memory_mapped(idx.encode_chunks(array), folder)
