"""Derive what a checkout needs for another data set: parameters, reference profile and data card.

The data decides classes, size, number of epochs, and the limits of checks and gate. All of them are written
to ``params.yaml``, where a person can read and change them.
"""

import io
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from ruamel.yaml import YAML

from lenet5.core import dataset, files
from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.stages import params as all_params
from lenet5.stages.ingest import inspection
from lenet5.stages.ingest import stage as ingest
from lenet5.stages.ingest.inspection import Found
from lenet5.stages.ingest.params import Addition, AdditionChecksums, Format, Ingest
from lenet5.stages.params import Params
from lenet5.stages.validate import reference
from lenet5.system.state import LocalState

if TYPE_CHECKING:
    from lenet5.stages.validate.check_result import CheckResult

_SMALLEST_SIDE = 16
"""Smaller images are padded to it: LeNet-5 halves an image twice, and cuts its border twice."""
_STEPS = 1100
"""Steps of a training, about those of MNIST's default: 2 epochs of 573 steps."""
_MOST_EPOCHS = 60
_VALIDATION_SHARE = 12
"""One of so many train images validates, as in MNIST's default: 5,000 of 60,000."""
_MIDDLE_GREY = 127
"""Above it a pixel counts as ink where the background is not black, such as in photographs."""
_CALIBRATION_IMAGES = 100
"""Validation images that the temperature needs."""
_LISTED = 4
_CARD_HEADER = """\
# What the data set is, for model card, report page, MLflow and `lenet5 predict`. params.yaml has the classes.
"""
_CARD_END = """\
# Complete it: licence (an SPDX identifier; without it: not stated), creators (a list), citation, url,
# intended_use, limits (a list of sentences).
"""


@dataclass(frozen=True)
class Proposal:
    """What changes for the new data set. Nothing in the checkout is changed yet."""

    found: Found
    values: Mapping[str, Any]
    """Every derived parameter, by dotted name."""
    params: str
    """The new content of ``params.yaml``."""
    card: str
    """The new content of ``data/card.yaml``."""
    reference: str
    """What the reference profile says of the data, in one line or more."""
    refused: Sequence["CheckResult"]
    """The checks that the data fails, even with these values."""
    folder: Path
    """Holds both files of the new reference profile, under the names that they have in ``data``."""

    def write(self, paths: Paths) -> None:
        """Write the files into the checkout, ``params.yaml`` last."""
        for name in (paths.reference.name, reference.classifier_path(paths.reference).name):
            files.write_bytes(paths.reference.with_name(name), files.read_bytes(self.folder / name))
        files.write_text(paths.data_card, self.card)
        files.write_text(paths.params, self.params)


