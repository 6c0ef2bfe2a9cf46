"""Which code made a model: the git commit, and the patch of what was not committed.

``dvc.lock`` does not count: it is written by the run itself, and kept beside the patch as it is.
"""

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from lenet5 import files

COMMIT = "mlflow.source.git.commit"
DIRTY = "git.dirty"
PATCH = "git.patch"
PATCH_FILE = "code/uncommitted.patch"

_ALL_BUT_THE_LOCK = ("--", ".", ":(exclude)dvc.lock")


@dataclass(frozen=True)
class Code:
    commit: str
    patch: bytes
    """What ``git apply`` needs to turn the commit into the tree; empty when nothing was changed."""

    def tags(self) -> dict[str, str]:
        patch = hashlib.sha256(self.patch).hexdigest() if self.patch else ""
        return {COMMIT: self.commit, DIRTY: str(bool(self.patch)).lower(), PATCH: patch}


def find(root: Path, result: Path | None = None) -> Code | None:
    """The code that lies in a checkout; None outside a git repository.

    Args:
        root: the checkout.
        result: a file that was made earlier. Its code is not what lies here now but what was committed
            with the ``dvc.lock`` that first named this file, if any was.
    """
    head = _git(root, "rev-parse", "HEAD").decode().strip()
    if not head:
        return None
    if result and result.exists() and (first := _first_commit_that_locks(root, result)):
        return Code(first, b"")
    return Code(head, patch(root))


def record(client: MlflowClient, run_id: str, code: Code | None) -> None:
    """Say in a run which code it is of."""
    if code is None:
        return
    if code.patch:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(PATCH_FILE).name
            file.write_bytes(code.patch)
            client.log_artifact(run_id, str(file), str(Path(PATCH_FILE).parent))
    for name, value in code.tags().items():
        client.set_tag(run_id, name, value)


def patch(root: Path) -> bytes:
    """The changes since the commit, files that git does not know included."""
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *_ALL_BUT_THE_LOCK)
    unknown = [name for name in listed.decode().split("\0") if name]
    added = [_git(root, "diff", "--binary", "--no-index", "/dev/null", name) for name in unknown]
    return b"".join([_git(root, "diff", "--binary", "HEAD", *_ALL_BUT_THE_LOCK), *added])


def _first_commit_that_locks(root: Path, file: Path) -> str:
    commits = _git(root, "log", f"-S{files.md5(file)}", "--format=%H", "--", "dvc.lock").decode().split()
    return commits[-1] if commits else ""


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False).stdout
    except FileNotFoundError:  # no git on this machine
        return b""
