"""Predictions of a candidate and of a champion on the same images: test images of both, and corrupted ones.

A version was evaluated on one test set, and its predictions on it are stored. On the test set of the other
version its model is scored.

It was also evaluated on corrupted images of its test set. Two versions whose tag ``lenet5.corrupted_images``
is equal saw the same images. Otherwise (other test data, other corruptions, or a version of an earlier
release) the images are made from the test images of the candidate, as ``params.yaml`` says, and the champion
is scored on them; the candidate is as well, if it saw others.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core import dataset, files
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError, Lenet5Error
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.images.corruptions import scoring
from lenet5.images.corruptions.scoring import Answers
from lenet5.model import metrics, onnx_session
from lenet5.registry import fast_lookup, model_versions
from lenet5.registry.model_versions import Version
from lenet5.registry.promotion_log import EvaluationData
from lenet5.stages.evaluate.params import Robustness
from lenet5.system import dvc
from lenet5.tracking import tags
from lenet5.tracking.embedded_client import Client

log = logging.getLogger(__name__)

Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Scores images: uint8 (N, H, W) or (N, H, W, 3) → probabilities, float32 (N, C)."""

NO_CLASS = -1
"""The prediction of a model that cannot read an image."""
_LOCK = "code/dvc.lock"
"""Path of a version's ``dvc.lock`` in its run."""


@dataclass(frozen=True)
class PairedPredictions:
    """Predictions of two versions on the same images, in the same order.

    Both frames have one row for each test image and the columns of :func:`lenet5.model.metrics.predictions`:
    ``index``, ``label``, ``predicted``, ``confidence``, and the probabilities ``p0``, ``p1``, ….
    """

    candidate: pd.DataFrame
    champion: pd.DataFrame | None
    """None when there is no champion."""


@dataclass(frozen=True)
class Collected:
    """The predictions on the test images of both versions."""

    on_candidates: PairedPredictions
    """On the test images of the candidate."""
    same_data: bool = True
    """Whether these are the test images of the champion too, or there is no champion."""
    on_champions: PairedPredictions | None = None
    """On the test images of the champion, if they are other ones and can be found."""
    missing: str = ""
    """Why the test images of the champion cannot be found, and how to bring them."""


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
    client: Client,
    paths: Paths,
    candidate: Version,
    champion: Version | None,
    champions_data: EvaluationData | None = None,
) -> Collected:
    """Return the predictions of a candidate and of the champion on the same images.

    When both versions were evaluated on the same test set, this downloads the predictions that were stored
    then. Otherwise it also scores each model on the test images of the other version. Those of the candidate
    must be in this checkout; those of the champion come from this checkout, DVC's cache or the DVC remote.

    Args:
        client: The registry.
        paths: The checkout, for its test images.
        candidate: The version to promote.
        champion: The version that has the alias; None when no version has it.
        champions_data: What the champion was evaluated on when it got the alias; None for what its tags say.

    Raises:
        DataError: a model must be scored, and the test images of the candidate are not in this checkout or
            the model file is not the registered one.
    """
    test_data = _test_data(paths, candidate)

    def on_candidates(version: Version) -> pd.DataFrame:
        if (stored := _stored(client, version, test_data)) is not None:
            return stored
        log.warning("version %d is scored on the test images of this checkout", version.number)
        return _score(client, version, _test_images(paths.raw, test_data, version))

    paired = PairedPredictions(on_candidates(candidate), on_candidates(champion) if champion else None)
    if champion is None:
        return Collected(paired)
    data = champions_data or evaluation_data(client, paths, champion)
    if data.test == test_data:
        return Collected(paired)
    try:
        return Collected(paired, False, _on_champions(client, paths, candidate, champion, data))
    except _Missing as error:
        return Collected(paired, False, missing=str(error))


