"""Candidate and champion were evaluated on different test data: do the two test sets ask for the same thing?

A model that is good on its own test images and bad on those of the other model says that the two sets differ
in kind: rotated images, other labels, another sensor. Then an image that the candidate gains says nothing
about the candidate, and the gate must not count it.
"""

from dataclasses import dataclass

from lenet5.model.metrics import wilson
from lenet5.registry.paired_test import Comparison


@dataclass(frozen=True)
class Scores:
    """Candidate and champion on one test set."""

    candidate: float
    """Accuracy of the candidate, 0 to 1."""
    champion: float
    """Accuracy of the champion."""
    comparison: Comparison
    """The two, image by image."""


@dataclass(frozen=True)
class DataChange:
    """Candidate and champion on the test images of both."""

    on_candidates: Scores
    """On the test images of the candidate: the new data."""
    on_champions: Scores | None
    """On the test images of the champion: the old data. None when these images cannot be found."""
    missing: str = ""
    """Which images cannot be found, and how to bring them."""

    def __str__(self) -> str:
        header = f"{'':29}{'images':>8}{'champion':>10}{'candidate':>11}{'gained':>8}{'lost':>8}{'p':>10}"
        lines = [header, _row("the candidate's test images", self.on_candidates)]
        lines += [_row("the champion's test images", self.on_champions)] if self.on_champions else []
        lines += [self.missing] if self.missing else []
        return "\n".join(lines)


def lowest_likely_drop(
    own_accuracy: float, own_images: int, accuracy: float, images: int, confidence: float
) -> float:
    """Return the lower end of the interval for the drop of a model from its own test set to another one.

    Source: Newcombe, 1998, method 10: the difference of two proportions by Wilson's intervals. It is for
    independent samples. Two sets with the same images (transposed, say) are positively correlated, and then
    the interval is wider than it needs to be.

    Args:
        own_accuracy: Accuracy on the test set that the model was evaluated on, 0 to 1.
        own_images: Images in that set.
        accuracy: Accuracy on the other set.
        images: Images in the other set.
        confidence: Confidence of the two-sided interval, between 0 and 1.
    """
    own_low, _ = wilson(own_accuracy, own_images, confidence)
    _, high = wilson(accuracy, images, confidence)
    drop = own_accuracy - accuracy
    return float(drop - ((own_accuracy - own_low) ** 2 + (high - accuracy) ** 2) ** 0.5)


def _row(name: str, scores: Scores) -> str:
    comparison = scores.comparison
    return (
        f"{name:29}{comparison.images:>8,}{scores.champion:>10.4f}{scores.candidate:>11.4f}"
        f"{comparison.gained:>8,}{comparison.lost:>8,}{comparison.p_value:>10.3g}"
    )
