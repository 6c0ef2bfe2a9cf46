"""Define the JSON files that one stage writes and another reads. Their keys are the names of the metrics."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lenet5.core import files
from lenet5.core.errors import DataError


class Result(BaseModel):
    """A JSON file that one stage writes and another reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    def write(self, path: Path) -> None:
        """Write the file atomically; equal results give equal bytes."""
        files.write_json(path, self.model_dump(mode="json"))

    def metrics(self) -> dict[str, float]:
        """Return the numbers by dotted name, such as ``accuracy`` or ``drift.ink_drift_test``."""
        return dict(_numbers(self.model_dump()))

    def require(self, **digests: str) -> None:
        """Compare digests of existing files with the recorded ones.

        Args:
            digests: the digests by the name of their field.

        Raises:
            DataError: a digest differs: a file was changed, or it belongs to another model or other data.
        """
        for name, digest in digests.items():
            if digest != getattr(self, name):
                raise DataError(
                    f"The {name.replace('_', ' ')} differs from the one that the "
                    f"{type(self).__name__.lower()} recorded: it was changed, or belongs to another model.",
                    expected=getattr(self, name),
                    found=digest,
                    fix="`dvc checkout --force` restores the files of dvc.lock, `dvc repro` updates the rest",
                )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            DataError: the file is missing, no regular file, or does not hold this result.
        """
        try:
            return cls.model_validate_json(files.read_bytes(path))
        except FileNotFoundError:
            problem = "no such file"
        except ValidationError as error:
            problem = str(error)
        raise DataError(
            f"{path} cannot be used.",
            expected=f"a {cls.__name__}",
            found=problem,
            fix="`dvc repro` writes it",
        )


class CheckSummary(Result):
    """The result of one check of the raw data, in words."""

    name: str
    what: str
    """What the check compares."""
    expected: str
    seen: str
    success: bool
    failed_rows: int
    """Number of images that the check rejects; 0 where it rejects a whole distribution."""


class Validation(Result):
    """Whether the raw data passed all checks."""

    success: bool
    data_digest: str
    """SHA-256 of the raw dataset."""
    images: dict[str, int]
    """Number of images by split."""
    drift: dict[str, float | None]
    """Kullback-Leibler divergence in nats by check; null where a split has no images to compare."""
    unexpected_images: dict[str, int]
    """Number of unexpected images by check; a limit may allow some."""
    checks: list[CheckSummary]


class Environment(Result):
    """Everything except data, parameters and code that decides the bytes of a trained model."""

    requirements: str
    """SHA-256 of ``requirements.lock``."""
    packages: dict[str, str]
    """Versions of Keras, of the engine and of NumPy, by package."""
    switches: list[str]
    """Environment variables of the engine that can change a result, as ``NAME=value``."""
    device: str
    """The device that trained: ``CPU``, or the kind of GPU."""


class Lineage(Result):
    """SHA-256 digests of a model and of its inputs; no clock, no host name, no run id."""

    training: str
    """Identity of the training: processed data, parameters, code and engine."""
    raw_data: str
    processed_data: str
    weights: str
    model_file: str
    """Of the bytes of the ``.keras`` file."""
    onnx_file: str
    """Of the bytes of the ONNX file, which gives the answers of the ``.keras`` file."""
    environment: Environment

    @property
    def model(self) -> str:
        """Return the first 16 digits of ``model_file``, which identify a model in tables."""
        return self.model_file[:16]


class Training(Result):
    """Metrics of a training. ``plots/history.csv`` has the losses and accuracies of each epoch."""

    epochs: int
    best_epoch: int
    parameters: int
    """Number of weights."""
    val_loss: float
    """At the best epoch, in nats, with label smoothing."""
    temperature: float
    """Divisor of the logits that is folded into the last layer; 1 without ``train.calibration``."""


class Evaluation(Result):
    """The main metrics of a model, 0 to 1: those that ``dvc exp show`` and ``dvc metrics diff`` show.

    They are about all test images, if the name has no other split. :class:`EvaluationDetails` has the rest.
    """

    accuracy: float
    train_accuracy: float
    """Without augmentation."""
    val_accuracy: float
    """On the validation images."""
    mean_corruption_accuracy: float
    """Mean of :attr:`EvaluationDetails.corruption_accuracy`."""
    calibration_error: float
    """Expected calibration error (Guo et al., 2017, equation 3)."""
    worst_class_recall: float


class SplitInterval(Result):
    """Wilson's interval of 95 % confidence for the accuracy on every image of one split."""

    images: int
    low: float
    high: float


class EvaluationDetails(Result):
    """The other metrics of a model, and SHA-256 digests of what was scored."""

    model: str
    """The model that was scored: :attr:`Lineage.model`."""
    test_data: str
    """Digest of the test images and labels."""
    predictions: str
    """First 16 digits of the digest of the predictions that the metrics summarize."""
    onnx_file: str
    """Digest of the ONNX file that was scored."""
    images: int
    """Number of test images."""
    loss: float
    """Cross-entropy without label smoothing, in nats."""
    calibration_error_low: float
    """Lower end of its interval of 95 % confidence: :func:`lenet5.model.metrics.calibration_interval`."""
    calibration_error_high: float
    """Upper end of the interval."""
    splits: dict[str, SplitInterval]
    """``train`` without augmentation, ``validation`` and ``test``."""
    corruption_accuracy: dict[str, float]
    """Accuracy on the corrupted test images by corruption, over all severities."""
    retained_accuracy: float
    """``mean_corruption_accuracy`` / accuracy on the same images without corruption."""
    corrupted_images: str
    """Digest of the corrupted images: two models with the same digest were scored on the same images."""


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value
