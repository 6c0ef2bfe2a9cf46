"""Where checkpoints lie: a folder of this machine, or any fsspec URL that several workers share."""

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
    """The checkpoint of one training, by the digest of everything that decides its weights.

    A store that does not answer costs a warning and not the training.
    """

    def __init__(self, url: str, training: str) -> None:
        self._path = f"{url.rstrip('/')}/{training}.npz"
        self._folder = None if "://" in url else Path(url)

    def load(self) -> Checkpoint | None:
        """The last one; None when there is none, or none that can be read."""
        try:
            file_system, path = fsspec.url_to_fs(self._path)
            return Checkpoint.decode(file_system.cat_file(path))
        except FileNotFoundError:
            return None
        except Exception as error:  # each driver has its own kinds
            log.warning("the checkpoint %s is not used: %s", self._path, error)
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the last one, whole or not at all."""
        try:
            if self._folder:
                with files.replacing(Path(self._path)) as aside:
                    aside.write_bytes(checkpoint.encode())
                return
            file_system, path = fsspec.url_to_fs(self._path)
            file_system.pipe_file(path, checkpoint.encode())  # an object is there whole or not at all
        except Exception as error:  # each driver has its own kinds
            log.warning("no checkpoint was kept after epoch %d: %s", checkpoint.epoch, error)

    def discard(self) -> None:
        """Forget it: the training is over."""
        try:
            file_system, path = fsspec.url_to_fs(self._path)
            if file_system.exists(path):
                file_system.rm_file(path)
        except Exception as error:  # each driver has its own kinds
            log.warning("the checkpoint %s could not be removed: %s", self._path, error)


@contextmanager
def exclusive(paths: Paths, training: str) -> Iterator[None]:
    """Keep two processes of this machine from the same training at once; the second one waits.

    A stage whose DVC process was killed may still run.

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
