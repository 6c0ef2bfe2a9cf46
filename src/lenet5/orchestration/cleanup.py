"""Remove what runs leave on a worker's machine, and close MLflow runs on which nothing works any more."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import fsspec
from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, workspace
from lenet5.system import dvc, settings
from lenet5.system.state import LocalState
from lenet5.tracking import runs, store

_YOUNG = timedelta(minutes=10)
"""A workspace is made a moment before its flow run locks it."""
SILENT = timedelta(hours=1)
"""A run that gets metrics every two seconds and has had none for this long is abandoned."""


def run(paths: Paths, keep_days: int | None) -> list[str]:
    """Remove old workspaces, checkpoints and unused cache entries; close abandoned MLflow runs.

    Args:
        paths: the checkout of the flow run that cleans up.
        keep_days: younger workspaces and checkpoints stay; LENET5_KEEP_DAYS when None.

    Returns:
        One line for each kind of thing.

    Raises:
        Unavailable: the tracking store or DVC does not answer.
    """
    configured = settings.load(paths)
    days = timedelta(days=keep_days if keep_days is not None else configured.lenet5_keep_days)
    return [
        f"{len(list(remove_workspaces(paths, days)))} workspaces",
        f"{len(list(remove_checkpoints(configured.lenet5_checkpoints, days)))} checkpoints",
        f"{_close_orphans(paths)} orphan runs",
        clean_cache(paths),
    ]


def remove_workspaces(paths: Paths, age: timedelta) -> Iterator[Path]:
    """Remove each workspace that is old and not in use; yield its folder."""
    for folder in _other_workspaces(paths):
        if _age(folder) >= age and not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
            yield folder


def remove_checkpoints(url: str, age: timedelta) -> Iterator[str]:
    """Remove each checkpoint of a training that was never resumed; yield its path.

    Args:
        url: of the checkpoints: a folder or any fsspec URL.
        age: younger ones stay.
    """
    file_system, path = fsspec.url_to_fs(url)
    for name in file_system.glob(f"{path.rstrip('/')}/*.npz"):
        with suppress(FileNotFoundError):  # its training has just ended
            changed = file_system.modified(name)
            if datetime.now(UTC) - changed.replace(tzinfo=changed.tzinfo or UTC) >= age:
                file_system.rm_file(name)
                yield name


def clean_cache(paths: Paths) -> str:
    """Remove from this machine's cache what no commit names, unless a flow run uses it.

    What is removed is in the DVC remote, and is fetched from there when it is needed.

    Raises:
        Unavailable: DVC failed.
    """
    with FileLock(workspace.repository_lock(paths)):  # so that no workspace is made meanwhile
        others = _other_workspaces(paths)
        if busy := [folder for folder in others if _in_use(folder)]:
            return f"the cache stays as it is: {len(busy)} flow runs use it"
        # outputs of failed runs are in no remote yet, and the next run continues from them
        kept = [folder for folder in others if (folder / ".dvc").is_dir()]
        return f"cache: {dvc.remove_unused(paths.root, keep=kept)}"


def _close_orphans(paths: Paths) -> int:
    with store.reachable(paths):
        return runs.close_orphans(store.connect(paths), paths, is_over=_is_over, silent=SILENT)


def _is_over(flow_run: str) -> bool:
    """Return whether a flow run has ended, or the server does not know it any more."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run)).state
        except (ObjectNotFound, ValueError):
            return True
    return state is None or state.is_final()


def _other_workspaces(paths: Paths) -> list[Path]:
    """Return every workspace but this one."""
    folder = LocalState(paths.root).workspaces
    folders = folder.iterdir() if folder.exists() else ()
    return sorted(each for each in folders if each != paths.root)


def _in_use(folder: Path) -> bool:
    return _age(folder) < _YOUNG or not checkout_lock.is_free(Paths(folder))


def _age(folder: Path) -> timedelta:
    try:
        return timedelta(seconds=time.time() - folder.stat().st_mtime)
    except FileNotFoundError:  # its flow run has just ended
        return timedelta(0)
