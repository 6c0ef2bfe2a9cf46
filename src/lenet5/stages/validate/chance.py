"""Say what chance explains, so that few images of the same source pass the checks that many of them pass.

Both the data and the reference are samples. A reference of M images blurs a comparison with N images as much
as if the data had only N M / (N + M) images and the reference were exact; the functions here use that.
A limit is what the parameters allow plus what chance adds to it in all but a share ``rate`` of the cases.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom, chi2, gamma, poisson  # Great Expectations imports it as well

Floats = NDArray[np.float64]


def effective(images: int, reference: int) -> float:
    """Return the number of images that would tell as much about an exact reference."""
    return images * reference / (images + reference) if images and reference else 0.0


def most(share: float, images: int, reference: int, rate: float) -> int:
    """Return the largest number of images with a property that chance explains.

    Args:
        share: the share of images that may have it.
        images: the number of images.
        reference: the number of images that the share is known from.
        rate: the share of cases in which chance exceeds the result.
    """
    share = min(max(share, 0.0), 1.0)
    if not images or share in (0.0, 1.0):
        return images if share == 1.0 else 0
    size = max(1, round(effective(images, reference)))
    return min(images, math.ceil(float(binom.ppf(1 - rate, size, share)) * images / size))


def fewest(share: float, images: int, reference: int, rate: float) -> int:
    """Return the smallest number of images with a property that chance explains; see :func:`most`."""
    return images - most(1 - share, images, reference, rate)


def divergence(shares: Floats, images: int, reference: int, tolerance: float, rate: float) -> float:
    """Return the largest Kullback-Leibler divergence from a reference that chance explains.

    2 N times the divergence of N images is the statistic G of the likelihood-ratio test. Its mean and its
    variance are computed from Poisson counts, because the usual chi-squared distribution is too narrow where
    bins expect less than five images; a gamma distribution has these moments.

    Args:
        shares: (K,), of the reference; all above zero, with a sum of 1.
        images: the number of images, N.
        reference: the number of images that the shares are known from.
        tolerance: the divergence of the whole source that is allowed, in nats.
        rate: the share of cases in which chance exceeds the result.
    """
    if len(shares) < 2 or not images or not reference:
        return tolerance
    means, variances = _moments(images * shares)
    # the counts have a fixed sum, which takes one degree of freedom
    mean, variance = max(float(means.sum()) - 1, 0.1), max(float(variances.sum()) - 2, 0.2)
    size = effective(images, reference)
    offset = 2 * size * tolerance  # the non-centrality: it adds to the mean, and four times to the variance
    mean, variance = mean + offset, variance + 4 * offset
    return float(gamma.ppf(1 - rate, mean**2 / variance, scale=variance / mean)) / (2 * size)


def _moments(expected: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of a bin's part of the statistic G for these expected counts, each (K,)."""
    means, variances = np.ones_like(expected), np.full_like(expected, 2.0)
    few = expected < 50  # beyond, the limits 1 and 2 are near enough
    rates = expected[few, np.newaxis]
    counts = np.arange(151.0)  # a Poisson variable of mean 50 exceeds 150 once in 10 ** 30
    logs = np.log(np.maximum(counts, 1) / rates)
    parts = 2 * (counts * logs - counts + rates)  # (bins, counts)
    weights = poisson.pmf(counts, rates)
    means[few] = (weights * parts).sum(axis=1)
    variances[few] = (weights * parts**2).sum(axis=1) - means[few] ** 2
    return means, variances


def share_loss(agreeing: Floats, images: Floats, usual: Floats, reference: Floats, rate: float) -> Floats:
    """Return how much a share surely is below the usual one.

    Newcombe's hybrid interval of the difference of two shares (1998, method 10), with Clopper-Pearson
    intervals, so that few images prove little.

    Args:
        agreeing: (K,), the images that have the property.
        images: (K,), all images.
        usual: (K,), the share of the reference.
        reference: (K,), the images that the usual share is known from.
        rate: 1 - the confidence of the one-sided interval.

    Returns:
        (K,): a share, 0 or more; NaN where there are no images.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = agreeing / images
        high = np.where(agreeing >= images, 1.0, beta.ppf(1 - rate, agreeing + 1, images - agreeing))
        known = np.round(usual * reference)
        low = np.where(known <= 0, 0.0, beta.ppf(rate, known, reference - known + 1))
        loss = usual - share - np.hypot(usual - low, high - share)
    return np.where(images > 0, np.clip(loss, 0, None), np.nan)


def mean_square(degrees: float, rate: float) -> float:
    """Return the factor by which the squared distance of two mean images exceeds its expectation by chance.

    Args:
        degrees: the number of independent values of an image that would vary as much.
        rate: the share of cases in which chance exceeds the result.
    """
    return float(chi2.ppf(1 - rate, degrees)) / degrees
