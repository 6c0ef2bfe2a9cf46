"""Score a model on corrupted images."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lenet5.images import corruptions
from lenet5.images.corruptions.linear import Images

Scorer = Callable[[Images], NDArray[np.float32]]
"""Scores images: uint8 (N, H, W) or (N, H, W, 3) → probabilities, float32 (N, C)."""


class Choice(Protocol):
    """Which images are corrupted, and how.

    The section ``evaluate.robustness`` of the parameters is one; this package may not import it.
    """

    @property
    def corruptions(self) -> Sequence[str]:
        """Keys of ``CORRUPTIONS``."""

    @property
    def severities(self) -> Sequence[int]:
        """From 1 to 5."""

    @property
    def images(self) -> int:
        """Number of images; :func:`chosen` chooses them."""

    @property
    def seed(self) -> int:
        """Decides which images are chosen and how they are corrupted."""


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

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Return which answers are correct: bool (corruptions, severities, images)."""
        kinds = (len(np.unique(self.columns[name])) for name in ("corruption", "severity"))
        return np.equal(self.columns["predicted"], self.columns["label"]).reshape(*kinds, -1)


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
    choice: Choice,
    threads: int | None = None,
) -> Answers:
    """Corrupt the chosen images in every way, and score them.

    Blocks of images are corrupted and scored in threads. Each block has random numbers of its own, so the
    number of threads changes no byte.

    Args:
        scorer: the model; several threads call it at once.
        images: every image of the split, uint8 (N, H, W), or (N, H, W, 3) for RGB.
        labels: (N,).
        choice: which images are corrupted, and how.
        threads: by default, as many as the machine has cores.
    """
    names, severities = choice.corruptions, choice.severities
    index = chosen(len(images), choice.images, choice.seed)
    pixels, codes = np.asarray(images)[index], np.asarray(labels)[index].astype(np.int64)

    def answer(name: str, severity: int, start: int) -> tuple[NDArray[np.float32], bytes]:
        block = pixels[start : start + corruptions.BLOCK]
        changed = corruptions.corrupt(name, block, severity, choice.seed, start // corruptions.BLOCK)
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
        "label": np.tile(codes, sets),
        "predicted": probabilities.argmax(axis=1),
        "confidence": probabilities.max(axis=1),
    }
    clean = scorer(pixels).argmax(axis=1)
    digests = b"".join(digest for _, digest in answers)
    return Answers(columns, float((clean == codes).mean()), hashlib.sha256(digests).hexdigest())
