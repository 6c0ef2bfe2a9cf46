"""The flow that removes what runs leave on a worker's machine, and closes runs that nobody works on."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import fsspec
from filelock import FileLock
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed

from lenet5.core.errors import Lenet5Error, Unavailable
from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, workspace
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import runs, store

_YOUNG_SECONDS = 600
"""A workspace is made a moment before its flow run locks it."""
SILENT = timedelta(hours=1)
"""A run that is fed every two seconds and says nothing for so long has nobody who feeds it."""


@flow(name="lenet5-cleanup")
def cleanup(keep_days: int | None = None, ref: str | None = None) -> State[Any]:
    """Remove old workspaces, checkpoints and cached data of this machine; close orphan MLflow runs.

    What is removed from the cache is in the DVC remote, and comes back from there when it is needed.

    Args:
        keep_days: workspaces and checkpoints that are younger stay; LENET5_KEEP_DAYS when left out.
        ref: the branch, tag or commit whose code cleans up.
    """
    paths = Paths.find()
    settings.apply(paths)
    found = settings.load(paths)
    days = timedelta(days=keep_days if keep_days is not None else found.lenet5_keep_days)
    log = get_run_logger().info
    try:
        told = [
            f"{len(list(_old_workspaces(paths, days)))} workspaces",
            f"{len(list(_old_checkpoints(found.lenet5_checkpoints, days)))} checkpoints",
            f"{_close_orphans(paths)} orphan runs",
            _cache(paths),
        ]
    except Lenet5Error as error:
        return Failed(message=str(error))
    for line in told:
        log(line)
    workspace.leave(paths)
    return Completed(message="; ".join(told))


def _old_workspaces(paths: Paths, days: timedelta) -> Iterator[Path]:
    """Remove each workspace that is old and in which nobody works."""
    for folder in _others(paths):
        if _age(folder) >= days and not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
            yield folder


def _old_checkpoints(url: str, days: timedelta) -> Iterator[str]:
    """Remove each checkpoint of a training that nobody went on with."""
    file_system, path = fsspec.url_to_fs(url)
    for name in file_system.glob(f"{path.rstrip('/')}/*.npz"):
        with suppress(FileNotFoundError):  # its training has just ended
            changed = file_system.modified(name)
            if datetime.now(UTC) - changed.replace(tzinfo=changed.tzinfo or UTC) >= days:
                file_system.rm_file(name)
                yield name


def _close_orphans(paths: Paths) -> int:
    with store.reachable(paths):
        return runs.close_orphans(store.connect(paths), paths, is_over=_is_over, silent=SILENT)


def _is_over(number: str) -> bool:
    """Whether a flow run has ended, or the server has forgotten it."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(number)).state
        except (ObjectNotFound, ValueError):
            return True
    return state is None or state.is_final()


def _cache(paths: Paths) -> str:
    """Remove what no commit names from the cache of this machine, unless somebody uses it."""
    with FileLock(workspace.repository_lock(paths)):  # so that no workspace is made meanwhile
        others = _others(paths)
        if busy := [folder for folder in others if _in_use(folder)]:
            return f"the cache stays as it is: {len(busy)} flow runs use it"
        # what failed runs made is in no remote yet, and the next run goes on from it
        left = [folder for folder in others if (folder / ".dvc").is_dir()]
        kept = [word for folder in left for word in ("--projects", str(folder))]
        command = [sys.executable, "-m", "dvc", "gc", "--workspace", "--all-commits", "--force", *kept]
        done = subprocess.run(command, cwd=paths.root, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        raise Unavailable("The cache was not cleaned up.", found="\n".join(lines[-5:]))
    return f"cache: {lines[-1] if lines else 'nothing to remove'}"


def _others(paths: Paths) -> list[Path]:
    """Every workspace but this one."""
    folders = (
        LocalState(paths.root).workspaces.iterdir() if LocalState(paths.root).workspaces.exists() else ()
    )
    return sorted(folder for folder in folders if folder != paths.root)


def _in_use(folder: Path) -> bool:
    return _age(folder) < timedelta(seconds=_YOUNG_SECONDS) or not checkout_lock.is_free(Paths(folder))


def _age(folder: Path) -> timedelta:
    try:
        return timedelta(seconds=time.time() - folder.stat().st_mtime)
    except FileNotFoundError:  # its flow run has just ended
        return timedelta(0)
