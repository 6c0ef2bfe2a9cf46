"""The inference log holds each answer once, survives a kill, and never reads a torn part as whole."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from lenet5.serving import inference_log
from lenet5.serving.inference_log import LogWriter
from lenet5.serving.log_queue import InferenceLog, LogCounts, Record, Rows
from tests.conftest import Arrays, until

CLASSES = tuple("0123456789")
SIZE = 2_000_000
APPENDING = """
import sys, time, numpy as np
from pathlib import Path
from lenet5.serving.log_queue import InferenceLog, Record
log = InferenceLog(Path(sys.argv[1]), pixels=True, max_days=1, max_megabytes=10)
log.start()
for number in range(10**6):
    log.append(Record(f"{number:040x}", number, "/predict", "m", 3, "ab", tuple("0123456789"),
                      np.zeros((1, 28, 28), np.uint8), np.full((1, 10), .1, np.float32)))
    print(number, flush=True)
    time.sleep(.002)
"""
"""A service that appends 500 records a second to the log in a folder, and prints their numbers."""


def record(images: np.ndarray, number: int = 0) -> Record:
    scores = np.full((len(images), 10), 0.05, np.float32)
    scores[np.arange(len(images)), np.arange(len(images)) % 10] = 0.55
    return Record(
        f"{number:040x}", 1_700_000_000_000_000 + number, "/predict", "m", 3, "ab", CLASSES, images, scores
    )


def started(folder: Path, *, pixels: bool = False, days: float = 1, megabytes: float = 100) -> InferenceLog:
    log = InferenceLog(folder, pixels=pixels, max_days=days, max_megabytes=megabytes)
    log.start()
    return log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def write(log: LogWriter, *records: Record) -> None:
    log.write(inference_log.to_batch(Rows.of(records), pixels=True))


def rows(folder: Path) -> pa.Table:
    return inference_log.read_all(folder)


@pytest.mark.parametrize("pixels", [True, False])
def test_every_image_is_one_row(tmp_path: Path, digits: Arrays, pixels: bool) -> None:
    images = digits["test_images"][:30]
    log = started(tmp_path, pixels=pixels)
    log.append(record(images[:1], 1))
    log.append(record(images[1:], 2))
    log.stop()
    table = rows(tmp_path).to_pylist()
    assert [(row["request_id"], row["row"]) for row in table] == [
        (f"{1:040x}", 0),
        *((f"{2:040x}", position) for position in range(29)),
    ]
    for row, image in zip(table, images, strict=True):
        assert row["input_sha256"] == hashlib.sha256(image.tobytes()).digest()
        assert row["pixels"] == (image.tobytes() if pixels else None)
        assert row["class"] == CLASSES[row["row"] % 10]
        assert row["confidence"] == pytest.approx(0.55)
        assert len(row["probabilities"]) == 10
    assert [path.suffix for path in inference_log.parts(tmp_path)] == [".parquet"]
    assert log.counts.written == 30
    assert log.counts.dropped == 0


def test_full_queue_drops_and_counts_and_never_blocks(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, pixels=False, max_days=1, max_megabytes=1)  # no thread empties it
    many = record(np.zeros((20_000, 28, 28), np.uint8))
    for _ in range(10):
        log.append(many)
    assert 0 < log.counts.dropped < 200_000


@pytest.mark.slow
def test_kill_loses_at_most_the_last_second(tmp_path: Path) -> None:
    appended: list[tuple[float, int]] = []
    begin = killed = time.monotonic()
    command = [sys.executable, "-c", APPENDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        for line in process.stdout:
            appended.append((time.monotonic(), int(line)))
            if time.monotonic() - begin > 8 and any(tmp_path.glob("*/*.arrows")):
                killed = time.monotonic()
                os.killpg(process.pid, signal.SIGKILL)  # the process that writes, too
                break
    [part] = tmp_path.glob("*/*.arrows")
    with part.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10\x02\x00\x00torn")
    table, torn = inference_log.read(part)
    assert torn > 0
    started(tmp_path).stop()
    assert not list(tmp_path.glob("*/*.arrows"))
    recovered = [row["request_id"] for row in rows(tmp_path).to_pylist()]
    assert recovered == [f"{number:040x}" for number in range(len(table))]
    due = [number for at, number in appended if at < killed - 3]  # a loaded machine is late by two seconds
    assert len(recovered) > due[-1]


def writer_of(pid: int) -> psutil.Process:
    """Return the process that writes the log of a process."""
    writers = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie has no command line
            if "lenet5.serving.inference_log" in child.cmdline():
                writers.append(child)
    [writer] = writers
    return writer


@pytest.mark.slow
def test_writer_closes_the_part_and_ends_after_the_service_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until(lambda: list(tmp_path.glob("*/*.arrows")), 60, "rows are written")
        writer = writer_of(process.pid)
        for ending in (signal.SIGINT, signal.SIGTERM):  # reach it before the service has sent all rows
            writer.send_signal(ending)
        seen = rows(tmp_path).num_rows
        until(lambda: rows(tmp_path).num_rows > seen, 30, "rows are written after the signals")
        process.kill()
    until(lambda: not writer.is_running(), 30, "the writer ends")
    assert {path.suffix for path in inference_log.parts(tmp_path)} == {".parquet"}
    logged = rows(tmp_path)["request_id"].to_pylist()
    assert logged == [f"{number:040x}" for number in range(len(logged))]


@pytest.mark.slow
def test_writer_that_dies_is_replaced_and_no_row_is_lost_uncounted(
    tmp_path: Path, digits: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    log = started(tmp_path)
    sent = 0

    def send_until(reached: Callable[[], bool], what: str) -> None:
        def send() -> bool:
            nonlocal sent
            log.append(record(digits["test_images"][:1], sent))
            sent += 1
            return reached()

        until(send, 60, what)

    send_until(lambda: log.counts.written > 0, "rows are written")
    writer_of(os.getpid()).kill()
    send_until(lambda: log.counts.dropped > 0, "the lost rows are counted")
    before = log.counts.written
    send_until(lambda: log.counts.written > before, "another process writes")
    log.stop()
    assert "no process writes the inference log: exit code -9" in caplog.text
    assert log.counts.written + log.counts.dropped == sent
    logged = rows(tmp_path)["request_id"].to_pylist()
    assert len(logged) == len(set(logged)) >= log.counts.written
    assert {path.suffix for path in inference_log.parts(tmp_path)} == {".parquet"}


@pytest.mark.slow
def test_writer_that_hangs_holds_up_no_request_and_bounds_the_memory(tmp_path: Path) -> None:
    log = started(tmp_path)
    log.append(record(np.zeros((1, 28, 28), np.uint8), 0))
    until(lambda: log.counts.written, 60, "a row is written")
    writer = writer_of(os.getpid())
    writer.suspend()
    many = record(np.zeros((2_000, 28, 28), np.uint8), 1)
    for number in range(200):
        log.append(replace(many, request_id=f"{number + 1:040x}"))
    dropped = log.counts.dropped
    assert 200 * 2_000 - 64_000_000 / 784 - 2_000 < dropped < 200 * 2_000
    writer.resume()
    log.stop()
    assert log.counts.dropped == dropped
    assert rows(tmp_path).num_rows == log.counts.written == 1 + 200 * 2_000 - dropped


def test_every_cut_of_an_open_part_is_read_up_to_its_last_batch(tmp_path: Path, digits: Arrays) -> None:
    whole = tmp_path / "whole.arrows"
    with whole.open("wb") as file, pa.ipc.new_stream(file, inference_log.SCHEMA) as writer:
        for number in range(3):
            records = [record(digits["test_images"][:2], number)]
            writer.write_batch(inference_log.to_batch(Rows.of(records), pixels=True))
    content = whole.read_bytes()
    seen = set()
    for cut in (*range(0, len(content), 97), len(content)):
        part = tmp_path / "cut.arrows"
        part.write_bytes(content[:cut])
        table, _ = inference_log.read(part)
        assert table.num_rows % 2 == 0
        seen.add(table.num_rows)
    assert seen == {0, 2, 4, 6}
    assert inference_log.read(whole)[0].num_rows == 6


def test_part_of_a_living_process_stays_open(tmp_path: Path, digits: Arrays) -> None:
    log = started(tmp_path)
    log.append(record(digits["test_images"][:1]))
    until(lambda: list(tmp_path.glob("*/*.arrows")), 30, "the thread writes an open part")
    program = (
        "import pathlib, sys; from lenet5.serving import inference_log; "
        "inference_log.recover(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert list(tmp_path.glob("*/*.arrows"))
    log.stop()
    assert rows(tmp_path).num_rows == 1


def test_old_parts_and_parts_beyond_the_size_are_removed(tmp_path: Path) -> None:
    day = tmp_path / "2026-01-01"
    day.mkdir()
    for number in range(5):
        path = day / f"20260101T00000{number}-1-000001.parquet"
        path.write_bytes(bytes(1000))
        os.utime(path, (number * 86400, number * 86400))
    now = 5 * 86400.0
    inference_log.remove_old(tmp_path, now, max_days=4.5, max_bytes=3500)
    assert [path.name[14] for path in sorted(day.iterdir())] == ["2", "3", "4"]
    inference_log.remove_old(tmp_path, now - 1e6, max_days=4.5, max_bytes=3500)  # the clock was set back
    assert len(list(day.iterdir())) == 3
    inference_log.remove_old(tmp_path, now, max_days=0, max_bytes=3500)
    assert not day.exists()


def test_open_part_is_never_removed(tmp_path: Path) -> None:
    day = tmp_path / "2026-01-01"
    day.mkdir()
    for name in ("20260101T000000-1-abcdef-000001.arrows", "20260101T000000-2-abcdef-000001.arrows"):
        (day / name).write_bytes(bytes(10_000))
        os.utime(day / name, (0, 0))
    inference_log.remove_old(tmp_path, now=1e9, max_days=1, max_bytes=1)
    assert len(list(day.iterdir())) == 2


def test_clock_that_is_set_back_overwrites_nothing(tmp_path: Path, digits: Arrays) -> None:
    images = digits["test_images"][:2]
    now = time.time()
    times = iter(now - days * 86400 for days in (0, 0, 1, 1, 0, 0))  # of a new part, and of its retention
    for number in range(3):  # processes of containers have equal numbers
        log = LogWriter(tmp_path, max_days=3, max_megabytes=1, clock=lambda: next(times))
        write(log, record(images, number))
        log.close()
    days = [path.parent.name for path in inference_log.parts(tmp_path)]
    assert days[0] < days[1] == days[2]
    assert sorted(rows(tmp_path)["request_id"].to_pylist()[::2]) == [f"{number:040x}" for number in range(3)]


def test_part_that_is_closed_after_it_was_listed_is_read(tmp_path: Path, digits: Arrays) -> None:
    for number in range(2):
        part = tmp_path / "2026-01-01" / f"20260101T00000{number}-1-abcdef-000001.arrows"
        part.parent.mkdir(exist_ok=True)
        records = [record(digits["test_images"][:3], number)]
        with part.open("wb") as file, pa.ipc.new_stream(file, inference_log.SCHEMA) as writer:
            writer.write_batch(inference_log.to_batch(Rows.of(records), pixels=True))
    reading = inference_log.read_each(tmp_path)
    assert next(reading)[0].suffix == ".arrows"
    inference_log.recover(tmp_path)
    path, table, torn = next(reading)
    assert path.suffix == ".parquet"
    assert isinstance(table, pa.Table)
    assert (table.num_rows, torn) == (3, 0)
    assert rows(tmp_path).num_rows == 6


@pytest.mark.slow
def test_full_disk_drops_and_counts_and_the_log_recovers(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50_000, 28, 28), np.uint8)
    log = started(small_disk / "log", pixels=True)
    log.wait_until_it_writes()  # all that is queued until then would take half of the disk
    sent = 0

    def send_until(reached: Callable[[], bool]) -> None:
        nonlocal sent
        begin = time.monotonic()
        while not reached():
            assert time.monotonic() - begin < 60
            log.append(record(noise[sent * 5 : sent * 5 + 5], sent))
            sent += 1
            time.sleep(0.05)

    send_until(lambda: log.counts.written > 0)
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    send_until(lambda: log.counts.dropped > 0)
    filler.unlink()
    before = log.counts.written
    send_until(lambda: log.counts.written > before)
    log.stop()
    assert caplog.text.count("cannot be written, requests are answered") == 1
    assert caplog.text.count("is written again") == 1
    assert log.counts.written + log.counts.dropped == 5 * sent
    assert {path.suffix for path in inference_log.parts(small_disk / "log")} == {".parquet"}
    table = rows(small_disk / "log").to_pylist()
    keys = {(row["request_id"], row["row"]) for row in table}
    assert len(table) == len(keys) >= log.counts.written
    for row in table:
        assert row["pixels"] == noise[int(row["request_id"], 16) * 5 + row["row"]].tobytes()


def test_part_that_is_too_large_to_be_closed_on_a_full_disk_is_closed_later(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1_500, 28, 28), np.uint8)  # 1.2 of 2 MB
    log = LogWriter(small_disk / "log", max_days=1, max_megabytes=100)
    log.recover()
    write(log, record(noise))
    log.close()
    assert "stays an open part" in caplog.text
    assert [path.suffix for path in inference_log.parts(small_disk / "log")] == [".arrows"]
    subprocess.run(["mount", "-o", f"remount,size={3 * SIZE}", str(small_disk)], check=True)
    write(log, record(noise[:3], 1))
    log.close()
    assert [path.suffix for path in inference_log.parts(small_disk / "log")] == [".parquet"] * 2
    assert rows(small_disk / "log").num_rows == 1_503


def test_rows_of_versions_and_routes_that_mix_stay_right(tmp_path: Path, digits: Arrays) -> None:
    log = started(tmp_path, pixels=True)
    expected: dict[tuple[str, int], tuple[Record, np.ndarray]] = {}
    for number in range(40):
        images = digits["test_images"][number * 3 : number * 3 + 1 + number % 3]
        each = replace(record(images, number), route=f"/{number % 2}", version=1 + number % 3)
        expected |= {(each.request_id, row): (each, image) for row, image in enumerate(images)}
        log.append(each)
    log.stop()
    table = rows(tmp_path).to_pylist()
    assert len(table) == len(expected)
    for row in table:
        each, image = expected[row["request_id"], row["row"]]
        assert (row["route"], row["version"]) == (each.route, each.version)
        assert row["pixels"] == image.tobytes()
        assert row["input_sha256"] == hashlib.sha256(image.tobytes()).digest()
        assert np.allclose(row["probabilities"], each.probabilities[row["row"]])
        assert row["time"].timestamp() * 1e6 == pytest.approx(each.time_us)


def test_rows_arrive_as_they_were_sent_and_a_cut_message_is_no_row(digits: Arrays) -> None:
    images = np.repeat(digits["test_images"][:3, ..., None], 3, axis=3)
    sent = Rows.of([replace(record(images[:2], 1), classes=("a\nb", "ä")), record(images[2:], 2)])
    file = io.BytesIO()
    sent.write(file)
    header, begin = json.loads(file.getvalue().split(b"\n", 1)[0]), file.getvalue().index(b"\n") + 1
    arrays = file.getvalue()[begin:]
    got = Rows.read(header, io.BytesIO(arrays))
    assert (got.route, got.model, got.request_ids) == (sent.route, sent.model, sent.request_ids)
    assert got.answers.classes == ("a\nb", "ä")
    assert (got.answers.version, got.answers.digest) == (3, "ab")
    for name in ("times_us", "counts", "images"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))
        assert getattr(got, name).dtype == getattr(sent, name).dtype
    for name in ("best", "confidence", "probabilities"):
        np.testing.assert_array_equal(getattr(got.answers, name), getattr(sent.answers, name))
    for length in range(0, len(arrays), 97):
        with pytest.raises(EOFError):
            Rows.read(header, io.BytesIO(arrays[:length]))


def test_a_part_that_cannot_be_read_holds_up_no_other(tmp_path: Path, digits: Arrays) -> None:
    day = tmp_path / "2026-01-02"
    day.mkdir()
    other = pa.record_batch({"number": [1]})
    with (
        pa.OSFile(str(day / "a-foreign.arrows"), "wb") as file,
        pa.ipc.new_stream(file, other.schema) as stream,
    ):
        stream.write_batch(other)
    dead = LogWriter(tmp_path, max_days=1, max_megabytes=1)
    write(dead, record(digits["test_images"][:3]))
    [part] = [path for path in tmp_path.glob("*/*.arrows") if path.parent != day]
    shutil.copyfile(part, day / "b-torn.arrows")  # without the lock of a living process
    LogWriter(tmp_path, max_days=1, max_megabytes=1).recover()
    assert sorted(path.name for path in day.iterdir()) == ["a-foreign.arrows", "b-torn.parquet"]
    dead.close()
    for path in tmp_path.glob("*/*.parquet"):
        assert path.stat().st_mode & 0o077 == 0, "pixels are for this user alone"


def test_rows_that_no_process_writes_at_the_end_are_counted(
    tmp_path: Path, digits: Arrays, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    log = started(tmp_path)
    log.append(record(digits["test_images"][:3]))
    log.stop()
    assert log.counts == LogCounts(0, 3)
    assert "3 rows of the inference log are lost" in caplog.text
