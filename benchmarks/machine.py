"""Where and of what a figure was taken."""

import importlib.metadata
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers import REQUIREMENTS
from lenet5.system import environment

_PACKAGES = ("tensorflow", "keras", "numpy", "mlflow", "prefect", "dvc", "onnxruntime")


def facts() -> dict[str, str]:
    """The machine, without its name: the results are published."""
    return {name: value for name, value in environment.machine().items() if name != "host"}


def versions() -> dict[str, str]:
    """The product's packages as they are installed, and the peers' as they are pinned."""
    ours = {name: importlib.metadata.version(name) for name in _PACKAGES}
    lines = (line.split("==") for line in REQUIREMENTS.read_text().split() if "==" in line)
    return ours | {name: version for name, version in lines if name not in ours}


def commit(root: Path) -> tuple[str, bool]:
    """The commit that is checked out, and whether the code differs from it."""
    changed = _git(root, "status", "--porcelain", "--", ":!benchmarks/results", ":!README.md")
    return _git(root, "rev-parse", "HEAD"), bool(changed)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
