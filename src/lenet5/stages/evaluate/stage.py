"""Run the stage ``evaluate``: score all images with the ONNX file, write metrics, tables and figures.

It imports neither TensorFlow nor Keras: the stage ``train`` compared the ONNX file with the model for Keras.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lenet5.core import dataset, files
from lenet5.core.dataset import Dataset, Description, Split
from lenet5.core.errors import DataError, TrainingError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, EvaluationDetails, Lineage, SplitInterval
from lenet5.model import metrics, onnx_session
from lenet5.stages.evaluate import figures, label_errors, out_of_fold, report, robustness, slices
from lenet5.stages.evaluate.inspection import Inspector
from lenet5.stages.evaluate.params import Evaluate

LABEL_ERRORS = 25
"""Pictures in the figure of likely label errors."""


def run(paths: Paths, params: Evaluate) -> str:
    """Score the saved model on all images; write metrics, and predictions and plots of the test images.

    Returns:
        The accuracy of each split and the main metrics, in one line each.

    Raises:
        DataError: the images are damaged or belong to another dataset than the model, or the model file is
            missing or differs from the one that training recorded.
        UsageError: the data card is missing or damaged.
        TrainingError: the model's answers are not probabilities.
    """
    raw = dataset.load(paths.raw)
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
    description = _require_description(raw.manifest.description, onnx_session.description(session))
    classes = description.classes
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
    inspector = Inspector(content)
    scores = {
        name: _score(inspector, processed, name, raw.splits["train"]) for name in ("train", "validation")
    }
    scores["test"] = _Score(
        int((probabilities.argmax(axis=1) == test.labels).sum()),
        len(test.labels),
        label_errors.rank("test", test.labels, probabilities),
    )
    accuracy = {name: score.correct / score.images for name, score in scores.items()}
    splits = {name: _interval(accuracy[name], score.images) for name, score in scores.items()}
    ranked = label_errors.lowest(pd.concat([score.label_errors for score in scores.values()]))
    doubted = label_errors.named(ranked, classes)
    train = raw.splits["train"]
    bins = slices.membership(test.images, test.labels, train.images, train.labels, classes)
    by_slice = slices.accuracies(bins, predictions, classes)

    answers = robustness.score(session, test.images, test.labels, params.robustness)
    by_severity = robustness.summary(answers)
    summaries: dict[str, Any] = {
        "train_accuracy": accuracy["train"],
        "val_accuracy": accuracy["validation"],
        **metrics.summarize(predictions, params.calibration_bins),
        **robustness.summarize(answers),
    }
    main = {name: summaries.pop(name) for name in Evaluation.model_fields}

    files.write_parquet(paths.predictions, predictions)
    files.write_parquet(paths.robustness, robustness.table(answers))
    evaluation = Evaluation(**main)
    evaluation.write(paths.evaluation)
    details = EvaluationDetails(
        model=lineage.model,
        test_data=raw.manifest.splits["test"].digest,
        predictions=files.sha256(paths.predictions)[:16],
        onnx_file=lineage.onnx_file,
        images=len(predictions),
        splits=splits,
        **summaries,
    )
    details.write(paths.evaluation_details)
    files.write_csv(paths.per_class, metrics.by_class(predictions, classes))
    files.write_csv(paths.confusion, _named(predictions[["label", "predicted"]], classes))
    files.write_csv(paths.calibration, calibration)
    files.write_csv(paths.robustness_plot, by_severity)
    files.write_parquet(paths.slices, bins)
    files.write_csv(paths.slice_accuracy, by_slice)
    files.write_csv(paths.label_errors, doubted)
    with figures.default_style(), files.replacing(paths.figures) as partial:
        partial.mkdir()
        for name, figure in {
            "learning_curves": figures.learning_curves(history),
            "confusion": figures.confusion(predictions, classes),
            "calibration": figures.calibration(calibration),
            "mistakes": figures.mistakes(test.images, predictions, params.mistakes, description),
            "robustness": figures.robustness(by_severity),
            "slices": figures.slices(by_slice),
            "confused_pairs": figures.confused_pairs(
                test.images, predictions, slices.confused_pairs(predictions), description
            ),
            "label_errors": _draw_label_errors(raw, doubted.head(LABEL_ERRORS)),
        }.items():
            figure.savefig(partial / f"{name}.png", dpi=120, metadata={"Software": None})
    files.write_text(paths.report, report.build(paths, test))
    return "\n".join(
        f"{each.images:,} {name} images: accuracy {accuracy[name]:.4f} ({each.low:.4f} to {each.high:.4f})"
        for name, each in splits.items()
    ) + (
        f", worst class recall {evaluation.worst_class_recall:.4f}, loss {details.loss:.4f}, "
        f"calibration error {evaluation.calibration_error:.4f}, "
        f"mean accuracy on corrupted images {evaluation.mean_corruption_accuracy:.4f}"
    )


def _require_description(of_data: Description, of_model: Description) -> Description:
    """Compare what the images show with what the model was trained on; the digests do not cover it.

    Raises:
        DataError: the two differ.
    """
    if of_data != of_model:
        raise DataError(
            "The model was trained on other classes, or for other pictures, than the data has.",
            expected=of_data.model_dump_json(),
            found=of_model.model_dump_json(),
            fix="train the model again: `dvc repro`",
        )
    return of_data


def _named(codes: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Replace positions of classes by the names."""
    names = np.array(classes, object)
    return codes.apply(lambda column: names[column])


