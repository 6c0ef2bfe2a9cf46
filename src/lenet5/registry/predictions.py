"""What versions answer to one set of test images, from the registry or from the models themselves."""

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
from lenet5.system.terminal import errors
from lenet5.tracking import tags
from lenet5.tracking.store import Client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """One row a test image, as :func:`metrics.predictions` makes them: the same images in the same order."""

    candidate: pd.DataFrame
    champion: pd.DataFrame | None


def answers(
    client: Client, paths: Paths, params: Evaluate, candidate: Version, champion: Version | None
) -> Answers:
    """The answers of a candidate and of the champion to the same images.

    What was stored when a version was evaluated is used for the test set it was evaluated on. When that is
    not the same for both, both are asked about the test set of this checkout.

    Raises:
        DataError: a model has to be asked and the test images are not here, or its file was tampered with.
    """
    test_data = candidate.tags.get(tags.TEST_DATA)
    if test_data is None or (champion and champion.tags.get(tags.TEST_DATA) != test_data):
        test_data = dataset.load_manifest(paths.raw).splits["test"].digest

    def of(version: Version) -> pd.DataFrame:
        if version.tags.get(tags.TEST_DATA) == test_data:
            try:
                return _stored(client, version)
            except DataError as error:
                log.warning("%s\nThe model is scored again.", error)
        errors.print(f"version {version.number} is asked about the test images of this checkout")
        return _asked(client, paths, params, version, test_data)

    return Answers(of(candidate), of(champion) if champion else None)


def _stored(client: Client, version: Version) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_parquet(
            model_versions.artifact(client, version, model_versions.PREDICTIONS, Path(folder))
        )


def _asked(client: Client, paths: Paths, params: Evaluate, version: Version, test_data: str) -> pd.DataFrame:
    raw = dataset.load(paths.raw)
    if (found := raw.manifest.splits["test"].digest) != test_data:
        raise DataError(
            f"Version {version.number} cannot be asked about the test images: they are not here.",
            expected=f"test data {test_data[:12]} in {paths.raw}",
            found=found[:12],
            fix="`dvc repro ingest` in a checkout of that data",
        )
    with quiet_libraries():
        from lenet5.model import backend, keras_file
    backend.use_threads(1)  # as evaluation does
    with tempfile.TemporaryDirectory() as folder:
        model = keras_file.load(model_versions.download(client, version, Path(folder)))
    test = raw.splits["test"]
    return metrics.predictions(test.labels, metrics.probabilities(model, test.images, params.batch_size))
