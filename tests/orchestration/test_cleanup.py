"""What a clean-up removes from a machine, and what it leaves alone."""

import os
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest
from dvc.repo import Repo

from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, cleanup
from lenet5.system.state import LocalState

WEEK = timedelta(days=7)
OLD = timedelta(days=8)


@pytest.fixture
def machine(tmp_path: Path) -> Paths:
    """The workspace of the clean-up itself, beside those of other flow runs."""
    own = tmp_path / ".lenet5/workspaces/own"
    own.mkdir(parents=True)
    return Paths(own)


def workspace(machine: Paths, name: str, age: timedelta) -> Path:
    folder = LocalState(machine.root).workspaces / name
    folder.mkdir()
    make_older(folder, age)
    return folder


def make_older(path: Path, age: timedelta) -> None:
    changed = time.time() - age.total_seconds()
    os.utime(path, (changed, changed))


def test_old_workspaces_are_removed_and_young_ones_stay(machine: Paths) -> None:
    old, young = workspace(machine, "old", OLD), workspace(machine, "young", timedelta(days=6))
    assert list(cleanup.remove_workspaces(machine, WEEK)) == [old]
    assert not old.exists()
    assert young.exists()
    assert machine.root.exists()


def test_a_workspace_in_use_stays_however_old_it_is(machine: Paths) -> None:
    busy = workspace(machine, "busy", OLD)
    with checkout_lock.hold(Paths(busy)):
        make_older(busy, OLD)
        assert list(cleanup.remove_workspaces(machine, WEEK)) == []
    make_older(busy, OLD)
    assert list(cleanup.remove_workspaces(machine, WEEK)) == [busy]


def test_a_workspace_that_was_just_made_stays_whatever_the_limit(machine: Paths) -> None:
    workspace(machine, "new", timedelta(minutes=5))
    assert list(cleanup.remove_workspaces(machine, timedelta(0))) == []


def test_old_checkpoints_are_removed_and_other_files_stay(tmp_path: Path) -> None:
    for name, age in {"old.npz": OLD, "young.npz": timedelta(days=1), "notes.txt": OLD}.items():
        (tmp_path / name).write_text("")
        make_older(tmp_path / name, age)
    assert [Path(name).name for name in cleanup.remove_checkpoints(str(tmp_path), WEEK)] == ["old.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "young.npz"]


def test_checkpoints_in_an_object_store_have_an_age_too() -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/of-a-test/one.npz", b"")
    assert list(cleanup.remove_checkpoints("memory://of-a-test", WEEK)) == []
    assert list(cleanup.remove_checkpoints("memory://of-a-test", timedelta(0))) == ["/of-a-test/one.npz"]
    assert not store.exists("/of-a-test/one.npz")


def test_a_folder_without_checkpoints_is_no_error(tmp_path: Path) -> None:
    assert list(cleanup.remove_checkpoints(str(tmp_path / "absent"), WEEK)) == []


@pytest.fixture
def repository(machine: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Paths:
    """A repository whose cache holds an output that a commit names, and one that none does."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")

    def run(*words: str) -> None:
        subprocess.run(words, cwd=machine.root, check=True, capture_output=True)

    run("git", "init", "--quiet")
    with Repo.init(str(machine.root)) as repo:
        for content in ("unused", "used"):
            (machine.root / "data.txt").write_text(content)
            repo.add(str(machine.root / "data.txt"))
    run("git", "add", "--all")
    run("git", *identity, "commit", "--quiet", "--message", "Data")
    return machine


def cached(paths: Paths) -> list[str]:
    return sorted(file.read_text() for file in (paths.root / ".dvc/cache/files").rglob("*") if file.is_file())


def test_the_cache_keeps_what_a_commit_names(repository: Paths) -> None:
    assert cached(repository) == ["unused", "used"]
    assert cleanup.clean_cache(repository).startswith("cache: ")
    assert cached(repository) == ["used"]


def test_the_cache_stays_while_a_flow_run_uses_it(repository: Paths) -> None:
    workspace(repository, "busy", timedelta(minutes=1))
    assert cleanup.clean_cache(repository) == "the cache stays as it is: 1 flow runs use it"
    assert cached(repository) == ["unused", "used"]
