"""Predictions of a candidate and of a champion on the same test images."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import metrics
from lenet5.registry import model_versions
from lenet5.registry.model_versions import Version
from lenet5.stages.evaluate.params import Evaluate
from lenet5.tracking import tags
from lenet5.tracking.store import Client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairedPredictions:
    """Predictions of two versions on the same images, in the same order.

    Both frames have one row for each test image and the columns of :func:`lenet5.model.metrics.predictions`:
    ``index``, ``label``, ``predicted``, ``confidence``, and the probabilities ``p0`` to ``p9``.
    """

    candidate: pd.DataFrame
    champion: pd.DataFrame | None
    """None when there is no champion."""


def collect(
    client: Client, paths: Paths, params: Evaluate, candidate: Version, champion: Version | None
) -> PairedPredictions:
    """Return the predictions of a candidate and of the champion on the same images.

    When both versions were evaluated on the same test set, this downloads the predictions that were stored
    then. Otherwise it downloads the models and scores them on the test set of this checkout.

    Args:
        client: The registry.
        paths: The checkout, for its test images.
        params: The batch size for scoring.
        candidate: The version to promote.
        champion: The version that has the alias; None when no version has it.

    Raises:
        DataError: a model must be scored, and the test images are not in this checkout or the model file is
            not the registered one.
    """
    test_data = candidate.tags.get(tags.TEST_DATA)
    if test_data is None or (champion and champion.tags.get(tags.TEST_DATA) != test_data):
        test_data = dataset.load_manifest(paths.raw).splits["test"].digest

    def predictions_of(version: Version) -> pd.DataFrame:
        if version.tags.get(tags.TEST_DATA) == test_data:
            try:
                return _download(client, version)
            except DataError as error:
                log.warning("%s", error)
        log.warning("version %d is scored on the test images of this checkout", version.number)
        return _score(client, paths, params, version, test_data)

    return PairedPredictions(predictions_of(candidate), predictions_of(champion) if champion else None)


def _download(client: Client, version: Version) -> pd.DataFrame:
    """Download the predictions that were stored when the version was evaluated."""
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_parquet(
            model_versions.artifact(client, version, model_versions.PREDICTIONS, Path(folder))
        )


def _score(client: Client, paths: Paths, params: Evaluate, version: Version, test_data: str) -> pd.DataFrame:
    """Download the model and score it on the test images with the digest ``test_data``."""
    raw = dataset.load(paths.raw)
    digest = raw.manifest.splits["test"].digest
    if digest != test_data:
        raise DataError(
            f"Version {version.number} cannot be scored: its test images are not in this checkout.",
            expected=f"test data {test_data[:12]} in {paths.raw}",
            found=digest[:12],
            fix="`dvc repro ingest` in a checkout of that data",
        )
    with quiet_libraries():
        from lenet5.model import backend, keras_file
    backend.configure(1)  # as in the stage evaluate
    with tempfile.TemporaryDirectory() as folder:
        model = keras_file.load(model_versions.download(client, version, Path(folder)))
    test = raw.splits["test"]
    return metrics.predictions(test.labels, metrics.probabilities(model, test.images, params.batch_size))
