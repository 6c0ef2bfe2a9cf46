"""A full, read-only or broken disk is one error with its own exit code, whatever library writes."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lenet5.core import dataset, files, storage
from lenet5.core.dataset import Split
from lenet5.core.errors import StorageError

ARRAY = np.zeros((3000, 28, 28), np.uint8)  # 2.3 MB
SIZE = 1_000_000


def write_hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["array"] = ARRAY


def write_parquet(path: Path) -> None:
    import pandas as pd

    noise = np.random.default_rng(0).integers(0, 2**60, (300_000, 2))
    pd.DataFrame(noise, columns=["a", "b"]).to_parquet(path)


def write_picture(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8)).save(path, "PNG")


def write_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (?)", [ARRAY.tobytes()])


def write_bytes(path: Path) -> None:
    path.write_bytes(ARRAY.tobytes())


WRITERS: list[Callable[[Path], None]] = [
    write_bytes,
    write_hdf5,
    write_parquet,
    write_picture,
    write_database,
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("write", WRITERS)
def test_every_library_on_a_full_disk_gives_one_error(
    small_disk: Path, write: Callable[[Path], None]
) -> None:
    target = small_disk / "result"
    target.write_text("good")
    with pytest.raises(StorageError, match="no space left") as failed, files.replacing(target) as partial:
        write(partial)
    assert str(target) in str(failed.value)
    assert "of 1.0 MB free" in str(failed.value)
    assert target.read_text() == "good"
    assert [path.name for path in small_disk.iterdir()] == ["result"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_limit_of_the_size_of_files_gives_the_same_error(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """This needs no right to mount, so it runs everywhere."""
    target = tmp_path / "result"
    target.write_text("good")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StorageError) as failed, files.replacing(target) as partial:
            write(partial)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(target) in str(failed.value)
    assert target.read_text() == "good"


def test_a_dataset_on_a_full_disk_keeps_the_earlier_one(small_disk: Path) -> None:
    few = Split(ARRAY[:10], np.zeros(10, np.uint8))
    dataset.save(small_disk / "raw", {"train": few})
    with pytest.raises(StorageError):
        dataset.save(small_disk / "raw", {"train": Split(ARRAY, np.zeros(len(ARRAY), np.uint8))})
    assert dataset.load(small_disk / "raw").splits["train"].images.shape == (10, 28, 28)


def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="read-only"):
        files.write_text(small_disk / "result", "text")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
def test_each_error_number_has_its_own_words_and_fix(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError) as failed, storage.failures_named(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "file"))
    lines = str(failed.value).splitlines()
    assert str(tmp_path / "file") in lines[0]
    assert "free (" in lines[2]
    assert os.strerror(number) in lines[2]
    assert lines[3].startswith("  fix: ")
    assert failed.value.exit_code == 7


def test_a_cause_is_found_behind_other_exceptions(tmp_path: Path) -> None:
    with pytest.raises(StorageError), storage.failures_named(tmp_path):
        raise ValueError("the table cannot be written") from OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device, said the server"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EIO, "InternalError of the object store"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        sqlite3.OperationalError("database is locked"),
    ],
)
def test_other_failures_stay_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as same, storage.failures_named(tmp_path):
        raise error
    assert same.value is error


def test_the_output_of_another_program_is_recognized(tmp_path: Path) -> None:
    output = ["ERROR: failed to reproduce 'train': [Errno 28] No space left on device", ""]
    assert storage.failure_in_text(output, tmp_path) is not None
    assert storage.failure_in_text(["ERROR: failed to reproduce 'train'"], tmp_path) is None


def test_a_command_whose_output_cannot_be_written_has_the_exit_code() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from lenet5.cli import main; main()", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 7
    assert done.stderr.startswith("error: There is no space left")
    assert "Traceback" not in done.stderr
