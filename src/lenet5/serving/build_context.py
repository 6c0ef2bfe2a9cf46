"""Write what `docker build` needs for an image that holds one version and asks no registry.

FOLDER/Dockerfile    adds the files below to the image `lenet5:serve`, and starts it offline
FOLDER/state/        as in .lenet5: models/<SHA-256>.onnx, serving/last-<name>-<version>.json, and
                     serving/references/*.json, which drift is compared with
"""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

from lenet5.core import files
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.serving import model_watch, predictor
from lenet5.serving import reference as usual
from lenet5.system.state import LocalState

log = logging.getLogger(__name__)

DOCKERFILE = """\
# Version {number} of {name}: docker build --tag {name}:{number} .
# The base is the target `serve` of the project's Dockerfile: docker build --target serve --tag lenet5:serve .
ARG SERVE_IMAGE=lenet5:serve
FROM ${{SERVE_IMAGE}}
LABEL org.opencontainers.image.title="{name}" org.opencontainers.image.version="{number}" \\
    lenet5.model.sha256="{digest}"
COPY --chown=10001:10001 state /app/.lenet5
CMD ["lenet5", "serve", "--host", "0.0.0.0", "--version", "{number}", "--offline"]
"""


def write(paths: Paths, name: str, reference: str, folder: Path) -> int:
    """Write the folder for a version, and return the number of the version.

    Args:
        paths: the checkout, for settings and downloaded models.
        name: of the registered model.
        reference: an alias or a number.
        folder: it is created; it must be empty.

    Raises:
        DataError: the version has no ONNX file, or not the registered one.
        UsageError: the folder is not empty, or there is no such version.
        Unavailable: the registry does not answer.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} cannot become a build context.",
            expected="a folder that is empty or does not exist",
            found="files in it" if folder.is_dir() else "something that is not a folder",
            fix="choose another folder, or remove it",
        )
    number, content = predictor.required_onnx_file(paths, name, reference)
    predictor.of_onnx(number, content)  # what cannot be loaded is not packed
    digest = hashlib.sha256(content).hexdigest()
    packed = replace(paths, root=folder)
    files.write_bytes(_packed(packed, predictor.cache_file(packed, digest)), content)
    record = model_watch.record_of_last(packed, name, str(number))
    files.write_json(_packed(packed, record), model_watch.remembered(number, digest))
    _add_reference(paths, packed, name, number, digest)
    files.write_text(folder / "Dockerfile", DOCKERFILE.format(number=number, name=name, digest=digest))
    return number


def _add_reference(paths: Paths, packed: Paths, name: str, number: int, digest: str) -> None:
    """Add what the version predicts for its own test images, if the registry has it."""
    try:
        usual.get(paths, name, number, digest)
    except Lenet5Error as error:
        log.warning("the image measures no drift: %s", error)
        return
    target = _packed(packed, usual.file(packed, name, number, digest))
    files.write_bytes(target, files.read_bytes(usual.file(paths, name, number, digest)))


def _packed(packed: Paths, path: Path) -> Path:
    """Return where the folder holds a file that the image has in its ``.lenet5``."""
    return packed.root / "state" / path.relative_to(LocalState(packed.root).folder)