@contextmanager
def proposal(
    paths: Paths,
    params: Params,
    source: str,
    *,
    format: Format = "auto",
    name: str | None = None,
    licence: str | None = None,
    classes: Sequence[str] = (),
    transpose: bool = False,
    progress: Progress,
) -> Iterator[Proposal]:
    """Look at a source, and yield what must change for it. The temporary files end with the block.

    Args:
        paths: the checkout.
        params: its present parameters; what the data does not decide stays.
        source: a folder, a file, a URL or ``sklearn:digits``.
        format: the kind of the source.
        name: of the data set; by default the last part of the source.
        licence: an SPDX identifier; None if it is not stated.
        classes: names for a source that numbers its classes from 0; empty for the own names of the source.
        transpose: whether rows and columns are exchanged in the source.
        progress: shows what is read.

    Raises:
        UsageError, Unavailable, DataError: the source cannot be read, or its images cannot be used; the names
            are not those of its classes.
    """
    state = LocalState(paths.root)
    state.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state.folder) as temporary:
        scratch = Paths(Path(temporary))
        found = inspection.inspect(
            source,
            paths.root,
            format=format,
            max_megabytes=params.ingest.max_megabytes,
            attempts=params.ingest.attempts,
            scratch=scratch.root,
            progress=progress,
        )
        _require_classes(found)
        if classes:
            found = _named(found, classes)
        name = name or default_name(source)
        values = _from_source(found, name, transpose)
        ingest_params = params.changed(values).ingest
        checksums = ingest.run_unpinned(
            paths.root, ingest_params, scratch.raw, progress=Progress(disable=True)
        )
        values |= {f"ingest.sha256.{key}": digest for key, digest in checksums.model_dump().items()}
        raw = dataset.load_manifest(scratch.raw)
        train, test = (raw.splits[split].images.shape[0] for split in ("train", "test"))
        values |= _from_sizes(train, test, params, len(found.classes))
        summary = reference.update(scratch, params.changed(values).validate_)
        agreement = reference.load(
            scratch.reference, params.changed(values).validate_
        ).profile.statistics.agreement
        values |= _floors(agreement, test)
        values["train.epochs"] = _epochs(agreement, train - values["preprocess.validation_images"], params)
        files.write_bytes(scratch.params, files.read_bytes(paths.params))
        all_params.write(scratch.params, values)
        yield Proposal(
            found=found,
            values=values,
            params=files.read_text(scratch.params),
            card=_card(found, name, licence, train, test),
            reference=summary.replace(f"{scratch.root}/", ""),
            refused=_refused(scratch, params.changed(values)),
            folder=scratch.reference.parent,
        )


def with_addition(paths: Paths, params: Params, source: str, format: Format, progress: Progress) -> Ingest:
    """Read one more source for train; return the section ``ingest`` with it and its checksums.

    Raises:
        UsageError, Unavailable, DataError: the source cannot be read, or its images or labels do not fit.
    """
    unknown = AdditionChecksums(images="0" * 64, labels="0" * 64)
    added = Addition(source=source, format=format, sha256=unknown)
    earlier = params.ingest.additions
    wanted = params.ingest.model_copy(update={"additions": [*earlier, added]})
    pins = ingest.current_pins(paths, wanted, progress=progress)
    pinned = added.model_copy(update={"sha256": pins.additions[-1]})
    return params.ingest.model_copy(update={"additions": [*earlier, pinned]})


def default_name(source: str) -> str:
    """Return a name for the data set of a source: the last part of its path."""
    plain = mask_urls(source).partition("?")[0].rstrip("/")
    path = PurePosixPath(plain.removeprefix("sklearn:"))
    name = re.sub(r"(\.(gz|csv|tsv|npz|parquet|arff|idx\d-ubyte))+$", "", path.name)
    return name if name not in ("", ".", "..", "data", "raw") else path.parent.name or "data"


def _require_classes(found: Found) -> None:
    if len(found.classes) < 2:
        raise DataError(
            f"{mask_urls(found.source)} has only one class.",
            expected="images of two classes or more",
            found=", ".join(found.classes),
            fix="check which column, folder or array has the labels",
        )


def _named(found: Found, classes: Sequence[str]) -> Found:
    """Return the same with other names of the classes."""
    if list(found.classes) != [str(number) for number in range(len(classes))]:
        raise UsageError(
            "These names cannot be given to the classes.",
            expected=f"one name for each class, and classes that are numbered from 0 to {len(classes) - 1}",
            found=f"{len(classes)} names for the classes {', '.join(found.classes[:_LISTED])}, …",
            fix="leave out --classes, or give as many names as there are classes, in their order",
        )
    counts = {
        split: dict(zip(classes, numbers.values(), strict=True)) for split, numbers in found.counts.items()
    }
    return replace(found, classes=tuple(classes), counts=counts)


