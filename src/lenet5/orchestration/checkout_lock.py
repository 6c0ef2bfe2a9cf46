"""A lock that keeps two flow runs out of the same checkout."""

from filelock import AcquireReturnProxy, FileLock, Timeout

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState


def hold(paths: Paths) -> AcquireReturnProxy[FileLock]:
    """Lock the checkout while the block lasts. DVC's own locks would let a second flow run fail half-way.

    Raises:
        Unavailable: another flow run holds the lock.
    """
    path = LocalState(paths.root).checkout_lock
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
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
    """Return whether no flow run holds the lock."""
    try:
        with hold(paths):
            return True
    except Unavailable:
        return False
