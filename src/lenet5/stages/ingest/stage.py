"""Run the stage ``ingest``: read the source, compare checksums, write the arrays to ``data/raw``."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.progress import Progress

from lenet5.core import dataset
from lenet5.core.dataset import Array, Rows, Split, chunks
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.stages.ingest.collect import Content, collect, concatenated, divided, require_pairs
from lenet5.stages.ingest.params import AdditionChecksums, Checksums, Format, Ingest, Pins
from lenet5.stages.ingest.sources.contract import TEST, TRAIN
from lenet5.stages.ingest.sources.detect import open_source

log = logging.getLogger(__name__)

_NO_PROGRESS = Progress(disable=True)
_INDENT = "\n            "  # aligns further lines with the first one


def run(paths: Paths, params: Ingest, *, progress: Progress = _NO_PROGRESS) -> str:
    """Write train and test to ``data/raw``.

    Images are uint8 (N, size, size), or (N, size, size, 3) for RGB. Labels are positions in the classes,
    uint8 (N,), or uint16 with more than 256 classes. The images of additions follow those of the source, in
    train alone: so test stays the same. After an error, ``data/raw`` is unchanged.

    Args:
        paths: the checkout.
        params: the source and its pinned checksums.
        progress: shows the transfer of each file.

    Returns:
        One line for each split: its shape, the start of its checksum, its folder.

    Raises:
        UsageError: the source is not valid, or its driver is not installed.
        Unavailable: the source does not answer.
        DataError: a file is missing, damaged, too large, or has another checksum than the pinned one; an
            image or a label is not as ``params`` states.
    """
    with progress:
        base = _read(paths.root, params, paths.raw.parent, progress)
        _require_pinned(base, params.sha256.model_dump(), "ingest.sha256")
        additions = []
        for number, addition in enumerate(params.additions):
            content = _read_addition(paths.root, params, number, paths.raw.parent, progress)
            _require_pinned(content, addition.sha256.model_dump(), f"ingest.additions.{number}.sha256")
            additions.append(content)
    return _save(paths.raw, params, base, additions)


def run_unpinned(root: Path, params: Ingest, raw: Path, *, progress: Progress = _NO_PROGRESS) -> Checksums:
    """Write what the source holds now to the folder ``raw``, without its additions; return its checksums.

    This is for data that ``params.yaml`` does not describe yet; :func:`run` compares checksums.

    Args:
        root: the checkout, to which a relative path of the source belongs.
        params: the source and the look of its images.
        raw: the folder for the arrays; temporary files lie beside it.
        progress: shows the transfer of each file.

    Raises:
        UsageError, Unavailable, DataError: as in :func:`run`.
    """
    with progress:
        base = _read(root, params, raw.parent, progress)
    _save(raw, params.model_copy(update={"additions": []}), base, [])
    return Checksums(**{key: content.sha256 for key, content in base.items()})


def _save(
    raw: Path, params: Ingest, base: Mapping[str, Content], additions: Sequence[Mapping[str, Content]]
) -> str:
    """Write the folder ``raw`` and return a line for each split and for each addition."""
    arrays = _arrays(base)
    added = [_arrays(content) for content in additions]
    train = Split(arrays["train_images"], arrays["train_labels"])
    splits: dict[str, Split | Iterator[Split]] = {TRAIN: train}
    if added:
        splits[TRAIN] = _parts([train, *(Split(each["images"], each["labels"]) for each in added)])
    splits[TEST] = Split(arrays["test_images"], arrays["test_labels"])
    origins = [Rows(source=mask_urls(params.source), split=TRAIN, start=0, count=len(train.images))]
    for addition, each in zip(params.additions, added, strict=True):
        start = origins[-1].start + origins[-1].count
        origins.append(
            Rows(source=mask_urls(addition.source), split=TRAIN, start=start, count=len(each["images"]))
        )
    origins.append(
        Rows(source=mask_urls(params.source), split=TEST, start=0, count=len(arrays["test_images"]))
    )
    manifest = dataset.save(raw, splits, description=params.description, origins=origins)
    lines = [
        f"{name:<6} {manifest.splits[name].images.shape} {base[f'{name}_images'].sha256[:12]} → {raw / name}"
        for name in (TRAIN, TEST)
    ]
    for rows, content in zip(origins[1:-1], additions, strict=True):
        lines.append(f"       {rows.count} of train {content['images'].sha256[:12]} from {rows.source}")
    return "\n".join(lines)


def current_pins(paths: Paths, params: Ingest, *, progress: Progress = _NO_PROGRESS) -> Pins:
    """Return the checksums of what the source and its additions hold now.

    Every file is parsed, so that the checksum of a file that holds no images is never pinned.

    Raises:
        UsageError, Unavailable, DataError: as in :func:`run`.
    """
    with progress:
        base = _read(paths.root, params, paths.raw.parent, progress)
        _arrays(base)
        additions = [
            _read_addition(paths.root, params, number, paths.raw.parent, progress)
            for number in range(len(params.additions))
        ]
    return Pins(
        base=Checksums(**{key: content.sha256 for key, content in base.items()}),
        additions=tuple(
            AdditionChecksums(**{key: content.sha256 for key, content in addition.items()})
            for addition in additions
        ),
    )


def _read(root: Path, params: Ingest, scratch: Path, progress: Progress) -> dict[str, Content]:
    """Return the arrays of the source by the keys of ``Checksums``."""
    contents = _collect(root, params, params.source, params.format, scratch, progress)
    return divided(contents, params, scratch)


def _read_addition(
    root: Path, params: Ingest, number: int, scratch: Path, progress: Progress
) -> dict[str, Content]:
    """Return the arrays of an addition, all its splits, by the keys of ``AdditionChecksums``."""
    addition = params.additions[number]
    contents = _collect(root, params, addition.source, addition.format, scratch, progress)
    arrays = _arrays(contents)
    joined = {}
    for role in ("images", "labels"):
        parts = [arrays[f"{split}_{role}"] for split in (TRAIN, TEST) if f"{split}_{role}" in arrays]
        joined[role] = concatenated(contents[f"train_{role}"].origin, parts, scratch)
    require_pairs(joined["images"], joined["labels"])
    return joined


def _collect(
    root: Path, params: Ingest, source: str, format: Format, scratch: Path, progress: Progress
) -> dict[str, Content]:
    scratch.mkdir(parents=True, exist_ok=True)
    reading = open_source(
        source,
        format,
        root,
        max_megabytes=params.max_megabytes,
        attempts=params.attempts,
        scratch=scratch,
        progress=progress,
    )
    contents = collect(reading, params, scratch)
    for note in reading.notes:
        log.info("%s: %s", mask_urls(source), note)
    return contents


def _arrays(contents: Mapping[str, Content]) -> dict[str, Array]:
    """Return the arrays.

    Raises:
        DataError: a content is not a valid IDX file.
    """
    for content in contents.values():
        if content.error:
            raise content.error
    return {key: content.array for key, content in contents.items()}


def _parts(splits: list[Split]) -> Iterator[Split]:
    for split in splits:
        for rows in chunks(len(split.images)):
            yield Split(split.images[rows], split.labels[rows])


def _require_pinned(contents: Mapping[str, Content], pinned: Mapping[str, str], section: str) -> None:
    """Compare the checksums of the arrays with the pinned ones.

    Raises:
        DataError: a checksum differs.
    """
    changed = [key for key, content in contents.items() if content.sha256 != pinned[key]]
    if changed:
        origins = dict.fromkeys(contents[key].origin for key in changed)
        raise DataError(
            f"{', '.join(origins)}: not the data that params.yaml pins.",
            expected=_INDENT.join(f"{key} {pinned[key]}" for key in changed),
            found=_INDENT.join(f"{key} {contents[key].sha256}" for key in changed),
            fix="download the data again; or, if it changed on purpose, run `lenet5 pin`, which updates "
            + ", ".join(f"{section}.{key}" for key in changed),
        )
