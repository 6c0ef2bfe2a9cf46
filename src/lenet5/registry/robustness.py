"""Answers of a candidate and of a champion on the same corrupted images, and the slices of the test images.

A version was evaluated on corrupted images of its test set, and its answers are stored. Two versions whose
tag ``lenet5.corrupted_images`` is equal saw the same images. Otherwise (other test data, other corruptions,
or a version of an earlier release) the images are made from the test images of the candidate, as
``params.yaml`` says, and the champion is scored on them; the candidate is as well, if it saw others.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.images.corruptions import scoring
from lenet5.images.corruptions.scoring import Answers
from lenet5.model import metrics
from lenet5.registry import fast_lookup, model_versions, predictions
from lenet5.registry.model_versions import Version
from lenet5.registry.predictions import NO_CLASS
from lenet5.stages.evaluate.params import Robustness
from lenet5.tracking import tags
from lenet5.tracking.embedded_client import Client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairedAnswers:
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
        return float(metrics.corruption_accuracies(self.candidate).mean())

    @property
    def by_severity(self) -> pd.DataFrame | None:
        """Return the accuracies of both on each corruption and severity; None when one has no answers.

        Returns:
            One row for each corruption and severity, in the order of the candidate's answers: ``corruption``,
            ``severity``, ``images``, ``candidate``, ``champion`` (accuracies), ``difference``.
        """
        if self.candidate is None or self.champion is None:
            return None
        own, other = (
            table.assign(correct=table["predicted"] == table["label"])
            .groupby(["corruption", "severity"], sort=False, observed=True)["correct"]
            .agg(["size", "mean"])
            for table in (self.candidate, self.champion)
        )
        rows = pd.DataFrame({"images": own["size"], "candidate": own["mean"], "champion": other["mean"]})
        return rows.loc[own.index].assign(difference=rows["candidate"] - rows["champion"]).reset_index()


def collect(
    client: Client, paths: Paths, params: Robustness, candidate: Version, champion: Version | None
) -> PairedAnswers:
    """Return the answers of a candidate and of the champion on the same corrupted images.

    Args:
        client: The registry.
        paths: The checkout, for its test images.
        params: Which corrupted images to make if a version must be scored.
        candidate: The version to promote.
        champion: The version that has the alias; None when no version has it.

    Returns:
        The answers. When a model must be scored and the test images of the candidate are not in this
        checkout, or one of the files is damaged, answers are missing, and ``missing`` says why.
    """
    slices = _slices(client, candidate, champion)
    own = _table(client, candidate, model_versions.ROBUSTNESS)
    if own is not None and champion is None:
        return PairedAnswers(own, slices=slices)
    digest = candidate.tags.get(tags.CORRUPTED_IMAGES)
    if own is not None and champion and digest and champion.tags.get(tags.CORRUPTED_IMAGES) == digest:
        stored = _table(client, champion, model_versions.ROBUSTNESS)
        if stored is not None:
            return PairedAnswers(own, stored, slices)

    try:
        test = predictions.test_images_of(paths, candidate)
        others = _score(client, params, champion, test) if champion else None
        if own is None or (others and others.corrupted_images != digest):
            own = pd.DataFrame(_score(client, params, candidate, test).columns)
    except DataError as error:
        return PairedAnswers(own, slices=slices, missing=str(error))
    return PairedAnswers(own, pd.DataFrame(others.columns) if others else None, slices)


def _score(client: Client, params: Robustness, version: Version, test: Split) -> Answers:
    """Score the model of a version on corrupted test images.

    A model that takes images of another size classifies none correctly.
    """
    log.warning("version %d is scored on the corrupted images that params.yaml describes", version.number)
    scorer = predictions.scorer(client, version, test.images.shape[1:])
    answers = scoring.score(
        scorer or _no_answers,
        test.images,
        test.labels,
        params,
        # Keras, which scores the versions without an ONNX file, is not called from several threads
        threads=None if fast_lookup.onnx_digest(version.tags) else 1,
    )
    if scorer is None:
        answers.columns["predicted"][:] = NO_CLASS
    return answers


def _no_answers(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.zeros((len(images), 1), np.float32)


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
    return predictions.stored_table(client, version, path)
