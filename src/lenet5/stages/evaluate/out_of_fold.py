"""Score train images with classifiers that were not fitted to their labels.

A network that was trained on a wrong label can have learned it. To train several networks, each without a
part of the images, takes too long. So only the last layer is replaced: on the outputs of the layer before it,
linear discriminant analysis (Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, section
4.3) is fitted ``FOLDS`` times, each time without one part of the images, and scores that part. It has a
closed form and needs only sums over the images, so memory does not grow with their number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
_RIDGE = 1e-3
"""Added to the variances, as a share of their mean: a unit that is always 0 has no variance."""
_SAMPLE = 20_000
"""Largest number of images to which the temperature is fitted."""

Floats = NDArray[np.float64]


def probabilities(
    features: Callable[[slice], NDArray[np.floating]],
    codes: NDArray[np.integer],
    classes: int,
    parts: Sequence[slice],
) -> Iterator[tuple[slice, Floats]]:
    """Yield the probabilities of the classes for each part of the images, (n, C).

    An image that is alone in its class gets the probability 1 for it: no other image says what it should
    look like.

    Args:
        features: returns what the network makes of a part of the images, (n, F). It is called twice for each.
        codes: (N,), the class of each label, 0 to C - 1.
        classes: C.
        parts: slices of all N images, in order.
    """
    fold = folds(codes)
    sums: list[_Sums] = []
    for part in parts:
        values = features(part).astype(np.float64)
        of_folds = [
            _Sums.of(values[rows], codes[part][rows], classes)
            for rows in (fold[part] == number for number in range(FOLDS))
        ]
        sums = [each.plus(more) for each, more in zip(sums, of_folds, strict=True)] if sums else of_folds
    models = [
        _Linear.fitted(reduce(_Sums.plus, sums[:left_out] + sums[left_out + 1 :]))
        for left_out in range(FOLDS)
    ]
    alone = np.bincount(codes, minlength=classes) == 1
    temperature = 0.0
    for part in parts:
        values = features(part).astype(np.float64)
        logits = np.empty((len(values), classes))
        for number, model in enumerate(models):
            rows = fold[part] == number
            logits[rows] = values[rows] @ model.weights + model.biases
        temperature = temperature or _temperature(logits[:_SAMPLE], codes[part][:_SAMPLE])
        shares = _softmax(logits / temperature)
        single = alone[codes[part]]
        shares[single] = np.eye(classes)[codes[part][single]]
        yield part, shares


def folds(codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the fold of each image, 0 to ``FOLDS`` - 1: the images of each class take turns."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    turns = np.empty(len(codes), np.int64)
    turns[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    return turns % FOLDS


class _Sums(NamedTuple):
    """Sums over some images, from which a discriminant is fitted."""

    counts: Floats
    """(C,)."""
    values: Floats
    """(C, F)."""
    products: Floats
    """(F, F)."""

    @classmethod
    def of(cls, values: Floats, codes: NDArray[np.integer], classes: int) -> "_Sums":
        """Return the sums over features (n, F), and the classes of their labels (n,)."""
        of_class = np.zeros((classes, values.shape[1]))
        for code in np.unique(codes):
            of_class[code] = values[codes == code].sum(axis=0)
        return cls(np.bincount(codes, minlength=classes).astype(np.float64), of_class, values.T @ values)

    def plus(self, other: "_Sums") -> "_Sums":
        """Return the sums over the images of both."""
        return _Sums(*(mine + others for mine, others in zip(self, other, strict=True)))


@dataclass(frozen=True)
class _Linear:
    """A linear classifier."""

    weights: Floats
    """(F, C)."""
    biases: Floats
    """(C,); -inf for a class without images."""

    @classmethod
    def fitted(cls, sums: _Sums) -> "_Linear":
        counts, totals, products = sums
        means = totals / np.maximum(counts, 1)[:, np.newaxis]
        covariance = (products - totals.T @ means) / counts.sum()
        ridge: float = max(_RIDGE * float(np.trace(covariance)) / len(covariance), 1e-30)
        weights = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), means.T)
        with np.errstate(divide="ignore"):  # the logarithm of 0
            biases = np.log(counts / counts.sum()) - (means * weights.T).sum(axis=1) / 2
        return cls(weights, biases)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _temperature(logits: Floats, codes: NDArray[np.integer]) -> float:
    """Return the divisor of logits (n, C) with which the labels (n,) are most likely, to two digits.

    The outputs of a network are no normal distributions, so the logits are far too extreme.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    own = np.take_along_axis(logits, codes[:, np.newaxis].astype(np.int64), axis=1)[:, 0]
    known = np.isfinite(own)
    distances = logits[known] - own[known, np.newaxis]

    def loss(logarithm: float) -> float:
        scaled = distances / np.exp(logarithm)
        largest = scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled - largest).sum(axis=1)) + largest[:, 0]).sum())

    found = minimize_scalar(loss, bounds=(0, np.log(1000)), method="bounded", options={"xatol": 1e-3})
    return float(f"{np.exp(found.x):.2g}")
