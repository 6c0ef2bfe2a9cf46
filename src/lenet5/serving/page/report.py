"""Find the report page of the served version among the files of this machine."""

import hashlib
import json
from pathlib import Path

from lenet5.core import files
from lenet5.core.paths import Paths
from lenet5.registry import fast_lookup
from lenet5.registry.model_versions import REPORT
from lenet5.serving.model_watch import ServedModel
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking.tags import ARTIFACTS


def find(paths: Paths, served: ServedModel, *, ask_registry: bool) -> bytes | None:
    """Return the page, or None if this machine does not have it.

    It is the page that ``lenet5 report`` wrote, or the one of the last evaluation in this checkout, if that
    is the registered page of this version.

    Args:
        paths: the checkout.
        served: the version.
        ask_registry: whether the registry answers; without it, the second page cannot be compared.
    """
    written = _read(LocalState(paths.root).reports / f"{served.name.replace(' ', '-')}-{served.number}.html")
    if written is not None or not ask_registry:
        return written
    page = _read(paths.report)
    if page is None:
        return None
    version = fast_lookup.find(settings.load(paths), served.name, str(served.number))
    digests = json.loads(version.tags.get(ARTIFACTS, "{}")) if version else {}
    return page if digests.get(REPORT) == hashlib.sha256(page).hexdigest() else None


def _read(path: Path) -> bytes | None:
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        return None