def _model_file(paths: Paths) -> bytes:
    try:
        return files.read_bytes(paths.onnx)
    except FileNotFoundError:
        raise DataError(
            "There is no model to evaluate.",
            expected=paths.onnx,
            fix="`dvc repro train` writes it",
        ) from None


@dataclass(frozen=True)
class _Score:
    """What the model answers for the images of one split."""

    correct: int
    images: int
    label_errors: pd.DataFrame


def _score(inspector: Inspector, processed: Dataset, name: str, raw: Split) -> _Score:
    """Score the raw pixels of a processed split.

    Args:
        inspector: the model.
        processed: the dataset that was made from the raw train split.
        name: ``train`` or ``validation``.
        raw: the raw train split, whose positions the label errors have.
    """
    split = processed.splits[name]
    *_, features, _ = inspector.layers
    parts = list(dataset.chunks(len(split.images)))
    labels = np.concatenate([split.labels[part].argmax(axis=1) for part in parts])

    def pixels(part: slice) -> NDArray[np.uint8]:
        return dataset.raw_pixels(split.images[part], processed.manifest.padding)

    def activations(part: slice) -> NDArray[np.float32]:
        return inspector.activations(pixels(part), [features.name])[features.name]

    correct, tables = 0, []
    for part in parts:
        probabilities = inspector.probabilities(pixels(part))
        correct += int((probabilities.argmax(axis=1) == labels[part]).sum())
        if name != "train":
            tables.append(label_errors.rank(name, labels[part], probabilities, part.start))
    if name == "train":
        scored = out_of_fold.probabilities(activations, labels, split.labels.shape[1], parts)
        tables = [label_errors.rank(name, labels[part], shares, part.start) for part, shares in scored]
    doubted = label_errors.lowest(pd.concat(tables))
    pictures = dataset.raw_pixels(split.images[doubted["index"]], processed.manifest.padding)
    doubted["index"] = label_errors.positions(pictures, doubted["label"].to_numpy(), raw)
    return _Score(correct, len(split.labels), doubted)


def _draw_label_errors(raw: Dataset, doubted: pd.DataFrame) -> Figure:
    test, train = raw.splits["test"].images, raw.splits["train"].images
    places = zip(doubted["split"], doubted["index"], strict=True)
    pictures = [(test if split == "test" else train)[index] for split, index in places]
    images = np.array(pictures, np.uint8).reshape(-1, *test.shape[1:])
    return figures.label_errors(images, doubted, raw.manifest.description.pictures)


def _interval(accuracy: float, images: int) -> SplitInterval:
    low, high = metrics.wilson(accuracy, images)
    return SplitInterval(images=images, low=low, high=high)
