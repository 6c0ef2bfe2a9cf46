import numpy as np

from lenet5 import archive, backend, dataset, files
from lenet5.errors import TrainingError
from lenet5.evaluate import figures, metrics
from lenet5.params import Evaluate
from lenet5.paths import Paths
from lenet5.results import Evaluation, Lineage
from lenet5.terminal import console


def run(paths: Paths, params: Evaluate) -> None:
    """The saved model and the raw test images → metrics, plots, figures, one prediction an image.

    Raises:
        DataError: the images are damaged or not those of the data the model was made from, or the model
            file does not hold the weights that training recorded.
        TrainingError: the model's answers are not probabilities.
    """
    backend.use_threads(1)  # the sums' order, and so the last bits, must not depend on the machine's cores
    raw = dataset.load(paths.raw)
    history = files.read_csv(paths.history)
    lineage = Lineage.read(paths.lineage)
    lineage.require(raw_data=raw.manifest.digest, model_file=files.sha256(paths.model))
    model = archive.load(paths.model)
    test = raw.splits["test"]
    probabilities = metrics.probabilities(model, test.images, params.batch_size)
    if not np.isfinite(probabilities).all():
        raise TrainingError("The model's answers are not probabilities.", found="NaN or infinity")
    frame = metrics.predictions(test.labels, probabilities)
    calibration = metrics.calibration(frame, params.calibration_bins)

    with files.replacing(paths.predictions) as aside:
        frame.to_parquet(aside, index=False)
    evaluation = Evaluation(
        model=lineage.model,
        test_data=raw.manifest.splits["test"].digest,
        predictions=files.sha256(paths.predictions)[:16],
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
    console.print(
        f"{evaluation.images:,} test images: accuracy {evaluation.accuracy:.4f}, "
        f"worst class recall {evaluation.worst_class_recall:.4f}, loss {evaluation.loss:.4f}"
    )
