"""Which code made a model: the git commit, and the patch of what was not committed.

``dvc.lock`` does not count: it is written by the run itself, and kept beside the patch as it is.
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from lenet5.core import files
from lenet5.tracking.tags import COMMIT, DIRTY, PATCH

PATCH_FILE = "code/uncommitted.patch"

_ALL_BUT_THE_LOCK = ("--", ".", ":(exclude)dvc.lock")
_OF_THE_GRAPH = ("--", "dvc.yaml", "params.yaml", "requirements.lock", "data", "src")
# whatever the user's own settings say: colours, prefixes and external tools make patches that do not apply
_DIFF = (
    *("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)


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
        result: a file that may have been made earlier. Its code is then what was committed with the
            ``dvc.lock`` that first named this file, if all that the graph reads is still the same.
    """
    head = _git(root, "rev-parse", "HEAD").decode().strip()
    if not head:
        return None
    if result and (first := _first_commit_that_locks(root, result)) and _same_graph(root, first):
        return Code(first, b"")
    return Code(head, patch(root))


def made(tags: Mapping[str, str], code: Code) -> bool:
    """Whether a version with these tags came from this very commit and patch."""
    return all(tags.get(name) == value for name, value in code.tags().items())


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
    added = [
        _git(root, *_DIFF, "--no-index", "/dev/null", name) for name in _unknown(root, _ALL_BUT_THE_LOCK)
    ]
    return b"".join([_git(root, *_DIFF, "HEAD", *_ALL_BUT_THE_LOCK), *added])


def _unknown(root: Path, where: tuple[str, ...]) -> list[str]:
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *where)
    return [name for name in listed.decode().split("\0") if name]


def _same_graph(root: Path, commit: str) -> bool:
    return not _git(root, *_DIFF, commit, *_OF_THE_GRAPH) and not _unknown(root, _OF_THE_GRAPH)


def _first_commit_that_locks(root: Path, file: Path) -> str:
    commits = _git(root, "log", f"-S{files.md5(file)}", "--format=%H", "--", "dvc.lock").decode().split()
    return commits[-1] if commits else ""


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False).stdout
    except FileNotFoundError:  # no git on this machine
        return b""
