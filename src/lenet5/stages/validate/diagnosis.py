"""Name what was done to images or labels that the reference classifier does not recognise."""

from collections.abc import Callable, Iterator
from itertools import chain, permutations, product

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Array
from lenet5.stages.validate.classifier import Classifier, Statistics, class_means

AS_REFERENCE = "as the reference"

SAMPLE = 1_000
"""Images that are tried; evenly spaced, so that the result is the same each time."""
_MAJORITY = 0.6
"""Share of the images that a name must explain."""
_RESTORED = 0.85
"""Agreement after an operation is undone, as a share of the usual agreement."""
_CLOSER = 0.6
"""Distance from the reference after an operation is undone, as a share of the distance before."""
_FEW = 0.02
"""Share of images that may be unlike the reference where only labels were changed."""
_REACH = 4
"""Largest shift that is tried, in pixels."""
_ROUGH = 0.7
"""Mean difference of neighbouring pixels, as a share of that of any two pixels: 0.2 in MNIST, 1 without any
order."""

_COLOURS = ("red", "green", "blue")
_RULES = 10
"""Largest number of renamed labels in one text."""

Operation = Callable[[Array], Array]
_INVERSION: tuple[str, Operation] = ("inverted (dark on bright)", lambda images: 255 - images)


def name(  # noqa: PLR0911 (a return for each kind of damage)
    images: Array,
    positions: NDArray[np.int64],
    codes: NDArray[np.int64],
    agrees: NDArray[np.bool_],
    classifier: Classifier,
    statistics: Statistics,
) -> str:
    """Name the difference between images and the reference. Call it when a check has found one.

    Args:
        images: (M, H, W) or (M, H, W, 3); a memory map of any size.
        positions: (N,), the images that have a known label; one or more.
        codes: (N,), the class of each of their labels, counted from 0.
        agrees: (N,), whether the reference classifier finds the label most likely.
        classifier: of the reference.
        statistics: what is usual in the reference.
    """
    wrong = np.flatnonzero(~agrees)
    sample = _spaced(wrong)
    pixels, code = images[positions[sample]], codes[sample]
    log_densities, rest = classifier.scores(pixels)
    likely = log_densities.argmax(axis=1)
    are_unlike = statistics.is_unlike(log_densities, rest)
    renamed = _of_labels(code, likely, classifier) if len(wrong) else ""
    if renamed and are_unlike.mean() <= _FEW:  # the images are as in the reference
        return renamed
    sample = _spaced(np.arange(len(positions)))
    if operation := _of_all(images[positions[sample]], codes[sample], classifier, statistics):
        return f"all images are {operation}"
    if renamed or not len(wrong):
        return renamed or "the images differ from the reference"
    share = len(wrong) / len(positions)
    operation, explained = _of_some(pixels, code, classifier)
    if operation:
        return f"{share * explained:.0%} of the images are {operation}"
    unlike = are_unlike.mean()
    surplus = share - (1 - statistics.mean_agreement)
    if share * unlike > surplus / 2:
        what = (
            "pixels without any order (permuted, or noise)"
            if _roughness(pixels) > _ROUGH
            else "other content"
        )
        return f"{share * unlike:.0%} of the images have {what}"
    if agrees.mean() < 1.5 / len(classifier.labels) and np.bincount(likely).max() < len(likely) / 2:
        return "the labels are unrelated to the images (shuffled)"
    return f"{surplus:.0%} more images than usual do not fit their labels"


def _of_all(images: Array, codes: NDArray[np.int64], classifier: Classifier, statistics: Statistics) -> str:
    """Return the operation without which the images are nearest to the reference; empty if there is none."""
    means, counts = class_means(images, codes, len(classifier.labels))

    def distance(undo: Operation) -> float:
        # the operations map the mean of images to the mean of the mapped images
        return float(np.nanmean(classifier.mean_distances(undo(means), counts)))

    limit = _CLOSER * distance(lambda images: images)
    operations = chain(_symmetries(), _channels(images), _shifts(), _brightness(images, classifier))
    for after, operation, undo in sorted((distance(undo), operation, undo) for operation, undo in operations):
        if after > limit:
            break
        if _agreement(undo(images), codes, classifier) > _RESTORED * statistics.mean_agreement:
            return operation
    return ""


def _of_some(images: Array, codes: NDArray[np.int64], classifier: Classifier) -> tuple[str, float]:
    """Return the operation without which most labels agree, empty if there is none, and the share that
    agree."""
    best, agreement = "", _MAJORITY
    for operation, undo in chain(_symmetries(), _channels(images), _shifts(), [_INVERSION]):
        after = _agreement(undo(images), codes, classifier)
        if after > agreement:
            best, agreement = operation, after
    return best, agreement