def _from_source(found: Found, name: str, transpose: bool) -> dict[str, Any]:
    """Return the parameters that the kind and the look of the images decide."""
    dark = found.channels == 1 and not found.light_background
    return {
        "ingest.source": found.source,
        "ingest.format": found.format,
        "ingest.classes": list(found.classes),
        "ingest.image.size": found.size,
        "ingest.image.channels": found.channels,
        "ingest.image.fit": found.fit,
        "ingest.image.transpose": transpose,
        "ingest.pictures": "object" if dark else "whole",
        "ingest.additions": [],
        "validate.height": found.size,
        "validate.width": found.size,
        "validate.channels": found.channels,
        "validate.ink_threshold": 0 if dark else _MIDDLE_GREY,
        "preprocess.padding": max(0, math.ceil((_SMALLEST_SIDE - found.size) / 2)),
        "register.model_name": f"lenet5-{slug(name)}",
    }


def slug(name: str) -> str:
    """Return a name in lower case, with other characters than letters and digits replaced by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"


def _from_sizes(train: int, test: int, params: Params, classes: int) -> dict[str, Any]:
    """Return the parameters that the numbers of images decide.

    Chance moves a share of n images by an amount that is proportional to 1 / sqrt(n). The limits of the gate
    are those of MNIST's default for its 10,000 test images, and wider for fewer.
    """
    validation = min(5000, max(classes, train // _VALIDATION_SHARE))
    chance = 100 / math.sqrt(test)  # 1 for 10,000 test images
    return {
        "preprocess.validation_images": validation,
        "train.calibration": "temperature" if validation >= _CALIBRATION_IMAGES else "none",
        "register.ceilings.calibration_error": _rounded(min(0.5, 0.02 + 0.02 * chance)),
        "register.gate.margin": _rounded(min(0.1, 0.003 * max(1, chance))),
        "register.gate.slice_margin": _rounded(min(0.3, 0.01 * max(1, chance))),
        "register.gate.max_drop": _rounded(min(0.3, 0.02 * max(1, chance))),
    }


def _epochs(agreement: Mapping[str, float], images: int, params: Params) -> int:
    """Return a number of epochs: the steps of MNIST's default, up to five times as many for harder data.

    How hard the data is, the reference classifier says: it agrees with 96 % of MNIST's labels.
    """
    errors = 1 - sum(agreement.values()) / len(agreement)
    steps = _STEPS * min(5.0, max(1.0, errors / 0.04))
    return min(_MOST_EPOCHS, max(2, math.ceil(steps / math.ceil(images / params.train.batch_size))))


def _floors(agreement: Mapping[str, float], test: int) -> dict[str, float]:
    """Return floors of the gate from the reference classifier, which has a closed form.

    A network that is clearly worse than it is not worth a promotion: 0.05 below it, and what chance explains.
    A single class, and corrupted images, need half of its agreement.
    """
    mean = sum(agreement.values()) / len(agreement)
    return {
        "register.floors.accuracy": _rounded(max(1 / len(agreement), mean - 0.05 - 1 / math.sqrt(test))),
        "register.floors.worst_class_recall": _rounded(min(agreement.values()) / 2),
        "register.floors.mean_corruption_accuracy": _rounded(mean / 2),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _refused(scratch: Paths, params: Params) -> Sequence["CheckResult"]:
    """Return the checks that the data fails with these parameters."""
    from lenet5.stages.validate import stage  # Great Expectations takes seconds to import

    try:
        stage.run(scratch, params.validate_)
    except stage.ValidationFailed as error:
        return error.failed
    return ()


def _card(found: Found, name: str, licence: str | None, train: int, test: int) -> str:
    """Return a data card, which a person completes."""
    names = ", ".join(found.classes[:_LISTED]) + (", …" if len(found.classes) > _LISTED else "")
    colour = "RGB" if found.channels == 3 else "grey"
    content = {
        "name": name,
        "subject": f"{name} images",
        "description": (
            f"{train + test:,} {colour} images of {len(found.classes):,} classes ({names}), {found.size} x "
            f"{found.size} pixels: {train:,} for training and {test:,} for testing."
        ),
        **({"licence": licence} if licence else {}),
    }
    yaml = YAML()
    yaml.width = 110
    text = io.StringIO()
    yaml.dump(content, text)
    return f"{_CARD_HEADER}{text.getvalue()}{_CARD_END}"
