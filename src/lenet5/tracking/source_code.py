"""Which code made a model: the git commit, and the patch of what was not committed.

``dvc.lock`` does not count: the run itself writes it, and it is kept beside the patch as it is.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lenet5.core import files, stage_code
from lenet5.core.paths import Paths
from lenet5.system import git
from lenet5.system.git import Source
from lenet5.tracking.embedded_client import Client
from lenet5.tracking.tags import COMMIT, DIRTY, PATCH

PATCH_FILE = "code/uncommitted.patch"
LOCK = "dvc.lock"


def find(paths: Paths, result: Path | None = None) -> Source | None:
    """Return the source code in a checkout; None outside a git repository.

    Args:
        paths: the checkout.
        result: an output that may have been made earlier. Its code is then the commit whose ``dvc.lock``
            first named this file, if everything that the graph reads is the same as in that commit.

    Raises:
        GitFailed: git cannot read the checkout.
    """
    if result and git.is_checkout(paths.root):
        first = git.first_commit_with(paths.root, files.md5(result), LOCK)
        if first and git.is_unchanged_since(paths.root, first, stage_code.sources(paths)):
            return Source(first, b"")
    return git.source(paths.root, exclude=[LOCK])


def tags(source: Source) -> dict[str, str]:
    """Return the tags by which a run or a version names its source code."""
    patch = hashlib.sha256(source.patch).hexdigest() if source.patch else ""
    return {COMMIT: source.commit, DIRTY: str(bool(source.patch)).lower(), PATCH: patch}


def is_from(version_tags: Mapping[str, str], source: Source) -> bool:
    """Return whether a version with these tags was made from this commit and patch."""
    return all(version_tags.get(name) == value for name, value in tags(source).items())


def record(client: Client, run_id: str, source: Source | None) -> None:
    """Log the source code of a run: its tags, and the patch as an artifact."""
    if source is None:
        return
    if source.patch:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(PATCH_FILE).name
            file.write_bytes(source.patch)
            client.log_artifact(run_id, str(file), str(Path(PATCH_FILE).parent))
    for name, value in tags(source).items():
        client.set_tag(run_id, name, value)
