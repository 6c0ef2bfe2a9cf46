"""Summarise the inference log: what was asked, what was answered, and what people said about the answers.

The log is read part by part, and of each part only the columns that are counted. So a summary needs the
memory of one part without its pixels, 8 bytes for each image, and the labelled rows.
"""

import io
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from lenet5.core import files
from lenet5.core.errors import DataError, Lenet5Error
from lenet5.core.paths import Paths
from lenet5.model.metrics import wilson
from lenet5.serving import feedback_log, inference_log
from lenet5.serving import reference as reference_of_version
from lenet5.serving.reference import Reference

log = logging.getLogger(__name__)

Key = tuple[str, int, str]
"""Name, number and SHA-256 of a version."""
LOW_CONFIDENCE = 0.9
"""Answers below it are counted apart."""
_COLUMNS = [
    *("request_id", "row", "time", "route", "model", "version", "model_sha256"),
    *("class", "confidence", "input_sha256"),
]
_KEYS = ["request_id", "row"]
_PAIRS = 5
"""Most confused pairs that are listed."""


@dataclass
class VersionTraffic:
    """What one version answered."""

    model: str
    version: int
    model_sha256: str
    requests: int = 0
    images: int = 0
    confidence_sum: float = 0.0
    low_confidence: int = 0
    routes: Counter[str] = field(default_factory=Counter)
    """Images by route."""
    classes: Counter[str] = field(default_factory=Counter)
    """Images by predicted class."""

    @property
    def key(self) -> "Key":
        return self.model, self.version, self.model_sha256

    @property
    def confidence(self) -> float:
        """Return the mean confidence. The confidence is calibrated, so it estimates the accuracy."""
        return self.confidence_sum / self.images


@dataclass(frozen=True)
class Unreadable:
    """A file of the log or of the feedback that is not complete."""

    file: Path
    problem: str
    lost: bool
    """Whether complete rows cannot be read. Otherwise the end of a file is torn, as after a crash."""


@dataclass(frozen=True)
class Labelled:
    """Answers that people labelled."""

    labels: int
    """Labels of different images, whether their answer is in the log or not."""
    rows: pd.DataFrame
    """One row for each label whose answer is in the log: ``request_id``, ``row``, ``time`` (of the answer),
    ``model``, ``version``, ``class``, ``confidence``, ``label``, and the other columns that were read."""

    @property
    def correct(self) -> int:
        """Return how many answers were right."""
        return int((self.rows["class"] == self.rows["label"]).sum())

    def confused(self) -> list[dict[str, Any]]:
        """Return the most frequent mistakes, each with the keys ``label``, ``class`` and ``images``."""
        wrong = self.rows[self.rows["class"] != self.rows["label"]]
        counts = Counter(zip(wrong["label"], wrong["class"], strict=True))
        return [
            {"label": label, "class": answered, "images": images}
            for (label, answered), images in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ][:_PAIRS]


@dataclass(frozen=True)
class Summary:
    """The traffic of some time."""

    days: pd.DataFrame
    """One row for each day (UTC): ``day``, ``requests``, ``images`` and ``repeated``, the images whose pixels
    were asked before on the same day."""
    versions: list[VersionTraffic]
    labelled: Labelled
    unreadable: list[Unreadable]


def summarise(
    folder: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    low_confidence: float = LOW_CONFIDENCE,
) -> Summary:
    """Read a log and its feedback.

    Args:
        folder: of the service: ``log`` and ``feedback`` are in it.
        since: the time of the first answer; None for no limit.
        until: the time before which the last answer was given; None for no limit.
        low_confidence: answers below it are counted apart.

    Raises:
        DataError: there is no answer in this time.
    """
    unreadable: list[Unreadable] = []
    labels = feedback_log.read(folder / "feedback", on_torn=_report_lines(unreadable))
    days: dict[str, Counter[str]] = {}
    inputs: dict[str, list[NDArray[np.uint64]]] = {}
    versions: dict[Key, VersionTraffic] = {}
    labelled: list[pd.DataFrame] = []
    for table in _tables(folder / "log", _COLUMNS, between(since, until), unreadable):
        begins = pc.equal(table["row"], 0).to_numpy()
        _count_days(days, inputs, table, begins)
        _count_versions(versions, table, begins, low_confidence)
        labelled.append(_join(table, labels))
    if not versions:
        raise _nothing(folder / "log", unreadable, since or until)
    joined = pd.concat(labelled).drop_duplicates(_KEYS, keep="last", ignore_index=True)
    rows = [
        {"day": day, "requests": counts["requests"], "images": counts["images"]}
        | {"repeated": _repeated(inputs[day])}
        for day, counts in sorted(days.items())
    ]
    ordered = sorted(versions.values(), key=lambda each: (each.model, each.version, each.model_sha256))
    return Summary(pd.DataFrame(rows), ordered, Labelled(len(labels), joined), unreadable)


