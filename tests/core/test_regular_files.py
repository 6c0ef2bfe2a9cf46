"""Something else in the place of a file is an error at once: never a wait, never a stack trace."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage
from lenet5.model import keras_file
from lenet5.stages import params, recipes
from lenet5.stages.validate import reference
from lenet5.sweep import space
from lenet5.system import dvc, settings
from tests.conftest import REPOSITORY


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a named pipe": os.mkfifo,
    "a socket": _bind,
    "a loop of symbolic links": lambda path: path.symlink_to(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "text": files.read_text,
    "bytes": files.read_bytes,
    "digest": files.sha256,
    "table": files.read_csv,
    "yaml": lambda path: files.read_yaml(path, fix="restore it"),
    "manifest": lambda path: dataset.load_manifest(path.parent),
    "result": Lineage.read,
    "model": keras_file.load,
    "reference": lambda path: reference.load(path, params.load(REPOSITORY / "params.yaml").validate_),
    "params": params.load,
    "recipe": lambda path: recipes.load(path.parent, path.stem),
    "space": lambda path: space.load(path, params.load(REPOSITORY / "params.yaml")),
    "settings": lambda path: settings.load(Paths(path.parent)),
    "lock": dvc.recorded_outputs,
}
NAMES = {"manifest": "manifest.json", "recipe": "fast.yaml", "settings": ".env", "lock": "dvc.lock"}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("found", REPLACEMENTS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = tmp_path / NAMES.get(reader, "file")
    REPLACEMENTS[found](Path(path.name) if found == "a socket" else path)
    with pytest.raises(DataError, match=re.escape(str(path))) as refused:
        READERS[reader](path)
    assert f"found:    {found}" in str(refused.value)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("found", ["a named pipe", "a socket", "a device"])
@pytest.mark.parametrize("name", ["mlflow/mlflow.db", "prefect/prefect.db", "sweeps/sweeps.db"])
def test_every_database_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
) -> None:
    path = tmp_path / ".lenet5" / name
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)
    REPLACEMENTS[found](Path(path.name) if found == "a socket" else path)
    with pytest.raises(DataError, match=found):
        settings.apply(Paths(tmp_path))


@pytest.mark.parametrize("obstacle", ["a file", "a loop of symbolic links"])
def test_the_folder_that_is_none_is_named(tmp_path: Path, obstacle: str) -> None:
    data = tmp_path / "data"
    if obstacle == "a file":
        data.touch()
    else:
        data.symlink_to(data)
    with pytest.raises(OSError, match=r".") as failed:
        (data / "raw" / "file").write_text("text")
    wrong = files.wrong_kind(failed.value, data / "raw" / "file")
    assert wrong is not None
    assert str(wrong).startswith(f"{data} cannot be used.")
    assert f"found:    {obstacle}" in str(wrong)


def test_no_module_opens_a_stored_file_past_the_check() -> None:
    """A reader of a checkout's files calls ``files.read_text``, ``read_bytes`` or ``regular``."""
    allowed = {
        "core/files.py",
        "stages/validate/data_docs.py",  # pages that the same call has just written
        "system/empty_database.py",  # a file of this package
        "system/process.py",  # /proc
        "system/environment.py",  # /proc
        "training/launcher.py",  # files of its own temporary folder
        "registry/lineage.py",  # files that it has just downloaded
        "orchestration/reproduce.py",
        "serving/predictor.py",
        "pages/version_report.py",
        "stages/evaluate/report.py",  # figures that the stage has just drawn
        "serving/page/routes.py",  # files of this package
    }
    source = REPOSITORY / "src" / "lenet5"
    direct = re.compile(r"(?<!files)\.read_(?:text|bytes)\(")
    found = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if direct.search(path.read_text())
    }
    assert found <= allowed
