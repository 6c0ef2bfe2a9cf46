"""What ``lenet5 traffic`` counts, joins and names, and that labelled images come back as a data set."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.model.metrics import wilson
from lenet5.serving import feedback_log, inference_log, traffic
from lenet5.serving.feedback_log import FeedbackLog
from lenet5.serving.inference_log import LogWriter
from lenet5.serving.log_queue import Record, Rows
from lenet5.serving.reference import Reference
from lenet5.stages.ingest.params import Addition, AdditionChecksums
from lenet5.stages.ingest.stage import current_pins, run
from lenet5.stages.params import load
from tests.conftest import REPOSITORY, Arrays
from tests.stages.ingest import makers

CLASSES = tuple("0123456789")
BEGIN = datetime(2026, 11, 26, 23, 59, 59, tzinfo=UTC)


def record(
    name: str,
    images: np.ndarray,
    answers: Sequence[int],
    *,
    at: datetime = BEGIN,
    version: int = 1,
    route: str = "/predict",
    confidence: float = 0.91,
) -> Record:
    scores = np.full((len(images), 10), (1 - confidence) / 9, np.float32)
    scores[np.arange(len(images)), answers] = confidence
    time_us = round(at.timestamp() * 1e6)
    return Record(name, time_us, route, "digits", version, f"{version:064}", CLASSES, images, scores)


def write(folder: Path, *records: Record, pixels: bool = True) -> None:
    log = LogWriter(folder / "log", max_days=1, max_megabytes=100)
    for each in records:
        log.write(inference_log.to_batch(Rows.of([each]), pixels=pixels))
    log.close()


def says(folder: Path, *labels: tuple[str, int, str]) -> None:
    log = FeedbackLog(folder / "feedback")
    for label in labels:
        log.append(*label)


def as_json(folder: Path, **options: Any) -> dict[str, Any]:
    summary = traffic.summarise(folder, **options)
    answer: dict[str, Any] = json.loads(json.dumps(traffic.as_json(summary, {})))
    return answer


def test_counts_by_day_version_route_and_class(tmp_path: Path, digits: Arrays) -> None:
    images = digits["test_images"]
    write(
        tmp_path,
        record("a", images[:4], [1, 1, 2, 3]),
        record("b", images[2:4], [2, 3], at=BEGIN + timedelta(seconds=0.5), route="/invocations"),
        record("c", images[2:5], [7, 7, 7], at=BEGIN + timedelta(seconds=1), version=2, confidence=0.6),
    )
    answer = as_json(tmp_path, low_confidence=0.7)
    assert (answer["requests"], answer["images"]) == (3, 9)
    assert answer["days"] == [
        {"day": "2026-11-26", "requests": 2, "images": 6, "repeated": 2},
        {"day": "2026-11-27", "requests": 1, "images": 3, "repeated": 0},
    ]
    first, second = answer["versions"]
    assert (first["version"], first["requests"], first["images"]) == (1, 2, 6)
    assert first["routes"] == {"/predict": 4, "/invocations": 2}
    assert first["estimated_accuracy"] == pytest.approx(0.91)
    assert (first["low_confidence"], second["low_confidence"]) == (0, 1)
    assert {each["class"]: each["images"] for each in first["classes"]} == {"1": 2, "2": 2, "3": 2}
    assert {each["class"]: each["share"] for each in second["classes"]} == {"7": 1}
    assert answer["feedback"]["labels"] == 0
    assert answer["feedback"]["accuracy"] is None


def test_only_answers_of_the_time_are_counted(tmp_path: Path, digits: Arrays) -> None:
    images = digits["test_images"]
    hours = [BEGIN + timedelta(hours=hour) for hour in range(5)]
    write(tmp_path, *(record(f"{at.hour}", images[:1], [1], at=at) for at in hours))
    assert as_json(tmp_path, since=hours[1], until=hours[3])["images"] == 2
    assert as_json(tmp_path, since=hours[4])["images"] == 1
    assert as_json(tmp_path, until=hours[4])["images"] == 4
    with pytest.raises(DataError, match="no answers of this time"):
        as_json(tmp_path, since=hours[4] + timedelta(seconds=1))


def test_shares_stand_beside_those_of_the_test_images(tmp_path: Path, digits: Arrays) -> None:
    write(tmp_path, record("a", digits["test_images"][:4], [1, 1, 1, 0]))
    [version] = traffic.summarise(tmp_path).versions
    known = Reference(0.9, 0.9, {"0": 30, "1": 10, "2": 60}, [100], {})
    shares = {each["class"]: each for each in traffic.class_shares(version, known)}
    assert [(name, each["share"], each["reference_share"]) for name, each in shares.items()] == [
        ("0", 0.25, 0.3),
        ("1", 0.75, 0.1),
        ("2", 0, 0.6),
    ]


def test_accuracy_on_labels_counts_each_image_once(tmp_path: Path, digits: Arrays) -> None:
    write(tmp_path, record("a", digits["test_images"][:5], [1, 2, 3, 4, 5]))
    write(tmp_path, record("b", digits["test_images"][:1], [9]))
    says(
        tmp_path,
        ("a", 0, "1"),
        ("a", 0, "1"),  # replayed
        ("a", 1, "2"),
        ("a", 1, "7"),  # the last one holds
        ("a", 2, "8"),
        ("a", 3, "7"),
        ("b", 0, "7"),
        ("b", 0, "4"),
        ("gone", 0, "1"),
        ("a", 77, "1"),
    )
    feedback = as_json(tmp_path)["feedback"]
    assert (feedback["labels"], feedback["joined"], feedback["correct"]) == (7, 5, 1)
    assert (feedback["accuracy"], feedback["low"], feedback["high"]) == (0.2, *wilson(0.2, 5))
    assert [tuple(each.values()) for each in feedback["confused"]] == [
        ("4", "9", 1),
        ("7", "2", 1),
        ("7", "4", 1),
        ("8", "3", 1),
    ]


def test_torn_and_damaged_files_are_named_and_the_others_counted(tmp_path: Path, digits: Arrays) -> None:
    images = digits["test_images"]
    for name in ("a", "b"):
        write(tmp_path, record(name, images[:2], [1, 2]))
    damaged = next(inference_log.parts(tmp_path / "log"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    torn = damaged.with_name("20261126T000000-1-abcdef-000001.arrows")
    records = [record("c", images[:3], [1, 2, 3])]
    with torn.open("wb") as file, pa.ipc.new_stream(file, inference_log.SCHEMA) as writer:
        for _ in range(2):
            writer.write_batch(inference_log.to_batch(Rows.of(records), pixels=True))
    torn.write_bytes(torn.read_bytes()[:-300])
    says(tmp_path, ("c", 0, "1"))
    labels = next((tmp_path / "feedback").iterdir())
    labels.write_text(labels.read_text() + '{"request_id": "c", "ro')
    answer = as_json(tmp_path)
    assert answer["images"] == 2 + 3
    assert {(Path(each["file"]).name, each["lost"]) for each in answer["unreadable"]} == {
        (damaged.name, True),
        (torn.name, False),
        (labels.name, False),
    }
    assert answer["feedback"]["joined"] == 1


@pytest.mark.parametrize("line", ["{", "[]", '{"request_id": "a"}', "null", '"text"', "1e999"])
def test_label_after_a_torn_line_is_not_lost(tmp_path: Path, line: str) -> None:
    says(tmp_path, ("a", 0, "1"))
    path = next((tmp_path / "feedback").iterdir())
    path.write_text(path.read_text() + line)  # without its end
    says(tmp_path, ("a", 1, "2"))
    torn: list[int] = []
    labels = feedback_log.read(tmp_path / "feedback", lambda _, number: torn.append(number))
    assert labels["label"].tolist() == ["1", "2"]
    assert torn == [2]


@pytest.mark.parametrize(
    ("label", "time"),
    [("7", "9999-12-31T23:59:59-14:00"), (r"7\ud800", "2026-01-01T00:00:00+00:00"), ("7", "no time")],
)
def test_line_that_cannot_be_a_label_is_named(tmp_path: Path, label: str, time: str) -> None:
    says(tmp_path, ("a", 0, "1"))
    [file] = (tmp_path / "feedback").iterdir()
    line = f'{{"request_id": "b", "row": 0, "label": "{label}", "time": "{time}"}}'
    file.write_text(f"{file.read_text()}{line}\n")
    torn: list[int] = []
    labels = feedback_log.read(file.parent, on_torn=lambda _, number: torn.append(number))
    assert labels["request_id"].tolist() == ["a"]
    assert torn == [2]


def test_part_without_a_value_is_named_and_the_others_counted(tmp_path: Path, digits: Arrays) -> None:
    write(tmp_path, record("a", digits["test_images"][:2], [1, 2]))
    [part] = inference_log.parts(tmp_path / "log")
    pq.write_table(pa.table({"request_id": ["b"]}), part.with_name("20260101T000000-1-aaaaaa-000001.parquet"))
    answer = as_json(tmp_path)
    assert answer["images"] == 2
    [unreadable] = answer["unreadable"]
    assert unreadable["lost"]
    assert "a value of row is missing" in unreadable["problem"]


def test_an_empty_log_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answers") as missing:
        as_json(tmp_path)
    assert "lenet5 serve" in str(missing.value)


def test_exported_images_are_read_as_a_data_set(tmp_path: Path, digits: Arrays) -> None:
    images, labels = digits["test_images"][:20], digits["test_labels"][:20].tolist()
    write(tmp_path, record("a", images, [0] * 20))
    write(tmp_path, record("b", images[:3], [0] * 3))
    write(tmp_path, record("c", digits["test_images"][30:31], [0]), pixels=False)
    says(tmp_path, *(("a", row, "0") for row in range(20)), ("c", 0, "0"))
    says(tmp_path, *(("a", row, str(label)) for row, label in enumerate(labels) if row >= 3))
    says(tmp_path, *(("b", row, str(labels[row])) for row in range(3)))  # the last label of these pixels
    assert traffic.export(tmp_path, tmp_path / "corrected.parquet") == 1
    makers.idx_files(tmp_path / "source", {key: array[:30] for key, array in digits.items()})
    params = load(REPOSITORY / "params.yaml").ingest.model_copy(
        update={
            "source": "source",
            "additions": [
                Addition(
                    source="corrected.parquet",
                    format="auto",
                    sha256=AdditionChecksums(images="0" * 64, labels="0" * 64),
                )
            ],
        }
    )
    pins = current_pins(Paths(tmp_path), params)
    [added] = params.additions
    added = added.model_copy(update={"sha256": pins.additions[0]})
    run(Paths(tmp_path), params.model_copy(update={"sha256": pins.base, "additions": [added]}))
    train = dataset.load(tmp_path / "data/raw").splits["train"]
    expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    read = {image.tobytes(): label for image, label in zip(train.images[30:], train.labels[30:], strict=True)}
    assert len(train.images) == 30 + 20
    assert read == expected


def test_export_without_pixels_says_why(tmp_path: Path, digits: Arrays) -> None:
    write(tmp_path, record("a", digits["test_images"][:2], [1, 2]), pixels=False)
    says(tmp_path, ("a", 0, "1"))
    with pytest.raises(DataError, match="--log-pixels"):
        traffic.export(tmp_path, tmp_path / "corrected.parquet")
    assert not (tmp_path / "corrected.parquet").exists()


def test_prefixes_of_a_filtered_table_are_those_of_its_rows(tmp_path: Path, digits: Arrays) -> None:
    images = digits["test_images"][:9]
    write(tmp_path, record("a", images, list(range(9))))
    [(_, table, _)] = inference_log.read_each(tmp_path / "log", ["input_sha256"])
    assert isinstance(table, pa.Table)
    expected = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "little") for image in images]
    for part in (slice(0, 9), slice(2, 7)):
        some = table.slice(part.start, part.stop - part.start)["input_sha256"]
        assert traffic._prefixes(some).tolist() == expected[part]