def export(
    folder: Path, target: Path, *, since: datetime | None = None, until: datetime | None = None
) -> int:
    """Write the labelled images as a data set that `lenet5 data add` reads.

    The columns of the Parquet file are ``image`` (a PNG picture, as on the Hugging Face hub), ``label``, and
    for people ``predicted``, ``confidence``, ``version``, ``time``, ``request_id`` and ``row``. Equal
    images are one row: the last label holds.

    Args:
        folder: of the service, as in :func:`summarise`.
        target: the file.
        since: the time of the first answer; None for no limit.
        until: the time before which the last answer was given; None for no limit.

    Returns:
        The number of labelled answers that were left out, because the log does not hold their pixels.

    Raises:
        DataError: no labelled answer has pixels.
    """
    labels = feedback_log.read(folder / "feedback")
    columns = [*_COLUMNS, "pixels"]
    tables = _tables(folder / "log", columns, between(since, until), [])
    empty = labels.iloc[:0].reindex(columns=[*columns, "label"])
    joined = pd.concat([empty, *(_join(table, labels) for table in tables)]).merge(
        labels[[*_KEYS, "time"]].rename(columns={"time": "labelled"}), on=_KEYS
    )
    with_pixels = joined[joined["pixels"].notna()]
    if with_pixels.empty:
        raise DataError(
            "No labelled answer has its pixels in the log.",
            expected="answers that people labelled, of a service with --log-pixels",
            found=f"{len(joined)} labelled answers without pixels",
            fix="`lenet5 serve --log-pixels`, then send labels to POST /feedback",
        )
    rows = with_pixels.sort_values("labelled", kind="stable").drop_duplicates("input_sha256", keep="last")
    pictures = [{"bytes": _png(pixels), "path": None} for pixels in rows["pixels"]]
    frame = rows.rename(columns={"class": "predicted"}).assign(image=pd.Series(pictures, rows.index))
    names = ["image", "label", "predicted", "confidence", "version", "time", "request_id", "row"]
    files.write_parquet(target, frame[names].astype({"version": "int64", "row": "int64"}))
    return len(joined) - len(with_pixels)


