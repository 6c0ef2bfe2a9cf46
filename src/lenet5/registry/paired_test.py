"""Statistics for two classifiers on the same images: is one of them more often correct?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with a champion, image by image."""

    images: int
    gained: int
    """Images that only the candidate classifies correctly."""
    lost: int
    """Images that only the champion classifies correctly."""
    p_value: float
    """Exact two-sided McNemar test: probability of a split this uneven if both models are equally good."""
    low: float
    """Lower end of the paired bootstrap interval of :attr:`difference`."""
    high: float
    """Upper end of the interval."""
    confidence: float
    """Confidence of the interval, between 0 and 1."""

    @property
    def difference(self) -> float:
        """Return the accuracy of the candidate minus the accuracy of the champion."""
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
    """Compare two models by the images that each classifies correctly.

    Source: McNemar, 1947, in its exact form; Efron & Tibshirani, 1993, chapter 13 (percentile interval).

    Args:
        candidate: bool (N,), whether the candidate classifies image i correctly.
        champion: bool (N,), the same for the champion, in the same order.
        confidence: Confidence of the interval, between 0 and 1.
        resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap.
    """
    gained = int(np.count_nonzero(candidate & ~champion))
    lost = int(np.count_nonzero(champion & ~candidate))
    return from_counts(len(candidate), gained, lost, confidence=confidence, resamples=resamples, seed=seed)


def from_counts(
    images: int, gained: int, lost: int, *, confidence: float, resamples: int, seed: int
) -> Comparison:
    """Compare two models by the number of images on which they disagree.

    To draw N images with replacement, each of them gained, lost or neither, is to draw once from a
    multinomial distribution. This is the bootstrap over images with 1/N of the random numbers.

    Args:
        images: Number of images, N.
        gained: Images that only the candidate classifies correctly.
        lost: Images that only the champion classifies correctly.
        confidence: Confidence of the interval, between 0 and 1.
        resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap.
    """
    from scipy.stats import binomtest  # slow to import; most commands do not need it

    shares = np.array([gained, lost, images - gained - lost]) / images
    samples = np.random.default_rng(seed).multinomial(images, shares, size=resamples)  # (resamples, 3)
    tail = (1 - confidence) / 2
    low, high = np.quantile((samples[:, 0] - samples[:, 1]) / images, [tail, 1 - tail])
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Comparison(images, gained, lost, p_value, float(low), float(high), confidence)
