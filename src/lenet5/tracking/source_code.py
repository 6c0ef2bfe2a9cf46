"""Which code made a model: the git commit, and the patch of what was not committed.

``dvc.lock`` does not count: it is written by the run itself, and kept beside the patch as it is.
"""

import hashlib
import subprocess
from pathlib import Path

COMMIT = "mlflow.source.git.commit"
DIRTY = "git.dirty"

_ALL_BUT_THE_LOCK = ("--", ".", ":(exclude)dvc.lock")


def tags(root: Path, model: Path | None = None) -> dict[str, str]:
    """The commit and whether the tree was dirty; nothing outside a git repository.

    Args:
        root: the checkout.
        model: a model that was made earlier. Its code is not what lies here now but what was committed
            with the ``dvc.lock`` that first named this file, if any was.
    """
    head = _git(root, "rev-parse", "HEAD").strip()
    if not head:
        return {}
    if model and (first := _first_commit_that_locks(root, model)):
        return {COMMIT: first, DIRTY: "false"}
    return {COMMIT: head, DIRTY: str(bool(status(root))).lower()}


def _first_commit_that_locks(root: Path, model: Path) -> str:
    md5 = hashlib.md5(model.read_bytes(), usedforsecurity=False).hexdigest()  # as DVC names it
    commits = _git(root, "log", f"-S{md5}", "--format=%H", "--", "dvc.lock").split()
    return commits[-1] if commits else ""


def status(root: Path) -> str:
    """Changed and unknown files, a line each, as ``git status --porcelain`` gives them."""
    return _git(root, "status", "--porcelain", *_ALL_BUT_THE_LOCK)


def patch(root: Path) -> str:
    """What ``git apply`` needs to turn the commit into the tree, files that git does not know included."""
    unknown = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *_ALL_BUT_THE_LOCK).split("\0")[
        :-1
    ]
    added = [_git(root, "diff", "--binary", "--no-index", "/dev/null", name) for name in unknown]
    return "".join([_git(root, "diff", "--binary", "HEAD", *_ALL_BUT_THE_LOCK), *added])


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout
