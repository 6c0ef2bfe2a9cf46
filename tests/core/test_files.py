"""A file is replaced completely or not at all, whether the writer finishes, fails or is killed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lenet5.core import files
from lenet5.core.errors import DataError

SLOW_WRITER = """
import sys, time
from pathlib import Path
from lenet5.core import files
with files.replacing(Path(sys.argv[1])) as partial:
    if sys.argv[2] == "folder":
        partial.mkdir()
        partial = partial / "first"
    partial.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def write(target: Path, kind: str, text: str) -> None:
    with files.replacing(target) as partial:
        if kind == "folder":
            partial.mkdir()
            (partial / "first").write_text(text)
        else:
            partial.write_text(text)


def read(target: Path, kind: str) -> str:
    if kind == "folder":
        assert [path.name for path in target.iterdir()] == ["first"]
        return (target / "first").read_text()
    return target.read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_new_content_replaces_the_old_content(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "new" / "parent" / "folders" / "target"
    write(target, kind, "old")
    write(target, kind, "new")
    assert read(target, kind) == "new"
    assert list(target.parent.iterdir()) == [target]


def test_folder_is_replaced_not_merged(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "stale").touch()
    write(target, "folder", "new")
    assert read(target, "folder") == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_exception_keeps_the_old_content_and_leaves_no_temporary_file(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    write(target, kind, "old")

    def stopped_in_the_middle() -> None:
        with files.replacing(target) as partial:
            partial.mkdir() if kind == "folder" else partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_in_the_middle()
    assert read(target, kind) == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_writer_keeps_the_old_content_and_the_next_writer_cleans_up(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    write(target, kind, "old")
    writer = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(target), kind], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    assert read(target, kind) == "old"
    assert len(list(tmp_path.iterdir())) == 2  # the target and the temporary file of the killed writer
    write(target, kind, "new")
    assert read(target, kind) == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_writers_of_similar_names_do_not_interfere(tmp_path: Path) -> None:
    for name in ("a.txt", "a"):
        with files.replacing(tmp_path / name) as partial:
            partial.write_text(name)
            for other in {"a", "b", "a.txt", "a.txt.gz"} - {name}:
                write(tmp_path / other, "file", other)
        assert (tmp_path / name).read_text() == name


def test_block_that_writes_no_file_is_an_error_and_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(target, "folder", "old")
    with pytest.raises(FileNotFoundError), files.replacing(target):
        pass
    assert read(target, "folder") == "old"


def test_equal_values_give_equal_json_bytes(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", {"b": 1, "a": {"d": 0.1, "c": None}})
    files.write_json(tmp_path / "b", {"a": {"c": None, "d": 0.1}, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"a": {"c": None, "d": 0.1}, "b": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_rejects_nan_and_infinity_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    files.write_json(tmp_path / "a", 1)
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a", {"loss": value})
    assert (tmp_path / "a").read_text() == "1\n"


def test_sha256_equals_the_hash_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one read of a buffer
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    (tmp_path / "a").write_bytes(content[:-1] + b"\0")
    assert files.sha256(tmp_path / "a") != hashlib.sha256(content).hexdigest()


def test_sha256_of_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no .*/lenet5"):
        files.sha256(tmp_path / "lenet5")


def test_names_in_a_table_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = ["007", "NA", "1e3", "nan", "a, b", 'say "x"', "", "null", "True"]
    files.write_csv(tmp_path / "names.csv", pd.DataFrame({"class": names, "recall": 0.5}))
    table = files.read_csv(tmp_path / "names.csv", names=["class"])
    assert table["class"].tolist() == names
    assert table["recall"].tolist() == [0.5] * len(names)
