"""Compare ``data/raw`` with the data that ``params.yaml`` pins."""

import hashlib
from collections.abc import Iterator

from lenet5.core import dataset
from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.params import Ingest


def require_current(paths: Paths, params: Ingest) -> None:
    """Reject ``data/raw`` that is not the data that ``params.yaml`` pins.

    Raises:
        DataError: the data is missing or damaged, or its images, labels or classes are other ones.
    """
    raw = dataset.load(paths.raw)
    changed = [name for name, found, expected in _compared(raw, params) if found != expected]
    if changed:
        raise DataError(
            f"{paths.raw} is not the data that params.yaml pins.",
            expected="the checksums and classes of the section ingest",
            found=f"other values of {', '.join(changed)}",
            fix="`lenet5 ingest` reads the source again; if it changed on purpose, run `lenet5 pin` before",
        )


def _compared(raw: dataset.Dataset, params: Ingest) -> Iterator[tuple[str, object, object]]:
    """Yield what params.yaml states of the raw data: its key, the value of the data, and that of the file."""
    description = raw.manifest.description
    yield "ingest.classes", description.classes, params.description.classes
    yield "ingest.pictures", description.pictures, params.pictures
    pins: dict[str, list[tuple[str, str, str]]] = {
        name: [
            (
                "ingest.sha256",
                getattr(params.sha256, f"{name}_images"),
                getattr(params.sha256, f"{name}_labels"),
            )
        ]
        for name in raw.splits
    }
    pins.setdefault("train", []).extend(
        (f"ingest.additions.{number}.sha256", addition.sha256.images, addition.sha256.labels)
        for number, addition in enumerate(params.additions)
    )
    for name, split in raw.splits.items():
        origins = [rows for rows in raw.manifest.origins if rows.split == name]
        bounds = [slice(rows.start, rows.start + rows.count) for rows in origins] or [slice(None)]
        if len(bounds) != len(pins[name]):
            yield "ingest.additions", len(bounds), len(pins[name])
            continue
        for rows, (key, images, labels) in zip(bounds, pins[name], strict=True):
            prefix = f"{key}.{name}_" if key == "ingest.sha256" else f"{key}."
            yield f"{prefix}images", _checksum(split.images[rows]), images
            yield f"{prefix}labels", _checksum(split.labels[rows]), labels


def _checksum(array: Array) -> str:
    """Return the checksum of an array as params.yaml pins it: that of its IDX content."""
    digest = hashlib.sha256()
    for part in idx.encode_chunks(array):
        digest.update(part)
    return digest.hexdigest()