def _png(pixels: bytes) -> bytes:
    """Return a PNG picture of the pixels of a square image, grey or RGB."""
    values = np.frombuffer(pixels, np.uint8)
    side = math.isqrt(len(values))
    shape = (side, side) if side * side == len(values) else (math.isqrt(len(values) // 3),) * 2 + (3,)
    file = io.BytesIO()
    Image.fromarray(values.reshape(shape)).save(file, "PNG")
    return file.getvalue()


def between(since: datetime | None, until: datetime | None) -> pc.Expression | None:
    """Return the condition that an answer was given from ``since`` to before ``until``; None: no limit."""
    kind = inference_log.SCHEMA.field("time").type
    time = pc.field("time")
    limits = [time >= pa.scalar(since, kind)] if since else []
    limits += [time < pa.scalar(until, kind)] if until else []
    if not limits:
        return None
    return limits[0] if len(limits) == 1 else limits[0] & limits[1]


def references(paths: Paths, summary: Summary) -> dict[Key, Reference]:
    """Return what each version predicts for its own test images, for the versions that the registry has."""
    known = {}
    for each in summary.versions:
        try:
            reference = reference_of_version.get(paths, each.model, each.version, each.model_sha256)
        except Lenet5Error as error:
            log.info("version %d: no reference: %s", each.version, error)
            continue
        if reference:
            known[each.key] = reference
    return known


def as_json(summary: Summary, known: Mapping[Key, Reference]) -> dict[str, Any]:
    """Return a summary for scripts.

    Args:
        summary: the traffic.
        known: the result of :func:`references`.
    """
    return {
        "requests": int(summary.days["requests"].sum()),
        "images": int(summary.days["images"].sum()),
        "days": summary.days.to_dict("records"),
        "versions": [
            {
                "model": each.model,
                "version": each.version,
                "model_sha256": each.model_sha256,
                "requests": each.requests,
                "images": each.images,
                "routes": dict(each.routes),
                "confidence": each.confidence,
                "estimated_accuracy": each.confidence,
                "low_confidence": each.low_confidence / each.images,
                "classes": class_shares(each, known.get(each.key)),
            }
            for each in summary.versions
        ],
        "feedback": _feedback_as_json(summary.labelled),
        "unreadable": [
            {"file": str(each.file), "problem": each.problem, "lost": each.lost}
            for each in summary.unreadable
        ],
    }


def class_shares(version: VersionTraffic, known: Reference | None) -> list[dict[str, Any]]:
    """Return a mapping for each class: ``class``, ``images``, ``share`` and ``reference_share``.

    The last one is the share among the predictions for the test images; None without a reference.
    """
    reference = known.class_shares() if known else None
    names = list(reference or ()) + sorted(set(version.classes) - set(reference or ()))
    return [
        {
            "class": name,
            "images": version.classes[name],
            "share": version.classes[name] / version.images,
            "reference_share": reference.get(name, 0.0) if reference else None,
        }
        for name in names
    ]


def _feedback_as_json(labelled: Labelled) -> dict[str, Any]:
    images = len(labelled.rows)
    accuracy = labelled.correct / images if images else None
    low, high = wilson(accuracy, images) if accuracy is not None else (None, None)
    return {
        "labels": labelled.labels,
        "joined": images,
        "correct": labelled.correct,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "confused": labelled.confused(),
    }


def _tables(
    folder: Path, columns: list[str], rows: pc.Expression | None, unreadable: list[Unreadable]
) -> Iterator[pa.Table]:
    """Yield the rows of each part that has some, and note parts that are damaged or torn."""
    for path, table, torn in inference_log.read_each(folder, columns, rows):
        if isinstance(table, Exception):
            problem = (str(table).strip() or type(table).__name__).splitlines()[0]
            unreadable.append(Unreadable(path, problem, lost=True))
            continue
        if torn:
            problem = f"{torn:,} bytes at the end are no complete batch"
            unreadable.append(Unreadable(path, problem, lost=False))
        if table.num_rows:
            yield table


def _report_lines(unreadable: list[Unreadable]) -> Callable[[Path, int], None]:
    def report(path: Path, line: int) -> None:
        unreadable.append(Unreadable(path, f"line {line} is no label", lost=False))

    return report


def _count_days(
    days: dict[str, Counter[str]],
    inputs: dict[str, list[NDArray[np.uint64]]],
    table: pa.Table,
    begins: NDArray[np.bool_],
) -> None:
    dates = table["time"].to_numpy().astype("datetime64[D]")
    prefixes = _prefixes(table["input_sha256"])
    for date in np.unique(dates):
        rows, day = dates == date, str(date)
        counts = days.setdefault(day, Counter())
        counts["images"] += int(rows.sum())
        counts["requests"] += int((rows & begins).sum())
        inputs.setdefault(day, []).append(prefixes[rows])


def _prefixes(digests: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each SHA-256: enough to tell images apart."""
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint64).reshape(-1, 4)[
            chunk.offset : chunk.offset + len(chunk), 0
        ]
        for chunk in digests.chunks
    ]
    return np.concatenate(chunks)


def _repeated(prefixes: list[NDArray[np.uint64]]) -> int:
    together = np.concatenate(prefixes)
    return len(together) - len(np.unique(together))


def _count_versions(
    versions: dict[Key, VersionTraffic],
    table: pa.Table,
    begins: NDArray[np.bool_],
    low_confidence: float,
) -> None:
    frame = pd.DataFrame(
        {
            name: table[name].combine_chunks().dictionary_encode().to_pandas()
            for name in ("model", "version", "model_sha256", "route", "class")
        }
    )
    frame["confidence"] = table["confidence"].to_numpy().astype(float)
    frame["begins"] = begins
    for key, rows in frame.groupby(["model", "version", "model_sha256"], observed=True):
        model, number, digest = map(str, key)
        of_key = VersionTraffic(model, int(number), digest)
        version = versions.setdefault((model, int(number), digest), of_key)
        version.requests += int(rows["begins"].sum())
        version.images += len(rows)
        version.confidence_sum += float(rows["confidence"].sum())
        version.low_confidence += int((rows["confidence"] < low_confidence).sum())
        for counter, column in ((version.routes, "route"), (version.classes, "class")):
            counts = rows[column].value_counts()
            counter.update({str(name): int(count) for name, count in counts.items() if count})


def _join(table: pa.Table, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a part that have a label, with it."""
    ids = pa.array(labels["request_id"].unique(), pa.string())
    rows = table.filter(pc.is_in(table["request_id"], ids)).to_pandas()
    return rows.merge(labels[[*_KEYS, "label"]], on=_KEYS)


def _nothing(folder: Path, unreadable: list[Unreadable], limited: object) -> DataError:
    lost = [str(each.file) for each in unreadable if each.lost]
    if limited and not lost and any(inference_log.parts(folder)):
        return DataError(
            "The inference log has no answers of this time.",
            expected="answers from --since to before --until (UTC)",
            found=f"only other ones in {folder}",
            fix="choose another time",
        )
    return DataError(
        "The inference log has no answers.",
        expected=f"Parquet files in {folder}",
        found=f"unreadable files: {', '.join(lost)}" if lost else "no rows",
        fix="`lenet5 serve`, and send it a picture; or `lenet5 batch FILES`",
    )
