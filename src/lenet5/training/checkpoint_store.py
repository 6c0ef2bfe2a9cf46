"""Store checkpoints in a folder of this machine, or at an fsspec URL that several workers share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from filelock import FileLock, Timeout

from lenet5.core import files
from lenet5.core.paths import Paths
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.system.state import LocalState
from lenet5.system.terminal import console

log = logging.getLogger(__name__)


class CheckpointStore:
    """Stores the last checkpoint of one training.

    If the store does not answer, it logs a warning and the training continues.
    """

    def __init__(self, url: str, training: str) -> None:
        """Choose the file.

        Args:
            url: a folder, or any URL of fsspec.
            training: the identity of the training; it is the name of the file.
        """
        self._path = f"{url.rstrip('/')}/{training}.npz"
        self._folder = None if "://" in url else Path(url)

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint, or None if there is none or it cannot be read."""
        try:
            file_system, path = fsspec.url_to_fs(self._path)
            return Checkpoint.decode(file_system.cat_file(path))
        except FileNotFoundError:
            return None
        except Exception as error:  # each driver of fsspec raises its own exceptions
            log.warning("the checkpoint %s is not used: %s", self._path, error)
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the last checkpoint atomically."""
        try:
            if self._folder:
                with files.replacing(Path(self._path)) as partial:
                    partial.write_bytes(checkpoint.encode())
                return
            file_system, path = fsspec.url_to_fs(self._path)
            file_system.pipe_file(path, checkpoint.encode())  # object stores replace objects atomically
        except Exception as error:  # each driver of fsspec raises its own exceptions
            log.warning("the checkpoint of epoch %d was not saved: %s", checkpoint.epoch, error)

    def discard(self) -> None:
        """Remove the checkpoint after the end of the training."""
        try:
            file_system, path = fsspec.url_to_fs(self._path)
            if file_system.exists(path):
                file_system.rm_file(path)
        except Exception as error:  # each driver of fsspec raises its own exceptions
            log.warning("the checkpoint %s could not be removed: %s", self._path, error)


@contextmanager
def exclusive(paths: Paths, training: str) -> Iterator[None]:
    """Let only one process of this machine run a training; a second one waits until the first has ended.

    Two processes can meet because a stage can go on after its DVC process was killed.

    Args:
        paths: the checkout, for its local state.
        training: the identity of the training.
    """
    folder = LocalState(paths.root).training_locks
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{training}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("another process runs the same training: waiting for its end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
