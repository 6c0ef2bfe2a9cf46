"""What the stages tell each other. These names are the metrics' names everywhere."""

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
        files.write_json(path, self.model_dump(mode="json"))

    def figures(self) -> dict[str, float]:
        """The numbers it holds, by dotted name: ``accuracy``, ``drift.ink_drift_test``."""
        return dict(_numbers(self.model_dump()))

    def require(self, **found: str) -> None:
        """Compare digests of files at hand with the recorded ones, by name.

        Raises:
            DataError: one differs: files of different models or data lie side by side, or one is damaged.
        """
        for name, digest in found.items():
            if digest != getattr(self, name):
                raise DataError(
                    f"The {name.replace('_', ' ')} is not what the {type(self).__name__.lower()} recorded: "
                    "it was changed, or belongs to another model.",
                    expected=getattr(self, name),
                    found=digest,
                    fix="`dvc checkout --force` puts back what dvc.lock names, `dvc repro` makes the rest",
                )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file back.

        Raises:
            DataError: it is missing or does not hold this result.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            found = "no such file"
        except ValidationError as error:
            found = str(error)
        raise DataError(
            f"{path} cannot be used.", expected=f"a {cls.__name__}", found=found, fix="`dvc repro` makes it"
        )


class CheckSummary(Result):
    """One question about the data, and its answer in words."""

    name: str
    what: str
    expected: str
    seen: str
    success: bool
    failed_rows: int


class Validation(Result):
    """Whether data may be used."""

    success: bool
    data_digest: str
    """Of the raw data that was looked at."""
    images: dict[str, int]
    """By split."""
    drift: dict[str, float | None]
    """Nats by check; null where a split has nothing to compare."""
    unexpected_images: dict[str, int]
    """By check; a limit may allow some."""
    checks: list[CheckSummary]
    """DVC's metrics show the numbers above and skip the list."""


class Environment(Result):
    """What decides the last bits of a training, beside data, parameters and code."""

    requirements: str
    """SHA-256 of ``requirements.lock``."""
    packages: dict[str, str]
    """The engine's versions, by package."""
    switches: list[str]
    """Variables that tell the engine how to do its sums: ``NAME=value``."""
    device: str
    """What training ran on: ``CPU``, or the kind of GPU."""


class Lineage(Result):
    """What a model was made from and what it is, as SHA-256 digests: no clock, no host, no run."""

    training: str
    """Of everything that decides the weights: processed data, parameters and code of the training."""
    raw_data: str
    processed_data: str
    weights: str
    model_file: str
    """Of the ``.keras`` file, as it lies on the disk."""
    environment: Environment

    @property
    def model(self) -> str:
        """Enough of ``model_file`` to tell models apart in a table."""
        return self.model_file[:16]


class Training(Result):
    """How the training went; losses in nats (with label smoothing), at the best epoch."""

    epochs: int
    best_epoch: int
    parameters: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


class Evaluation(Result):
    """How a model does on every test image."""

    model: str
    """Which model was scored: :attr:`Lineage.model`."""
    test_data: str
    """SHA-256 of the test images and labels."""
    predictions: str
    """Which predictions, one an image, these figures are of: the beginning of the file's SHA-256."""
    onnx_file: str
    """SHA-256 of the ONNX file that gave the same answers."""
    images: int
    accuracy: float
    loss: float
    """Cross-entropy without label smoothing, in nats."""
    worst_class_recall: float
    calibration_error: float
    """Expected calibration error: Guo et al., 2017, equation 3."""


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value
