"""Choose the kind that reads a source, from the names of its files."""

from pathlib import Path

from rich.progress import Progress

from lenet5.core.errors import DataError
from lenet5.stages.ingest import pictures
from lenet5.stages.ingest.params import Format
from lenet5.stages.ingest.source import Source, ending, overview
from lenet5.stages.ingest.sources import folder, idx, npz, parquet, sklearn, table
from lenet5.stages.ingest.sources.contract import Kind, Reader, Reading

KINDS: dict[Format, Kind] = {"idx": idx, "npz": npz, "folder": folder, "table": table, "parquet": parquet}
_PACKED = {".zip", ".tar", ".tgz", ".rar", ".7z"}


def open_source(
    source: str,
    format: Format,
    root: Path,
    *,
    max_megabytes: int,
    attempts: int,
    scratch: Path,
    progress: Progress,
) -> Reading:
    """Open a source of any kind.

    Args:
        source: a path, absolute or relative to ``root``, a URL of fsspec, or ``sklearn:digits``.
        format: the kind; ``auto`` chooses by the names of the files.
        root: the checkout.
        max_megabytes: the largest uncompressed size of a file.
        attempts: how often each file of a remote source is tried.
        scratch: the folder for temporary files.
        progress: shows the transfer of each file.

    Raises:
        UsageError: the source is not valid, or its driver is not installed.
        Unavailable: the source does not answer.
        DataError: it holds no images that a kind can read. The message lists what it holds.
    """
    if format == "sklearn" or (format == "auto" and source.startswith(sklearn.PREFIX)):
        return sklearn.read(source)
    limit = max_megabytes * 1_000_000
    files = Source(source, root, limit=limit, attempts=attempts)
    reader = Reader(files, scratch, limit, progress)
    chosen = detect(reader) if format == "auto" else format
    reading = KINDS[chosen].read(reader)
    reading.format = chosen
    return reading


def detect(reader: Reader) -> Format:
    """Return the name of the kind that the files have.

    Raises:
        DataError: the files are of no kind.
    """
    names = reader.names()
    if names is None:  # a web server; the names of MNIST's files are tried
        return "idx"
    kinds = {ending(name) for name in names}
    if any(map(idx.is_idx, names)):
        return "idx"
    if ".npz" in kinds:
        return "npz"
    if ".parquet" in kinds:
        return "parquet"
    if kinds & pictures.ENDINGS:
        return "folder"
    if kinds & table.ENDINGS:
        return "table"
    packed = [name for name in names if ending(name) in _PACKED]
    raise DataError(
        f"A file is missing from {reader.source.url}." if not packed else f"{packed[0]} is an archive.",
        expected="IDX files, .npz, .csv, .tsv, .arff or .parquet files, or folders of pictures",
        found=overview(names),
        fix=f"unpack it, and set ingest.source to the folder: unzip {packed[0]}"
        if packed
        else "check ingest.source in params.yaml; git or `dvc pull` may have to fetch the files first",
    )
