"""Compare a candidate and a champion image by image, on all test images and on parts of them.

:func:`compare` asks whether one of the two is more often correct on all images. The other functions ask
whether the candidate is worse, by more than a margin, on a corruption or on a slice.

For each corruption and each bin of a slice, the null hypothesis is "the accuracy of the candidate is lower
by at most the margin". The gate rejects a candidate for which one of them is refuted.

The images are the unit. An image has one difference between candidate and champion: the mean, over the
severities of a corruption, of 1 (only the candidate is correct), -1 (only the champion is correct) or 0. The
severities of one image are no independent observations, so they are not counted as such.

The p-value is exact for the most likely distribution under the null hypothesis: the probability of
differences with a mean as low as the observed one, when the true mean is minus the margin and every other
property of the distribution has its maximum-likelihood estimate (Tango, 1998, for that estimate with one
severity; Owen, 2001, section 2.2, for several; Storer & Kim, 1990, for the exact probability). A normal
approximation is not good enough: a bin of a slice can have a few hundred images, of which a dozen count, and
the correction below asks for a p-value near 0.001. There, the score test of Tango rejects up to four times as
often as it should.

Holm's correction (Holm, 1979) keeps the probability of one false rejection or more, over all comparisons,
below 1 - ``register.gate.confidence``. It needs no independence: the same images are in many slices and under
every corruption.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.errors import DataError

SMALLEST_P = 1e-12
"""Smaller probabilities drown in the rounding of the Fourier transform, so this one stands for them."""
_SMALLEST_SHOWN = 1e-9
_NAMED = 3
"""Comparisons in the reason of a rejection, and in the table of an accepted candidate."""


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


@dataclass(frozen=True)
class Group:
    """The images of one comparison: a corruption, or a bin of a slice."""

    kind: Literal["corruption", "slice"]
    name: str
    margin: float
    """The largest accepted loss of accuracy, between 0 and 1."""
    candidate: NDArray[np.int64]
    """int (N,): how many versions of each image the candidate classifies correctly."""
    champion: NDArray[np.int64]
    """int (N,), the same for the champion."""
    repeats: int = 1
    """The versions of each image: the severities of a corruption; 1 on clean images."""


def on_corruptions(candidate: pd.DataFrame, champion: pd.DataFrame, margin: float) -> list[Group]:
    """Group the answers on corrupted images by corruption.

    Args:
        candidate: One row for each corruption, severity and image, with the columns ``corruption``,
            ``severity``, ``index``, ``label``, ``predicted``.
        champion: The same rows, in any order, with the answers of the champion.
        margin: The largest accepted loss of accuracy.

    Raises:
        DataError: the two tables are not about the same images, or an image lacks a severity.
    """
    keys = ["corruption", "severity", "index", "label"]
    both = candidate[[*keys, "predicted"]].merge(
        champion[[*keys, "predicted"]], how="outer", on=keys, suffixes=("", "_champion"), indicator=True
    )
    if len(both) != len(candidate) or not (both["_merge"] == "both").all():
        raise DataError(
            "Candidate and champion were not scored on the same corrupted images.",
            expected=f"{len(candidate):,} rows with the same corruption, severity, image and label",
            found=f"{(both['_merge'] == 'both').sum():,} such rows",
            fix="`dvc repro evaluate` scores the candidate again; then register it and ask the gate",
        )
    correct = pd.DataFrame(
        {
            "corruption": both["corruption"],
            "index": both["index"],
            "candidate": both["predicted"] == both["label"],
            "champion": both["predicted_champion"] == both["label"],
        }
    )
    groups = []
    for name, rows in correct.groupby("corruption", sort=True):
        images = rows.groupby("index")[["candidate", "champion"]].agg(["sum", "size"])
        repeats = images["candidate", "size"]
        if repeats.nunique() != 1:
            raise DataError(
                f"The corruption {name} has images without all severities.",
                expected=f"{repeats.max()} rows for each image",
                found=f"{repeats.min()} rows for image {repeats.idxmin()}",
                fix="`dvc repro evaluate` scores the candidate again; then register it and ask the gate",
            )
        sums = {who: images[who, "sum"].to_numpy(np.int64) for who in ("candidate", "champion")}
        groups.append(Group("corruption", str(name), margin, **sums, repeats=int(repeats.iloc[0])))
    return groups


def on_slices(
    candidate: NDArray[np.bool_], champion: NDArray[np.bool_], slices: pd.DataFrame, margin: float
) -> list[Group]:
    """Group the answers on clean test images by the bins of each slice.

    Args:
        candidate: bool (N,), whether the candidate classifies image i correctly.
        champion: bool (N,), the same for the champion.
        slices: One row for each image: ``index``, its position, and one column with the name of a bin for
            each slice.
        margin: The largest accepted loss of accuracy.

    Raises:
        DataError: the slices are not about these images.
    """
    positions = slices["index"].to_numpy()
    if not np.array_equal(np.sort(positions), np.arange(len(candidate))):
        raise DataError(
            "The table of slices is not about the test images of the candidate.",
            expected=f"{len(candidate):,} rows, one for each image",
            found=f"{len(positions):,} rows",
            fix="`dvc repro evaluate` makes it again; then register the candidate and ask the gate",
        )
    return [
        Group(
            "slice",
            f"{column} {name}",
            margin,
            candidate[rows["index"].to_numpy()].astype(np.int64),
            champion[rows["index"].to_numpy()].astype(np.int64),
        )
        for column in slices.columns.drop("index")
        for name, rows in slices.groupby(column, sort=True)
    ]


def table(groups: Iterable[Group], confidence: float) -> pd.DataFrame:
    """Test every group, and correct the p-values for their number.

    Args:
        groups: The comparisons.
        confidence: Probability that an equal candidate is found inferior nowhere, between 0 and 1.

    Returns:
        One row for each group, in the order given: ``kind``, ``name``, ``images``, ``champion`` and
        ``candidate`` (accuracies), ``difference``, ``margin``, ``p_value``, ``adjusted`` (Holm's), and
        ``worse``: whether the candidate is shown to be worse by more than the margin.
    """
    rows = [
        {
            "kind": group.kind,
            "name": group.name,
            "images": len(group.candidate),
            "champion": group.champion.mean() / group.repeats,
            "candidate": group.candidate.mean() / group.repeats,
            "difference": (group.candidate - group.champion).mean() / group.repeats,
            "margin": group.margin,
            "p_value": p_value(group.candidate - group.champion, group.repeats, group.margin),
        }
        for group in groups
    ]
    columns = ["kind", "name", "images", "champion", "candidate", "difference", "margin", "p_value"]
    frame = pd.DataFrame(rows, columns=columns)
    adjusted = holm(frame["p_value"].to_numpy(float))
    return frame.assign(adjusted=adjusted, worse=adjusted < 1 - confidence)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-values, adjusted by Holm's step-down method: float64 (N,), in the same order.

    The smallest one is multiplied by N, the next by N - 1, and so on; none becomes smaller than the one
    before it, or larger than 1.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def p_value(differences: NDArray[np.int64], repeats: int, margin: float) -> float:
    """Return the probability of a mean difference as low as the observed one if the true one is ``-margin``.

    Args:
        differences: int (N,): for each image, how many versions more the candidate classifies correctly than
            the champion, from ``-repeats`` to ``repeats``.
        repeats: Versions of each image.
        margin: The largest accepted loss of accuracy.

    Returns:
        A probability, at least ``SMALLEST_P``; 1 when the loss is not above the margin.
    """
    images = len(differences)
    if differences.sum() >= -margin * images * repeats:
        return 1.0
    counts = np.bincount(differences + repeats, minlength=2 * repeats + 1)
    shares = _most_likely_shares(counts, margin)
    # the distribution of the sum over all images: the Fourier transform of the distribution of one, to the
    # power of the number of images
    length = 2 * repeats * images + 1
    sums = np.fft.irfft(np.fft.rfft(shares, length) ** images, length)
    lowest = int(differences.sum()) + repeats * images
    return float(np.clip(sums[: lowest + 1].sum(), SMALLEST_P, 1))


def _most_likely_shares(counts: NDArray[np.int64], margin: float) -> NDArray[np.float64]:
    """Estimate a distribution of differences whose mean is ``-margin``, by maximum likelihood.

    With y = difference + margin, the shares are counts / (N (1 + t y)), for the t that makes the mean of y
    zero. If no image has the highest difference, 1, then the share of that difference can be above 0 as well:
    t is then at the end of its range, -1 / (1 + margin).

    Args:
        counts: int (2 R + 1,), the images with each difference from -1 to 1 in steps of 1 / R. Their mean
            difference is below ``-margin``.
        margin: The largest accepted loss of accuracy.

    Returns:
        float64 (2 R + 1,), with the sum 1.
    """
    from scipy.optimize import brentq  # slow to import; most commands do not need it

    shifted = np.linspace(-1, 1, len(counts)) + margin
    some = counts > 0

    def mean(t: float) -> float:
        return float((counts[some] * shifted[some] / (1 + t * shifted[some])).sum())

    lowest = -1 / (1 + margin)
    if some[-1]:
        lowest *= 1 - 1e-9  # at the end itself, the term of the highest difference is infinite
    shares = np.zeros(len(counts))
    t = lowest if not some[-1] and mean(lowest) < 0 else brentq(mean, lowest, 0)
    shares[some] = counts[some] / (counts.sum() * (1 + t * shifted[some]))
    shares[-1] += max(0.0, 1 - shares.sum())
    return shares


def worse(frame: pd.DataFrame) -> str:
    """Say on which corruptions and slices a candidate is inferior, with the numbers; empty for none.

    Args:
        frame: The result of :func:`table`.
    """
    rows = frame[frame["worse"]].sort_values("difference", kind="stable")
    named = [
        f"{row['kind']} {row['name']}: accuracy {row['candidate']:.4f} against {row['champion']:.4f}, "
        f"difference {row['difference']:+.4f}, margin {row['margin']:g}, "
        f"corrected p {format_p(row['adjusted'])}"
        for row in rows.head(_NAMED).to_dict("records")
    ]
    if len(rows) > _NAMED:
        named.append(f"and {len(rows) - _NAMED} more")
    return f"it is worse than the champion by more than the margin on {'; '.join(named)}" if named else ""


def describe(frame: pd.DataFrame) -> str:
    """Print every corruption and slice on which the candidate is inferior, and the worst of the others.

    Args:
        frame: The result of :func:`table`.
    """
    rows = frame.sort_values(["worse", "difference"], ascending=[False, True], kind="stable")
    rows = rows.head(max(_NAMED, int(rows["worse"].sum())))
    names = [f"{row['kind']} {row['name']}" for row in rows.to_dict("records")]
    width = max(map(len, names), default=0)
    width = max(width, len(title := f"worst {len(rows)} of {len(frame)} corruptions and slices"))
    lines = [
        f"{title:{width}}{'images':>8}{'champion':>10}{'candidate':>11}{'difference':>12}{'margin':>8}"
        f"{'corrected p':>13}"
    ]
    for name, row in zip(names, rows.to_dict("records"), strict=True):
        lines.append(
            f"{name:{width}}{row['images']:>8,}{row['champion']:>10.4f}{row['candidate']:>11.4f}"
            f"{row['difference']:>+12.4f}{row['margin']:>8g}{format_p(row['adjusted']):>13}"
            f" {'✗' if row['worse'] else '✓'}"
        )
    return "\n".join(lines)


def format_p(value: float) -> str:
    """Return a p-value with three digits; very small ones as a bound."""
    return f"{value:.3g}" if value >= _SMALLEST_SHOWN else f"<{_SMALLEST_SHOWN:g}"