def _of_labels(codes: NDArray[np.int64], likely: NDArray[np.int64], classifier: Classifier) -> str:
    """Describe how labels that disagree were renamed; empty if there is no rule.

    Args:
        codes: (N,), the class of each label.
        likely: (N,), the most likely class of each image.
        classifier: for the names of the classes.
    """
    names = classifier.names
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (codes, likely), 1)
    label, image = np.unravel_index(counts.argmax(), counts.shape)
    back = counts[image, label]
    if counts[label, image] + back > _MAJORITY * len(codes) and back > counts[label, image] / 4:
        low, high = names[min(label, image)], names[max(label, image)]
        return f"labels {low} and {high} are exchanged"
    if counts[label, image] > _MAJORITY * len(codes):
        return f"images of {names[image]} have the label {names[label]}"
    many = np.flatnonzero(counts.sum(axis=1) > len(codes) / len(names) / 4)
    targets = counts.argmax(axis=1)
    if (
        counts[many, targets[many]].sum() > _MAJORITY * len(codes)
        and len(set(targets[many])) == len(many) > 1
    ):
        many = many[targets[many].argsort()]
        rules = ", ".join(f"{names[targets[code]]} has the label {names[code]}" for code in many[:_RULES])
        return f"labels are renamed: {rules}{', …' if len(many) > _RULES else ''}"
    return ""


def _symmetries() -> Iterator[tuple[str, Operation]]:
    """Yield what may have been done to images, with the operation (N, H, W) → (N, H, W) that undoes it."""
    yield "transposed (rows became columns)", lambda images: images.swapaxes(1, 2)
    yield "mirrored left to right", lambda images: images[:, :, ::-1]
    yield "mirrored top to bottom", lambda images: images[:, ::-1]
    yield "rotated by 180°", lambda images: images[:, ::-1, ::-1]
    yield "rotated by 90° to the left", lambda images: np.rot90(images, -1, (1, 2))
    yield "rotated by 90° to the right", lambda images: np.rot90(images, 1, (1, 2))
    yield "transposed along the other diagonal", lambda images: images[:, ::-1, ::-1].swapaxes(1, 2)


def _channels(images: Array) -> Iterator[tuple[str, Operation]]:
    """Yield the orders in which the channels of RGB images may have been stored."""
    for order in permutations(range(3)) if images.ndim == 4 else ():
        if order != (0, 1, 2):
            stored = ", ".join(_COLOURS[channel] for channel in order)
            yield f"stored with their channels as {stored}", _reordered(np.argsort(order))


def _reordered(channels: NDArray[np.int64]) -> Operation:
    return lambda images: images[..., channels]


def _shifts() -> Iterator[tuple[str, Operation]]:
    for down, right in product(range(-_REACH, _REACH + 1), repeat=2):
        if down or right:
            words = [f"{abs(down)} {'down' if down > 0 else 'up'}"] if down else []
            words += [f"{abs(right)} to the {'right' if right > 0 else 'left'}"] if right else []
            yield f"shifted by pixels: {', '.join(words)}", _roll(-down, -right)


def _roll(down: int, right: int) -> Operation:
    return lambda images: np.roll(images, (down, right), (1, 2))


def _brightness(images: Array, classifier: Classifier) -> Iterator[tuple[str, Operation]]:
    yield _INVERSION
    mean = float(images.mean())
    brightness = classifier.class_means.reshape(len(classifier.labels), -1).mean(axis=1)
    usual = float(np.average(brightness, weights=classifier.counts))
    if mean > 0 and usual > 0:
        factor = mean / usual
        yield (
            f"{'darker' if factor < 1 else 'brighter'} (pixels × {factor:.2g})",
            lambda images: images / factor,
        )


def _agreement(images: Array, codes: NDArray[np.int64], classifier: Classifier) -> float:
    return float((classifier.scores(images)[0].argmax(axis=1) == codes).mean())


def _roughness(images: Array) -> float:
    pixels = images.astype(np.float64)
    if images.ndim == 4:
        pixels = pixels.mean(axis=3)
    neighbours = np.abs(np.diff(pixels, axis=2)).mean()
    shuffled = np.random.default_rng(0).permutation(pixels.reshape(len(pixels), -1), axis=1)
    apart = np.abs(np.diff(shuffled, axis=1)).mean()
    return float(neighbours / apart) if apart else 0.0


def _spaced(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most ``SAMPLE`` of the rows, evenly spaced."""
    return rows[:: max(1, -(-len(rows) // SAMPLE))]
