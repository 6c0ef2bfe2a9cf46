"""Where every file of the project lies. No other module spells a path."""

from dataclasses import dataclass
from pathlib import Path

from lenet5.errors import UsageError


@dataclass(frozen=True)
class Paths:
    """The files of one checkout, all below ``root`` (the folder that holds ``dvc.yaml``)."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Paths":
        """Find the checkout that holds ``start`` (the working directory by default).

        Raises:
            UsageError: no folder from ``start`` upwards holds a ``dvc.yaml``.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "dvc.yaml").is_file():
                return cls(folder)
        raise UsageError(
            "This is not inside a checkout of the project.",
            expected="a dvc.yaml in this folder or in one above it",
            found=start,
            do="cd into the checkout and run the command again",
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
        """What `lenet5 sweep` searches."""
        return self.root / "sweep.yaml"

    @property
    def requirements(self) -> Path:
        return self.root / "requirements.lock"

    @property
    def state(self) -> Path:
        """Git-ignored state: databases, servers' homes, locks.

        `dvc exp run --queue` works in copies below ``.dvc/tmp/exps``, and a worker in copies below
        ``.lenet5/workspaces``; they share the state of their checkout.
        """
        for folder in self.root.parents:
            if folder.parts[-3:] == (".dvc", "tmp", "exps"):
                return folder.parents[2] / ".lenet5"
            if folder.parts[-2:] == (".lenet5", "workspaces"):
                return folder.parent
        return self.root / ".lenet5"

    @property
    def downloaded(self) -> Path:
        """ONNX files of the registry that were used here, named after their SHA-256."""
        return self.state / "models"

    @property
    def sweeps(self) -> Path:
        """The trials of sweeps, and a lock for each that is at work."""
        return self.state / "sweeps"

    @property
    def workspaces(self) -> Path:
        """A folder a flow run of this machine's workers."""
        return self.state / "workspaces"

    @property
    def in_use(self) -> Path:
        """Locked by the flow run that works in this checkout."""
        return self.root / ".dvc" / "tmp" / "lenet5-flow.lock"

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
        return self.root / "metrics" / "validation.json"

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
    def lineage(self) -> Path:
        return self.root / "models" / "lineage.json"

    @property
    def training(self) -> Path:
        return self.root / "metrics" / "training.json"

    @property
    def history(self) -> Path:
        return self.root / "plots" / "history.csv"

    @property
    def tensorboard(self) -> Path:
        return self.state / "tensorboard"

    # evaluate
    @property
    def onnx(self) -> Path:
        return self.root / "models" / "lenet5.onnx"

    @property
    def evaluation(self) -> Path:
        return self.root / "metrics" / "evaluation.json"

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
    def figures(self) -> Path:
        return self.root / "reports" / "figures"

    # register
    @property
    def model_card(self) -> Path:
        return self.root / "models" / "model_card.md"
