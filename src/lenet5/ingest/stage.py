"""Bytes at a source → digests compared with the pinned ones → arrays in ``data/raw``."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from lenet5 import dataset
from lenet5.dataset import Split
from lenet5.errors import DataError
from lenet5.ingest import idx, keras_npz
from lenet5.ingest.catalog import ITEMS, KERAS_FILE
from lenet5.ingest.mapped import Buffer, mapped
from lenet5.ingest.source import Source
from lenet5.ingest.unzip import gunzip
from lenet5.params import Checksums, Ingest
from lenet5.paths import Paths
from lenet5.terminal import byte_progress, console


@dataclass(frozen=True)
class Content:
    """One array as uncompressed IDX bytes, whatever container it came in."""

    origin: str
    """The file to name in an error."""
    idx: Buffer
    sha256: str


def run(paths: Paths, params: Ingest) -> None:
    """``ingest.source`` → ``data/raw``: train and test, uint8 (N, 28, 28) and (N,); or as it was before.

    Raises:
        UsageError: the source cannot be understood, or the driver for it is not installed.
        Unavailable: the source cannot be reached.
        DataError: a file is missing, damaged, too large, or not the one that is pinned.
    """
    contents = _read(paths, params)
    _compare(contents, params.sha256)
    arrays = {
        item.key: idx.decode(contents[item.key].idx, contents[item.key].origin, item.dimensions)
        for item in ITEMS
    }
    splits = {name: Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "test")}
    dataset.save(paths.raw, splits)
    for name, split in splits.items():
        digest = contents[f"{name}_images"].sha256
        console.print(f"{name:<6} {split.images.shape} {digest[:12]} → {paths.raw / name}", markup=False)


def survey(paths: Paths, params: Ingest) -> Checksums:
    """What the source holds now, whatever is pinned.

    Raises:
        UsageError, Unavailable, DataError: as :func:`run`.
    """
    return Checksums(**{key: content.sha256 for key, content in _read(paths, params).items()})


def _read(paths: Paths, params: Ingest) -> dict[str, Content]:
    """Everything the source holds, by the catalogue's keys: four IDX files, or else one archive."""
    limit = params.max_megabytes * 1_000_000
    source = Source(params.source, paths.root, limit=limit, attempts=params.attempts)
    paths.state.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Content] = {}
    with byte_progress() as progress:
        for item in ITEMS:
            names = [f"{item.file}.gz", item.file] + ([] if contents else [KERAS_FILE])
            # has no name on the disk, so that not even a kill leaves it behind
            with tempfile.TemporaryFile(dir=paths.state) as file:
                name = source.fetch([source.archive] if source.archive else names, file, progress)
                if name.endswith(".npz"):
                    members = keras_npz.read(file, name, limit, paths.state)
                    return {i.key: _content(f"{name}:{i.member}", members[i.key]) for i in ITEMS}
                contents[item.key] = _content(name, mapped(gunzip(file, name, limit), paths.state))
    return contents


def _content(origin: str, content: Buffer) -> Content:
    return Content(origin, content, hashlib.sha256(content).hexdigest())


def _compare(contents: Mapping[str, Content], pins: Checksums) -> None:
    """Nothing is parsed before this: the decoder only ever sees bytes that somebody vouched for."""
    pinned = pins.model_dump()
    wrong = [key for key, content in contents.items() if content.sha256 != pinned[key]]
    if wrong:
        lines = "\n            "  # below the first, when an error lists several
        raise DataError(
            f"{', '.join(contents[key].origin for key in wrong)}: not the data that params.yaml pins.",
            expected=lines.join(f"{key} {pinned[key]}" for key in wrong),
            found=lines.join(f"{key} {contents[key].sha256}" for key in wrong),
            do="get a fresh copy; if the data changed on purpose, `lenet5 pin` puts what was found under "
            + ", ".join(f"ingest.sha256.{key}" for key in wrong),
        )
