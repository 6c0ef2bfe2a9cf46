"""Answers of a candidate and of a champion on the same corrupted images, and the slices of the test images.

A version was evaluated on corrupted images of its test set, and its answers are stored. Two versions whose
tag ``lenet5.corrupted_images`` is equal saw the same images. Otherwise (other test data, other corruptions, or
a version of an earlier release) the images are made again from the test images of the candidate, and both
models are scored on them.
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions, predictions
from lenet5.registry.model_versions import Version
from lenet5.stages.evaluate.params import Evaluate
from lenet5.tracking import tags
from lenet5.tracking.store import Client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Robustness:
    """What the gate compares besides the predictions on clean test images."""

    candidate: pd.DataFrame | None = None
    """One row for each corruption, severity and image: ``corruption``, ``severity``, ``index``, ``label``,
    ``predicted``, ``confidence``. None when the candidate cannot be scored."""
    champion: pd.DataFrame | None = None
    """The same rows; None when there is no champion, or when it cannot be scored."""
    slices: pd.DataFrame | None = None
    """One row for each test image: ``index``, and the bin of each slice; None when no version has them."""
    missing: str = ""
    """Why the models cannot be scored on corrupted images, and what to do."""

    @property
    def mean_accuracy(self) -> float:
        """Return the mean accuracy of the candidate over all corruptions; NaN when it cannot be scored."""
        if self.candidate is None:
            return float("nan")
        correct = self.candidate["predicted"] == self.candidate["label"]
        return float(correct.groupby(self.candidate["corruption"]).mean().mean())


def collect(
    client: Client, paths: Paths, params: Evaluate, candidate: Version, champion: Version | None
) -> Robustness:
    """Return the answers of a candidate and of the champion on the same corrupted images.

    Args:
        client: The registry.
        paths: The checkout, for its test images.
        params: Which corruptions to make, and the batch size for scoring.
        candidate: The version to promote.
        champion: The version that has the alias; None when no version has it.

    Returns:
        The answers. When models must be scored and the test images of the candidate are not in this checkout,
        there are none, and ``missing`` says so.
    """
    slices = _slices(client, candidate, champion)
    own = _table(client, candidate, model_versions.ROBUSTNESS)
    if own is not None and champion is None:
        return Robustness(own, slices=slices)
    digest = candidate.tags.get(tags.CORRUPTED_IMAGES)
    if own is not None and champion and digest and champion.tags.get(tags.CORRUPTED_IMAGES) == digest:
        others = _table(client, champion, model_versions.ROBUSTNESS)
        if others is not None:
            return Robustness(own, others, slices)

    scored = [candidate, *([champion] if champion else [])]
    numbers = " and ".join(f"version {version.number}" for version in scored)
    log.warning("%s: scored on the corrupted images that params.yaml describes", numbers)
    try:
        test = predictions.test_images_of(paths, candidate)
        tables = [_score(client, params, version, test) for version in scored]
    except DataError as error:
        return Robustness(own, slices=slices, missing=str(error))
    return Robustness(tables[0], tables[1] if champion else None, slices)


def _slices(client: Client, candidate: Version, champion: Version | None) -> pd.DataFrame | None:
    """Return the slices of the candidate's test images, which the champion can have stored, too."""
    slices = _table(client, candidate, model_versions.SLICES)
    if (
        slices is None
        and champion
        and champion.tags.get(tags.TEST_DATA) == candidate.tags.get(tags.TEST_DATA)
    ):
        slices = _table(client, champion, model_versions.SLICES)
    if slices is None:
        log.warning("version %d has no slices: only the classes are compared", candidate.number)
    return slices


def _table(client: Client, version: Version, path: str) -> pd.DataFrame | None:
    """Download a table of a version; None when it has none, or a damaged one."""
    if path not in model_versions.artifacts(version):  # a version of an earlier release
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_parquet(model_versions.artifact(client, version, path, Path(folder)))
        except DataError as error:
            log.warning("%s", error)
            return None
