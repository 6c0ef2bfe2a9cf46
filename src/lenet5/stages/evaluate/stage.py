"""Run the stage ``evaluate``: score all images with the ONNX file, write metrics, tables and figures.

It imports neither TensorFlow nor Keras: the stage ``train`` compared the ONNX file with the model for Keras.
"""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet5.core import dataset, files
from lenet5.core.dataset import Dataset
from lenet5.core.errors import DataError, TrainingError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, Lineage, SplitAccuracy
from lenet5.model import metrics, onnx_session
from lenet5.stages.evaluate import figures, robustness
from lenet5.stages.evaluate.params import Evaluate

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def run(paths: Paths, params: Evaluate) -> str:
    """Score the saved model on all images; write metrics, and predictions and plots of the test images.

    Returns:
        The accuracy of each split and the main metrics, in one line each.

    Raises:
        DataError: the images are damaged or belong to another dataset than the model, or the model file is
            missing or differs from the one that training recorded.
        TrainingError: the model's answers are not probabilities.
    """
    raw = dataset.load(paths.raw, ["test"])
    processed = dataset.load(paths.processed)
    history = files.read_csv(paths.history)
    lineage = Lineage.read(paths.lineage)
    content = _model_file(paths)
    lineage.require(
        raw_data=raw.manifest.digest,
        processed_data=processed.manifest.digest,
        onnx_file=hashlib.sha256(content).hexdigest(),
    )
    session = onnx_session.load(content)
    test = raw.splits["test"]
    probabilities = onnx_session.probabilities(session, test.images)
    if not np.isfinite(probabilities).all():
        raise TrainingError(
            "The model's answers are not probabilities.",
            expected="finite numbers",
            found="NaN or infinity",
            fix="train the model again: `dvc repro --force train`",
        )
    predictions = metrics.predictions(test.labels, probabilities)
    calibration = metrics.calibration(predictions, params.calibration_bins)
    correct = {name: _correct(session, processed, name) for name in ("train", "validation")}
    correct["test"] = int((probabilities.argmax(axis=1) == test.labels).sum())
    splits = {
        name: _accuracy(count, len((processed.splits | raw.splits)[name].labels))
        for name, count in correct.items()
    }

    answers = robustness.score(session, test.images, test.labels, params.robustness)
    by_severity = robustness.summary(answers)
    summaries: dict[str, Any] = {
        **metrics.summarize(predictions, params.calibration_bins),
        **robustness.summarize(answers),
    }

    with files.replacing(paths.predictions) as partial:
        predictions.to_parquet(partial, index=False)
    with files.replacing(paths.robustness) as partial:
        robustness.table(answers).to_parquet(partial, index=False)
    evaluation = Evaluation(
        model=lineage.model,
        test_data=raw.manifest.splits["test"].digest,
        predictions=files.sha256(paths.predictions)[:16],
        onnx_file=lineage.onnx_file,
        images=len(predictions),
        splits=splits,
        **summaries,
    )
    evaluation.write(paths.evaluation)
    files.write_csv(paths.per_class, metrics.by_class(predictions))
    files.write_csv(paths.confusion, predictions[["label", "predicted"]])
    files.write_csv(paths.calibration, calibration)
    files.write_csv(paths.robustness_plot, by_severity)
    with figures.default_style(), files.replacing(paths.figures) as partial:
        partial.mkdir()
        for name, figure in {
            "learning_curves": figures.learning_curves(history),
            "confusion": figures.confusion(predictions),
            "calibration": figures.calibration(calibration),
            "mistakes": figures.mistakes(test.images, predictions, params.mistakes),
            "robustness": figures.robustness(by_severity),
        }.items():
            figure.savefig(partial / f"{name}.png", dpi=120, metadata={"Software": None})
    return "\n".join(
        f"{each.images:,} {name} images: accuracy {each.accuracy:.4f} ({each.low:.4f} to {each.high:.4f})"
        for name, each in splits.items()
    ) + (
        f", worst class recall {evaluation.worst_class_recall:.4f}, loss {evaluation.loss:.4f}, "
        f"calibration error {evaluation.calibration_error:.4f}, "
        f"mean accuracy on corrupted images {evaluation.mean_corruption_accuracy:.4f}"
    )


def _model_file(paths: Paths) -> bytes:
    try:
        return files.read_bytes(paths.onnx)
    except FileNotFoundError:
        raise DataError(
            "There is no model to evaluate.",
            expected=paths.onnx,
            fix="`dvc repro train` writes it",
        ) from None


def _correct(session: "InferenceSession", processed: Dataset, name: str) -> int:
    """Return how many images of a processed split the model classifies correctly, from their raw pixels."""
    split = processed.splits[name]
    correct = 0
    for part in dataset.chunks(len(split.images)):
        pixels = dataset.raw_pixels(split.images[part], processed.manifest.padding)
        answers = onnx_session.probabilities(session, pixels).argmax(axis=1)
        correct += int((answers == split.labels[part].argmax(axis=1)).sum())
    return correct


def _accuracy(correct: int, images: int) -> SplitAccuracy:
    low, high = metrics.wilson(correct / images, images)
    return SplitAccuracy(images=images, accuracy=correct / images, low=low, high=high)
