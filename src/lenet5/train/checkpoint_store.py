"""Where checkpoints lie: a folder of this machine, or any fsspec URL that several workers share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from filelock import FileLock, Timeout

from lenet5 import files
from lenet5.terminal import console, print_warning
from lenet5.train.checkpoint import Checkpoint


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
            print_warning(f"the checkpoint {self._path} is not used: {error}")
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
            print_warning(f"no checkpoint was kept after epoch {checkpoint.epoch}: {error}")

    def discard(self) -> None:
        """Forget it: the training is over."""
        try:
            file_system, path = fsspec.url_to_fs(self._path)
            if file_system.exists(path):
                file_system.rm_file(path)
        except Exception as error:  # each driver has its own kinds
            print_warning(f"the checkpoint {self._path} could not be removed: {error}")


@contextmanager
def alone(locks: Path, training: str) -> Iterator[None]:
    """Let no two processes of this machine train the same at once; the second one waits.

    A stage whose DVC was killed may be at work still.
    """
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{training}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("another process is at the same training: waiting for its end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
