"""A command checks the file that it will write before it works, and never replaces anything but a file."""

import os
from pathlib import Path

import pytest

from lenet5.cli import app
from lenet5.cli.app import output_file
from lenet5.core.errors import UsageError


@pytest.mark.parametrize("name", ["folder", "pipe", "file/below", "loop", "."])
def test_only_a_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    with pytest.raises(UsageError, match="cannot be written"):
        output_file(Path(name))


@pytest.mark.parametrize("name", ["file", "new", "folder/new", "new/folder/file", "link"])
def test_files_and_new_names_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    Path("link").symlink_to("file")
    assert output_file(Path(name)) == Path(name)


@pytest.mark.parametrize(
    "words",
    [
        ("batch", "a.npy", "--output"),
        ("traffic", "--export"),
        ("data", "card", "--output"),
        ("report", "--output"),
        ("compare", "1", "2", "--output"),
        ("explain", __file__, "--output"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_replaces_a_folder(words: tuple[str, ...], tmp_path: Path) -> None:
    kept = tmp_path / "folder" / "kept"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(UsageError, match="cannot be written"):
        app([*words, str(kept.parent)], standalone_mode=False)
    assert kept.exists()
