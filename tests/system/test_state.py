"""Local state belongs to its owner only, also the folders that DVC makes."""

import stat
import subprocess
from pathlib import Path

import pytest

from lenet5.system.state import LocalState
from tests.conftest import BIN


@pytest.mark.slow
def test_nothing_is_writable_for_everybody(tmp_path: Path) -> None:
    LocalState(tmp_path).prepare()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    environment = {
        "DVC_SITE_CACHE_DIR": str(tmp_path / ".lenet5/dvc"),
        "DVC_NO_ANALYTICS": "1",
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    for words in (("init", "--quiet"), ("status",)):
        subprocess.run([BIN / "dvc", *words], cwd=tmp_path, env=environment, check=True)
    folder = tmp_path / ".lenet5"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list((folder / "dvc" / "repo").iterdir())  # DVC has worked there
    open_to_all = [path for path in folder.rglob("*") if path.stat().st_mode & stat.S_IWOTH]
    assert open_to_all == []


def test_folders_of_an_earlier_release_are_closed(tmp_path: Path) -> None:
    open_folder = tmp_path / ".lenet5" / "dvc" / "repo"
    open_folder.mkdir(parents=True)
    for folder in (open_folder, open_folder.parent, open_folder.parent.parent):
        folder.chmod(0o777)
    LocalState(tmp_path).prepare()
    for folder in (open_folder, open_folder.parent, open_folder.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
