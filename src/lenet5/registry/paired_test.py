"""Two classifiers on the same images: how sure is it that one is right more often than the other?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """A candidate beside a champion, image by image."""

    images: int
    gained: int
    """Images that the candidate reads right and the champion wrong."""
    lost: int
    """The other way round."""
    p_value: float
    """Exact McNemar test, two-sided: how likely so uneven a split is, were both equally good."""
    low: float
    """Of the paired bootstrap interval of :attr:`difference`."""
    high: float
    confidence: float

    @property
    def difference(self) -> float:
        """Accuracy of the candidate less that of the champion."""
        return (self.gained - self.lost) / self.images

    def __str__(self) -> str:
        interval = f"{self.confidence:.0%} interval {self.low:+.4f} to {self.high:+.4f}"
        return (
            f"{self.gained} images gained, {self.lost} lost of {self.images:,}: "
            f"accuracy {self.difference:+.4f} ({interval}), McNemar p = {self.p_value:.3g}"
        )


def compare(
    candidate: NDArray[np.bool_],
    champion: NDArray[np.bool_],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compare which images two models read right.

    Args:
        candidate: bool (N,), whether it reads image i right.
        champion: bool (N,), the same images in the same order.
        confidence: of the interval, between 0 and 1.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Source: McNemar, 1947, in its exact form; Efron & Tibshirani, 1993, chapter 13 (percentile interval).
    """
    gained = int(np.count_nonzero(candidate & ~champion))
    lost = int(np.count_nonzero(champion & ~candidate))
    return from_counts(len(candidate), gained, lost, confidence=confidence, resamples=resamples, seed=seed)


def from_counts(
    images: int, gained: int, lost: int, *, confidence: float, resamples: int, seed: int
) -> Comparison:
    """The same from the two counts that decide it.

    Drawing N images with replacement, each gained, lost or neither, is drawing from a multinomial
    distribution: this is the bootstrap over images, without N times as many random numbers.
    """
    from scipy.stats import binomtest  # slow to import, and few need it

    shares = np.array([gained, lost, images - gained - lost]) / images
    drawn = np.random.default_rng(seed).multinomial(images, shares, size=resamples)  # (resamples, 3)
    tail = (1 - confidence) / 2
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / images, [tail, 1 - tail])
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Comparison(images, gained, lost, p_value, float(low), float(high), confidence)
