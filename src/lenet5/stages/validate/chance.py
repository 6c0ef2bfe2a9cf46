"""Say what chance explains, so that few images of the same source pass the checks that many of them pass.

Both the data and the reference are samples. A reference of M images blurs a comparison with N images as much
as if the data had only N M / (N + M) images and the reference were exact; the functions here use that.
The limits leave a share ``rate`` of the cases to chance, whatever the number of images is.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom, chi2, gamma, poisson  # Great Expectations imports it as well

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def effective(images: int, reference: int) -> float:
    """Return the number of images that would tell as much about an exact reference."""
    return images * reference / (images + reference) if images and reference else 0.0


def most(shares: ArrayLike, images: ArrayLike, reference: int, rate: float) -> Counts:
    """Return the largest numbers of images with a property that chance explains.

    Args:
        shares: the shares of images that may have it.
        images: the numbers of images.
        reference: the number of images that the shares are known from.
        rate: the share of cases in which chance exceeds the result.
    """
    shares, images = np.clip(shares, 0.0, 1.0), np.asarray(images, np.float64)
    sizes = np.maximum(np.rint(images * reference / np.maximum(images + reference, 1)), 1)
    counts = np.ceil(binom.ppf(1 - rate, sizes, shares) * images / sizes)
    return np.clip(counts, 0, images).astype(np.int64)


def fewest(shares: ArrayLike, images: ArrayLike, reference: int, rate: float) -> Counts:
    """Return the smallest numbers of images with a property that chance explains; see :func:`most`."""
    shares, images = np.asarray(shares, np.float64), np.asarray(images, np.int64)
    return images - most(1 - shares, images, reference, rate)


def divergence(shares: Floats, images: int, reference: int, rate: float) -> float:
    """Return the largest Kullback-Leibler divergence from a reference that chance explains, in nats.

    2 N times the divergence of N images is the statistic G of the likelihood-ratio test. Its mean and its
    variance are computed from Poisson counts, because the usual chi-squared distribution is too narrow where
    bins expect less than five images; a gamma distribution has these moments.

    Args:
        shares: (K,), of the reference; all above zero, with a sum of 1.
        images: the number of images, N.
        reference: the number of images that the shares are known from.
        rate: the share of cases in which chance exceeds the result.
    """
    size = effective(images, reference)
    if len(shares) < 2 or not size:
        return 0.0
    means, variances = _moments(images * shares)
    # the counts have a fixed sum, which takes one degree of freedom
    mean, variance = max(float(means.sum()) - 1, 0.1), max(float(variances.sum()) - 2, 0.2)
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
