"""MNIST, many times over: a source of IDX files in which every train image is another small distortion."""

import gzip
import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lenet5.core.dataset import Array, Split
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.stages.ingest.params import Checksums
from lenet5.stages.train.augment import augment, draw_amounts
from lenet5.stages.train.params import Distortion

DISTORTION = Distortion(shift=1, rotation=5, scale=0.05)
SEED = 1998
_CHUNK = 2000  # images a generator: what one process has in memory is some 300 MB


def write_source(folder: Path, train: Path, splits: dict[str, Split], times: int) -> Checksums:
    """Write the four files; the test images are MNIST's own.

    Args:
        folder: that does not exist yet.
        train: the ``.npy`` file of ``splits["train"].images``, which every process maps.
        splits: ``train`` and ``test``, uint8 (N, 28, 28) and (N,).
        times: how often the train images come.
    """
    folder.mkdir(parents=True)
    test = splits["test"]
    labels = np.tile(splits["train"].labels, times)
    digests = {}
    for item in MNIST_FILES:
        if item.key == "train_images":
            contents = _distorted(train, splits["train"].images, times)
        else:
            array = {"train_labels": labels, "test_images": test.images, "test_labels": test.labels}[item.key]
            contents = ((part, gzip.compress(part, compresslevel=1)) for part in idx.encode_chunks(array))
        digests[item.key] = _write(folder / f"{item.file}.gz", contents)
    return Checksums(**digests)


def _write(path: Path, parts: Iterable[tuple[bytes, bytes]]) -> str:
    """Write compressed parts; the SHA-256 of the plain ones. Gzip files one after another are one."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for plain, compressed in parts:
            digest.update(plain)
            file.write(compressed)
    return digest.hexdigest()


def _distorted(train: Path, images: Array, times: int) -> Iterator[tuple[bytes, bytes]]:
    shape = (times * len(images), *images.shape[1:])
    header = next(idx.encode_chunks(np.broadcast_to(np.uint8(0), shape)))
    yield header, gzip.compress(header)
    chunks = (
        (train, copy, start, start + _CHUNK)
        for copy in range(times)
        for start in range(0, len(images), _CHUNK)
    )
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(distort_chunk, chunks)


def distort_chunk(what: tuple[Path, int, int, int]) -> tuple[bytes, bytes]:
    """One chunk of one copy, plain and compressed; the same whoever makes it, and when."""
    train, copy, start, end = what
    images = np.load(train, mmap_mode="r")[start:end]
    random = np.random.default_rng([SEED, copy, start])
    amounts = draw_amounts(DISTORTION, len(images), random)
    pixels = augment(images[..., np.newaxis].astype(np.float32), amounts)
    plain = pixels.round().clip(0, 255).astype(np.uint8).tobytes()
    return plain, gzip.compress(plain, compresslevel=1)
