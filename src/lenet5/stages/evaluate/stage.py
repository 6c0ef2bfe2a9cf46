"""Run the stage ``evaluate``: score the test images, export to ONNX, write metrics, tables and figures."""

import numpy as np
from numpy.typing import NDArray

from lenet5.core import dataset, files
from lenet5.core.errors import TrainingError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, Lineage
from lenet5.model import backend, keras_file, metrics, onnx_export, onnx_session
from lenet5.stages.evaluate import figures, report
from lenet5.stages.evaluate.params import Evaluate

TOLERANCE = 1e-5
"""Largest accepted difference between two probabilities. Another order of sums changes the seventh digit."""


def run(paths: Paths, params: Evaluate) -> str:
    """Score the saved model on the raw test images; write metrics, predictions, plots and the ONNX file.

    Returns:
        The main metrics, in one line.

    Raises:
        DataError: the images are damaged or belong to another dataset than the model, or the model file
            differs from the one that training recorded.
        TrainingError: the model's answers are not probabilities, or its ONNX file gives other answers.
    """
    # neither GPUs nor the number of cores may change the last bits of a metric
    backend.use_cpu()
    backend.configure(1)
    raw = dataset.load(paths.raw)
    history = files.read_csv(paths.history)
    lineage = Lineage.read(paths.lineage)
    lineage.require(raw_data=raw.manifest.digest, model_file=files.sha256(paths.model))
    model = keras_file.load(paths.model)
    test = raw.splits["test"]
    probabilities = metrics.probabilities(model, test.images, params.batch_size)
    if not np.isfinite(probabilities).all():
        raise TrainingError(
            "The model's answers are not probabilities.",
            expected="finite numbers",
            found="NaN or infinity",
            fix="train the model again: `dvc repro --force train`",
        )
    predictions = metrics.predictions(test.labels, probabilities)
    calibration = metrics.calibration(predictions, params.calibration_bins)
    onnx_file = onnx_export.export(model)
    require_same_answers(onnx_file, test.images, probabilities)

    with files.replacing(paths.onnx) as partial:
        partial.write_bytes(onnx_file)
    with files.replacing(paths.predictions) as partial:
        predictions.to_parquet(partial, index=False)
    evaluation = Evaluation(
        model=lineage.model,
        test_data=raw.manifest.splits["test"].digest,
        predictions=files.sha256(paths.predictions)[:16],
        onnx_file=files.sha256(paths.onnx),
        images=len(predictions),
        **metrics.summarize(predictions, params.calibration_bins),
    )
    evaluation.write(paths.evaluation)
    files.write_csv(paths.per_class, metrics.by_class(predictions))
    files.write_csv(paths.confusion, predictions[["label", "predicted"]])
    files.write_csv(paths.calibration, calibration)
    with figures.default_style(), files.replacing(paths.figures) as partial:
        partial.mkdir()
        for name, figure in {
            "learning_curves": figures.learning_curves(history),
            "confusion": figures.confusion(predictions),
            "calibration": figures.calibration(calibration),
            "mistakes": figures.mistakes(test.images, predictions, params.mistakes),
        }.items():
            figure.savefig(partial / f"{name}.png", dpi=120, metadata={"Software": None})
    files.write_text(paths.report, report.build(paths, test))
    return (
        f"{evaluation.images:,} test images: accuracy {evaluation.accuracy:.4f}, "
        f"worst class recall {evaluation.worst_class_recall:.4f}, loss {evaluation.loss:.4f}"
    )


def require_same_answers(onnx_file: bytes, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> None:
    """Score all images with the ONNX file and compare the probabilities with those of Keras.

    Args:
        onnx_file: the content of the ONNX file.
        images: uint8 (N, 28, 28).
        expected: the probabilities of Keras, float32 (N, 10).

    Raises:
        TrainingError: a probability differs by more than ``TOLERANCE``.
    """
    probabilities = onnx_session.probabilities(onnx_session.load(onnx_file), images)
    difference = np.abs(probabilities - expected).max(axis=1)
    exceeds = ~(difference <= TOLERANCE)  # written this way, NaN exceeds the tolerance as well
    if exceeds.any():
        worst = int(difference.argmax())
        raise TrainingError(
            "The ONNX file does not give the model's answers.",
            expected=f"probabilities within {TOLERANCE:g} of Keras'",
            found=f"{exceeds.sum():,} images beyond, image {worst} by {difference[worst]:.3g}",
            fix="install the versions of tf2onnx, onnx and onnxruntime that requirements.lock pins; "
            "if they are installed, report a defect of the export",
        )
