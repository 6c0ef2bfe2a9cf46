"""One flow run at a time in a checkout."""

from filelock import AcquireReturnProxy, FileLock, Timeout

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState


def only_one(paths: Paths) -> AcquireReturnProxy[FileLock]:
    """Keep a second flow run out while the block lasts. DVC's own locks would fail it half-way.

    Raises:
        Unavailable: there is another one.
    """
    LocalState(paths.root).checkout_lock.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LocalState(paths.root).checkout_lock)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise Unavailable(
            "Another flow run is at work in this checkout.",
            expected="one at a time",
            found=f"{lock.lock_file} is held",
            fix="wait for it, or run in another clone",
        ) from None


def is_free(paths: Paths) -> bool:
    """Whether no flow run is at work."""
    try:
        with only_one(paths):
            return True
    except Unavailable:
        return False
