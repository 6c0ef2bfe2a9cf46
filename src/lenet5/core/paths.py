"""Name the files that git or DVC tracks: what stages read and write."""

from dataclasses import dataclass
from pathlib import Path

from lenet5.core.errors import UsageError


@dataclass(frozen=True)
class Paths:
    """The tracked files of one checkout, all below ``root`` (the folder that holds ``dvc.yaml``).

    ``lenet5.system.state`` has the files that are not tracked.
    """

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Paths":
        """Find the checkout that holds ``start`` (the working directory by default).

        Raises:
            UsageError: neither ``start`` nor a folder above it holds a ``dvc.yaml``.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "dvc.yaml").is_file():
                return cls(folder)
        raise UsageError(
            "This is not inside a checkout of the project.",
            expected="a dvc.yaml in this folder or in one above it",
            found=start,
            fix="cd into the checkout and run the command again",
        )

    @property
    def graph(self) -> Path:
        return self.root / "dvc.yaml"

    @property
    def lock(self) -> Path:
        return self.root / "dvc.lock"

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def sweep(self) -> Path:
        """Return the file with the search space of ``lenet5 sweep``."""
        return self.root / "sweep.yaml"

    @property
    def requirements(self) -> Path:
        return self.root / "requirements.lock"

    @property
    def data_card(self) -> Path:
        """Return the file that says what the data set is."""
        return self.root / "data" / "card.yaml"

    # ingest
    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw"

    # validate
    @property
    def reference(self) -> Path:
        return self.root / "data" / "reference.json"

    @property
    def validation(self) -> Path:
        return self.root / "reports" / "validation.json"

    @property
    def data_docs(self) -> Path:
        return self.root / "reports" / "validation"

    @property
    def quarantine(self) -> Path:
        return self.root / "data" / "quarantine"

    # preprocess
    @property
    def processed(self) -> Path:
        return self.root / "data" / "processed"

    # train
    @property
    def model(self) -> Path:
        return self.root / "models" / "lenet5.keras"

    @property
    def onnx(self) -> Path:
        return self.root / "models" / "lenet5.onnx"

    @property
    def lineage(self) -> Path:
        return self.root / "models" / "lineage.json"

    @property
    def training(self) -> Path:
        return self.root / "metrics" / "training.json"

    @property
    def history(self) -> Path:
        return self.root / "plots" / "history.csv"

    # evaluate
    @property
    def evaluation(self) -> Path:
        return self.root / "metrics" / "evaluation.json"

    @property
    def evaluation_details(self) -> Path:
        return self.root / "reports" / "evaluation_details.json"

    @property
    def predictions(self) -> Path:
        return self.root / "reports" / "predictions.parquet"

    @property
    def per_class(self) -> Path:
        return self.root / "plots" / "per_class.csv"

    @property
    def confusion(self) -> Path:
        return self.root / "plots" / "confusion.csv"

    @property
    def calibration(self) -> Path:
        return self.root / "plots" / "calibration.csv"

    @property
    def robustness(self) -> Path:
        """Return the table with one row for each corruption, severity and image."""
        return self.root / "reports" / "robustness.parquet"

    @property
    def robustness_plot(self) -> Path:
        """Return the table with one row for each corruption and severity."""
        return self.root / "plots" / "robustness.csv"

    @property
    def slices(self) -> Path:
        """Return the table with the bins of each test image."""
        return self.root / "reports" / "slices.parquet"

    @property
    def slice_accuracy(self) -> Path:
        return self.root / "plots" / "slices.csv"

    @property
    def label_errors(self) -> Path:
        return self.root / "reports" / "label_errors.csv"

    @property
    def figures(self) -> Path:
        return self.root / "reports" / "figures"

    @property
    def report(self) -> Path:
        """Return the page that a person reads; it loads no other file."""
        return self.root / "reports" / "report.html"

    # register
    @property
    def model_card(self) -> Path:
        return self.root / "models" / "model_card.md"
