"""What a version predicts for its own test images: the traffic that is usual for it.

The registry holds the predictions that were made when a version was evaluated. Their counts are kept in
``.lenet5/serving/references``. So a service and ``lenet5 traffic`` ask the registry once for each version.

    python -m lenet5.serving.reference NAME VERSION DIGEST     # download in a process of its own
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.serving import mlflow_child
from lenet5.system.state import LocalState

_EDGES = np.array([0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999], np.float32)
"""Edges of the bins in which confidences are counted."""
WINDOW = 1000
"""Number of images that are compared with the reference."""
_RATE = 0.001
"""Share of windows in which chance exceeds a limit."""
_SIMULATED = (5_000, 20_000)
"""Windows that a limit is computed from: of many classes fewer, so that it takes a second."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Counts of the predictions for the test images of one version."""

    accuracy: float
    confidence: float
    """The mean."""
    classes: dict[str, int]
    """Images by predicted class, in the order of the classes."""
    confidences: list[int]
    """Images by bin of confidence."""
    limits: dict[str, float]
    """The divergence of ``classes`` and of ``confidence`` that chance explains in a window, in nats."""

    @property
    def images(self) -> int:
        return sum(self.confidences)

    def class_shares(self) -> dict[str, float]:
        """Return the share of each predicted class."""
        return {name: count / self.images for name, count in self.classes.items()}


def smoothed(counts: Sequence[int]) -> Floats:
    """Return shares, all of them above zero, so that every divergence from them is finite."""
    added = np.asarray(counts) + 0.5
    return added / added.sum()


def divergence(counts: NDArray[np.integer], usual: Sequence[int]) -> Floats:
    """Return the Kullback-Leibler divergence of counts from a reference, in nats.

    Args:
        counts: (..., K), of the compared images.
        usual: (K,), of the reference.
    """
    shares = counts / counts.sum(axis=-1, keepdims=True)
    ratios = np.log(np.where(shares > 0, shares / smoothed(usual), 1))
    return np.asarray((shares * ratios).sum(axis=-1))


def limit(usual: Sequence[int]) -> float:
    """Return the divergence that chance exceeds in a share ``_RATE`` of all windows.

    Windows are drawn from shares that the reference, a sample too, leaves possible. Their divergences are
    computed, and their quantile is the limit.

    Args:
        usual: (K,), of the reference.
    """
    chooser = np.random.default_rng(0)
    fewest, most = _SIMULATED
    found: list[Floats] = []
    for _ in range(max(fewest, min(most, 500_000 // len(usual))) // 1000):
        shares = chooser.dirichlet(np.asarray(usual) + 0.5, 1000)
        found.append(divergence(chooser.multinomial(WINDOW, shares), usual))
    return float(np.quantile(np.concatenate(found), 1 - _RATE))


def count_confidences(confidence: NDArray[np.floating]) -> list[int]:
    """Return the number of values in each bin: below 0.5, from 0.5 to below 0.7, …, 0.999 and more."""
    bins = np.searchsorted(_EDGES, confidence.astype(np.float32, copy=False), side="right")
    counts: list[int] = np.bincount(bins, minlength=len(_EDGES) + 1).tolist()
    return counts


def cached(paths: Paths, name: str, number: int, digest: str) -> Reference | None:
    """Return the counts that were downloaded before; None without any.

    Args:
        paths: the checkout.
        name: of the registered model.
        number: of the version.
        digest: SHA-256 of its ONNX file. A new registry gives the same numbers to other versions.
    """
    try:
        content = json.loads(files.read_text(file(paths, name, number, digest)))
        return Reference(**content) if content else None
    except (OSError, ValueError, TypeError, DataError):
        return None


def is_cached(paths: Paths, name: str, number: int, digest: str) -> bool:
    """Return whether the registry was asked before, even if it has no predictions of the version."""
    return file(paths, name, number, digest).is_file()


def get(paths: Paths, name: str, number: int, digest: str) -> Reference | None:
    """Return the counts of a version, from MLflow's client if they were not downloaded before.

    Returns:
        None if the registry has no predictions of this version.

    Raises:
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    if not is_cached(paths, name, number, digest):
        reference = _download(paths, name, number, digest)
        content = asdict(reference) if reference else None
        files.write_text(file(paths, name, number, digest), json.dumps(content))
    return cached(paths, name, number, digest)


def _download(paths: Paths, name: str, number: int, digest: str) -> Reference | None:
    from lenet5.core.dataset import DIGITS
    from lenet5.registry import fast_lookup, model_versions, predictions
    from lenet5.tracking import store, tags

    with store.reachable(paths):
        client = store.connect(paths)
        version = model_versions.find(client, name, str(number))
        if fast_lookup.onnx_digest(version.tags) != digest:
            return None
        table = predictions.stored_table(client, version, model_versions.PREDICTIONS)
    if table is None:
        return None
    stated = version.tags.get(tags.CLASSES)
    classes = json.loads(stated) if stated else DIGITS.classes
    counts = np.bincount(table["predicted"], minlength=len(classes)).tolist()
    confidences = count_confidences(table["confidence"].to_numpy())
    return Reference(
        accuracy=float((table["label"] == table["predicted"]).mean()),
        confidence=float(table["confidence"].mean()),
        classes=dict(
            zip(classes, counts, strict=True)
        ),  # the order of the classes is that of their positions
        confidences=confidences,
        limits={"classes": limit(counts), "confidence": limit(confidences)},
    )


def file(paths: Paths, name: str, number: int, digest: str) -> Path:
    """Return the file with the counts of a version."""
    return LocalState(paths.root).serving / "references" / f"{name}-{number}-{digest[:16]}-{WINDOW}.json"


def _answer(paths: Paths, name: str, number: str, digest: str) -> None:
    get(paths, name, int(number), digest)


if __name__ == "__main__":
    sys.exit(mlflow_child.main(_answer))
