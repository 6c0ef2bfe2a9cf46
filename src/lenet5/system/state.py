"""Where local state lies: everything below ``.lenet5`` that neither git nor DVC tracks."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lenet5.core import files

_OWNER_ONLY = 0o700

UI_PORTS = {"mlflow": 5000, "prefect": 4200, "tensorboard": 6006}
"""Where `lenet5 ui` serves the local state, unless other ports are chosen."""


@dataclass(frozen=True)
class LocalState:
    """The git-ignored files of one checkout: databases, server homes, locks, caches."""

    root: Path
    """The checkout, as in ``Paths.root``."""

    @property
    def folder(self) -> Path:
        """Return the folder that holds all of it.

        ``dvc exp run --queue`` works in copies below ``.dvc/tmp/exps``, and a worker works in copies below
        ``.lenet5/workspaces``. Both share the state of the checkout that they belong to.
        """
        for parent in self.root.parents:
            if parent.parts[-3:] == (".dvc", "tmp", "exps"):
                return parent.parents[2] / ".lenet5"
            if parent.parts[-2:] == (".lenet5", "workspaces"):
                return parent.parent
        return self.root / ".lenet5"

    def prepare(self) -> None:
        """Create the folder for its owner only, and folders in it that tools would create otherwise.

        Raises:
            DataError: something else than a file is in the place of a database; SQLite would wait for a pipe.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Without its home folder, Prefect's embedded server fails after two minutes and prints no reason.
        (self.folder / "prefect").mkdir(exist_ok=True)
        (self.folder / "dvc" / "repo").mkdir(parents=True, exist_ok=True)
        # databases and logs are the user's own; DVC makes its folders writable for everybody
        for folder in (self.folder, self.folder / "dvc", self.folder / "dvc" / "repo"):
            if folder.stat().st_uid == os.geteuid() and stat.S_IMODE(folder.stat().st_mode) != _OWNER_ONLY:
                folder.chmod(_OWNER_ONLY)
        for database in (
            self.mlflow_database,
            self.folder / "prefect" / "prefect.db",
            self.sweeps / "sweeps.db",
        ):
            files.regular(database)

    @property
    def mlflow(self) -> Path:
        """Return the folder of the embedded tracking store."""
        return self.folder / "mlflow"

    @property
    def mlflow_database(self) -> Path:
        """Return the SQLite file of the embedded tracking store."""
        return self.mlflow / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Return the folder of the artifacts of the embedded tracking store."""
        return self.mlflow / "artifacts"

    @property
    def models(self) -> Path:
        """Return the folder of downloaded ONNX files, each named after its SHA-256."""
        return self.folder / "models"

    @property
    def reports(self) -> Path:
        """Return the folder of the pages that ``lenet5 report`` and ``lenet5 compare`` write."""
        return self.folder / "reports"

    @property
    def serving(self) -> Path:
        """Return the folder of the HTTP service: its inference log, and the version that it served last."""
        return self.folder / "serving"

    @property
    def run_log(self) -> Path:
        """Return the log of the last `lenet5 run`: what Prefect, DVC and the stages printed."""
        return self.folder / "run.log"

    @property
    def sweeps(self) -> Path:
        """Return the folder of the embedded sweep database, with one lock file for each running sweep."""
        return self.folder / "sweeps"

    @property
    def tensorboard(self) -> Path:
        """Return the folder of TensorBoard event files, one folder for each training."""
        return self.folder / "tensorboard"

    @property
    def training_locks(self) -> Path:
        """Return the folder of lock files that keep the same training from running twice at once."""
        return self.folder / "training"

    @property
    def workspaces(self) -> Path:
        """Return the folder of workspaces: one checkout for each flow run of this machine's workers."""
        return self.folder / "workspaces"

    @property
    def in_workspace(self) -> bool:
        """Return whether the checkout is one of these."""
        return self.root.parent == self.workspaces

    @property
    def checkout_lock(self) -> Path:
        """Return the file that a flow run locks while it works in this checkout."""
        return self.root / ".dvc" / "tmp" / "lenet5-flow.lock"