def collect_answers(
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
        test = test_images_of(paths, candidate)
        others = _score_corrupted(client, params, champion, test) if champion else None
        if own is None or (others and others.corrupted_images != digest):
            own = pd.DataFrame(_score_corrupted(client, params, candidate, test).columns)
    except DataError as error:
        return PairedAnswers(own, slices=slices, missing=str(error))
    return PairedAnswers(own, pd.DataFrame(others.columns) if others else None, slices)


def test_images_of(paths: Paths, version: Version) -> Split:
    """Read the test images that a version was evaluated on from this checkout.

    Raises:
        DataError: this checkout has no such images, or they are damaged.
    """
    return _test_images(paths.raw, _test_data(paths, version), version)


def _test_data(paths: Paths, version: Version) -> str:
    """Return the digest of the test images of a version; those of this checkout for an earlier release."""
    recorded = version.tags.get(tags.TEST_DATA)
    return dataset.load_manifest(paths.raw).splits["test"].digest if recorded is None else recorded


class _Missing(DataError):
    """The test images of the champion cannot be found."""


def _on_champions(
    client: Client,
    paths: Paths,
    candidate: Version,
    champion: Version,
    data: EvaluationData,
) -> PairedPredictions:
    """Return the predictions of both versions on the test images of the champion.

    Raises:
        _Missing: the images are neither in this checkout, nor in DVC's cache, nor in the DVC remote.
        DataError: a model file is not the registered one.
    """
    log.warning(
        "version %d and the champion are compared on the test images of version %d, too",
        candidate.number,
        champion.number,
    )
    with _champions_images(paths, champion, data) as test:
        stored = _stored(client, champion, data.test)
        return PairedPredictions(
            _score(client, candidate, test),
            stored if stored is not None else _score(client, champion, test),
        )


def evaluation_data(client: Client, paths: Paths, version: Version) -> EvaluationData:
    """Return what a version was evaluated on, as its tags and its ``dvc.lock`` say."""
    test = version.tags.get(tags.TEST_DATA, "")
    if _LOCK not in model_versions.artifacts(version):  # a version of another client
        return EvaluationData(test)
    with tempfile.TemporaryDirectory() as folder:
        try:
            recorded = dvc.recorded_outputs(model_versions.artifact(client, version, _LOCK, Path(folder)))
        except DataError as error:
            log.warning("%s", error)
            return EvaluationData(test)
    return EvaluationData(test, recorded.get(paths.raw.relative_to(paths.root).as_posix(), ""))


@contextmanager
def _champions_images(paths: Paths, champion: Version, data: EvaluationData) -> Iterator[Split]:
    """Find the test images of the champion in this checkout, in DVC's cache or in the DVC remote.

    Raises:
        _Missing: they cannot be found.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            test = _find(paths, champion, data, Path(folder))
        except Lenet5Error as error:
            raise _Missing(
                f"The test images of version {champion.number}, the champion, cannot be found.",
                expected=f"test data {data.test[:12] or 'that a tag names'} in {paths.raw}, in DVC's cache "
                "or in the DVC remote",
                found=error,
                fix=f"`dvc push` in the checkout that made version {champion.number}, or "
                f"`lenet5 reproduce {champion.number}` here; then ask the gate again",
            ) from None
        yield test


def _find(paths: Paths, champion: Version, data: EvaluationData, folder: Path) -> Split:
    try:
        return _test_images(paths.raw, data.test, champion)
    except DataError:  # another dataset, a damaged one, or none
        if not data.raw:
            raise
    restored = dvc.restore(paths.root, data.raw, [dataset.MANIFEST, "test"], folder)
    return _test_images(restored, data.test, champion)


def _stored(client: Client, version: Version, test_data: str) -> pd.DataFrame | None:
    """Download the predictions that were stored when the version was evaluated on this test set."""
    if version.tags.get(tags.TEST_DATA) != test_data:
        return None
    return stored_table(client, version, model_versions.PREDICTIONS)


def stored_table(client: Client, version: Version, path: str) -> pd.DataFrame | None:
    """Download a table from the run of a version; None, with a warning, if it is missing or damaged."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_parquet(model_versions.artifact(client, version, path, Path(folder)))
        except DataError as error:
            log.warning("%s", error)
            return None


def _test_images(raw: Path, test_data: str, version: Version) -> Split:
    """Read the test images with the digest ``test_data`` from a dataset folder.

    Raises:
        DataError: there are no such images in the folder, or they are damaged.
    """
    digest = dataset.load_manifest(raw).splits["test"].digest
    if digest != test_data:
        raise DataError(
            f"Version {version.number} cannot be scored: its test images are not in this checkout.",
            expected=f"test data {test_data[:12]} in {raw}",
            found=digest[:12],
            fix="`dvc repro ingest` in a checkout of that data",
        )
    return dataset.load(raw, ["test"]).splits["test"]


def _score(client: Client, version: Version, test: Split) -> pd.DataFrame:
    """Download the model and score it on some test images.

    A model that takes images of another size classifies none correctly.
    """
    score = scorer(client, version, test.images.shape[1:])
    if score is None:
        return _no_predictions(test.labels)
    return metrics.predictions(test.labels, score(test.images))


def scorer(client: Client, version: Version, shape: tuple[int, ...]) -> Scorer | None:
    """Download the model of a version.

    Keras scores only versions of earlier releases, which have no ONNX file.

    Args:
        client: The registry.
        version: The version.
        shape: Shape of one of the images to score.

    Returns:
        A function that scores images of this shape; None when the model takes images of another one.

    Raises:
        DataError: the model file is not the registered one.
    """
    with tempfile.TemporaryDirectory() as folder:
        if fast_lookup.onnx_digest(version.tags):
            file = model_versions.download_onnx(client, version, Path(folder))
            session = onnx_session.load(files.read_bytes(file))
            if tuple(session.get_inputs()[0].shape[1:]) != shape:
                return None
            return partial(onnx_session.probabilities, session)
        with quiet_libraries():
            from lenet5.model import backend, keras_file
        backend.configure(1)
        model = keras_file.load(model_versions.download(client, version, Path(folder)))
    if tuple(model.input_shape[1:]) != shape:
        return None
    return partial(metrics.probabilities, model)


def _no_predictions(labels: NDArray[np.uint8]) -> pd.DataFrame:
    """Return the table of a model that cannot read the images: no class and no confidence."""
    nothing = np.zeros((len(labels), int(labels.max(initial=1)) + 1), np.float32)
    return metrics.predictions(labels, nothing).assign(predicted=NO_CLASS)


def _score_corrupted(client: Client, params: Robustness, version: Version, test: Split) -> Answers:
    """Score the model of a version on corrupted test images.

    A model that takes images of another size classifies none correctly.
    """
    log.warning("version %d is scored on the corrupted images that params.yaml describes", version.number)
    score = scorer(client, version, test.images.shape[1:])
    answers = scoring.score(
        score or _no_answers,
        test.images,
        test.labels,
        params,
        # Keras, which scores the versions without an ONNX file, is not called from several threads
        threads=None if fast_lookup.onnx_digest(version.tags) else 1,
    )
    if score is None:
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
    return stored_table(client, version, path)
