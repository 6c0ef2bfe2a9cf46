"""Score a model on corrupted images."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.images import corruptions
from lenet5.images.corruptions.linear import Images

Scorer = Callable[[Images], NDArray[np.float32]]
"""Scores images: uint8 (N, H, W) → probabilities, float32 (N, C)."""


@dataclass(frozen=True)
class Answers:
    """The answers of a model on corrupted images."""

    columns: dict[str, NDArray[Any]]
    """Arrays with one element for each corruption, severity and image, in this order: ``corruption`` (str),
    ``severity``, ``index`` (position of the image), ``label``, ``predicted`` (int64), ``confidence``
    (float32)."""
    clean_accuracy: float
    """On the same images without corruption."""
    corrupted_images: str
    """SHA-256 of all corrupted images, in the order of the columns. Equal digests mean equal images."""


def chosen(available: int, images: int, seed: int) -> NDArray[np.intp]:
    """Return the positions of the images to corrupt, intp (N,): the first of a random order.

    Args:
        available: number of images.
        images: how many to choose; all, where there are fewer.
        seed: decides the order.
    """
    return np.random.default_rng(seed).permutation(available)[:images]


def score(
    scorer: Scorer,
    images: Images,
    labels: NDArray[np.integer[Any]],
    *,
    names: Sequence[str],
    severities: Sequence[int],
    count: int,
    seed: int,
    threads: int | None = None,
) -> Answers:
    """Corrupt the chosen images in every way, and score them.

    Blocks of images are corrupted and scored in threads. Each block has random numbers of its own, so the
    number of threads changes no byte.

    Args:
        scorer: the model; several threads call it at once.
        images: every image of the split, uint8 (N, H, W).
        labels: (N,).
        names: keys of ``CORRUPTIONS``.
        severities: from 1 to 5.
        count: number of images; :func:`chosen` chooses them.
        seed: decides which images are chosen and how they are corrupted.
        threads: by default, as many as the machine has cores.
    """
    index = chosen(len(images), count, seed)
    pixels, digits = np.asarray(images)[index], np.asarray(labels)[index].astype(np.int64)

    def answer(name: str, severity: int, start: int) -> tuple[NDArray[np.float32], bytes]:
        block = pixels[start : start + corruptions.BLOCK]
        changed = corruptions.corrupt(name, block, severity, seed, start // corruptions.BLOCK)
        return scorer(changed), hashlib.sha256(changed.data).digest()

    tasks = product(names, severities, range(0, len(index), corruptions.BLOCK))
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        answers = list(pool.map(lambda task: answer(*task), tasks))
    sets = len(names) * len(severities)
    probabilities = np.concatenate([scored for scored, _ in answers])
    columns = {
        "corruption": np.repeat(names, len(severities) * len(index)),
        "severity": np.tile(np.repeat(severities, len(index)), len(names)),
        "index": np.tile(index, sets),
        "label": np.tile(digits, sets),
        "predicted": probabilities.argmax(axis=1),
        "confidence": probabilities.max(axis=1),
    }
    clean = scorer(pixels).argmax(axis=1)
    digests = b"".join(digest for _, digest in answers)
    return Answers(columns, float((clean == digits).mean()), hashlib.sha256(digests).hexdigest())
