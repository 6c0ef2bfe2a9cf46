import numpy as np
from numpy.typing import NDArray

from lenet5.core import dataset, files
from lenet5.core.errors import TrainingError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, Lineage
from lenet5.model import backend, keras_file, metrics, onnx_export, onnx_session
from lenet5.stages.evaluate import figures
from lenet5.stages.evaluate.params import Evaluate

TOLERANCE = 1e-5
"""How far a probability may be from Keras': sums in another order move the seventh digit."""


def run(paths: Paths, params: Evaluate) -> str:
    """The saved model and the raw test images → metrics, plots, figures, one prediction an image, ONNX.

    Raises:
        DataError: the images are damaged or not those of the data the model was made from, or the model
            file does not hold the weights that training recorded.
        TrainingError: the model's answers are not probabilities, or those of its ONNX file are others.
    """
    backend.use_cpu()  # the figures, to the last bits, must depend neither on the machine's GPUs
    backend.use_threads(1)  # nor, by the sums' order, on its cores
    raw = dataset.load(paths.raw)
    history = files.read_csv(paths.history)
    lineage = Lineage.read(paths.lineage)
    lineage.require(raw_data=raw.manifest.digest, model_file=files.sha256(paths.model))
    model = keras_file.load(paths.model)
    test = raw.splits["test"]
    probabilities = metrics.probabilities(model, test.images, params.batch_size)
    if not np.isfinite(probabilities).all():
        raise TrainingError("The model's answers are not probabilities.", found="NaN or infinity")
    frame = metrics.predictions(test.labels, probabilities)
    calibration = metrics.calibration(frame, params.calibration_bins)
    exported = onnx_export.export(model)
    compare(exported, test.images, probabilities)

    with files.replacing(paths.onnx) as aside:
        aside.write_bytes(exported)
    with files.replacing(paths.predictions) as aside:
        frame.to_parquet(aside, index=False)
    evaluation = Evaluation(
        model=lineage.model,
        test_data=raw.manifest.splits["test"].digest,
        predictions=files.sha256(paths.predictions)[:16],
        onnx_file=files.sha256(paths.onnx),
        images=len(frame),
        **metrics.figures(frame, params.calibration_bins),
    )
    evaluation.write(paths.evaluation)
    files.write_csv(paths.per_class, metrics.by_class(frame))
    files.write_csv(paths.confusion, frame[["label", "predicted"]])
    files.write_csv(paths.calibration, calibration)
    with files.replacing(paths.figures) as aside:
        aside.mkdir()
        for name, figure in {
            "learning_curves": figures.learning_curves(history),
            "confusion": figures.confusion(frame),
            "calibration": figures.calibration(calibration),
            "mistakes": figures.mistakes(test.images, frame, params.mistakes),
        }.items():
            figure.savefig(aside / f"{name}.png", dpi=120, metadata={"Software": None})
    return (
        f"{evaluation.images:,} test images: accuracy {evaluation.accuracy:.4f}, "
        f"worst class recall {evaluation.worst_class_recall:.4f}, loss {evaluation.loss:.4f}"
    )


def compare(exported: bytes, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> None:
    """Score every image (N, 28, 28) with the ONNX file, too, and compare with what Keras says: (N, 10).

    Raises:
        TrainingError: a probability is another one.
    """
    found = onnx_session.probabilities(onnx_session.load(exported), images)
    apart = np.abs(found - expected).max(axis=1)
    beyond = ~(apart <= TOLERANCE)  # NaN is not less than anything
    if beyond.any():
        worst = int(apart.argmax())
        raise TrainingError(
            "The ONNX file does not give the model's answers.",
            expected=f"probabilities within {TOLERANCE:g} of Keras'",
            found=f"{beyond.sum():,} images beyond, image {worst} by {apart[worst]:.3g}",
            fix="a defect of the exporter: compare the versions of tf2onnx, onnx and onnxruntime with "
            "requirements.lock",
        )
