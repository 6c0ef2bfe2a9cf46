"""Connect several processes with JAX, so that Keras' own ``fit`` runs across them.

``jax.distributed`` opens the connections (with gloo on CPUs). Arrays are then distributed over all processes,
so gradients, metrics and the decisions of callbacks are those of the whole batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from lenet5.core.errors import TrainingError
from lenet5.stages.train.sharding import ProcessGroup

HEARTBEAT_SECONDS = 30
"""Time without an answer after which a process counts as dead. The end of a process is noticed at once."""


class JaxProcessGroup(ProcessGroup):
    """Several processes, connected by :func:`connected`."""

    def broadcast(self, content: bytes) -> bytes:
        """Return the content of the primary process; the content of the other processes is ignored."""
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int(broadcast_one_to_all(np.int32(len(content))))
        local = np.frombuffer(content, np.uint8) if self.is_primary else np.zeros(size, np.uint8)
        return np.asarray(broadcast_one_to_all(local)).tobytes()

    def require_same(self, what: str, digest: str) -> None:
        """Compare a SHA-256 across all processes.

        Raises:
            TrainingError: the digests differ; the message names the ranks.
        """
        from jax.experimental.multihost_utils import process_allgather

        gathered = process_allgather(np.frombuffer(bytes.fromhex(digest), np.uint8))  # (size, 32)
        digests = [bytes(row).hex() for row in np.asarray(gathered)]
        if len(set(digests)) > 1:
            raise TrainingError(
                f"The processes of this training have different {what}; nothing is saved.",
                expected="the same SHA-256 on all of them",
                found=", ".join(f"{digest[:12]} on process {rank}" for rank, digest in enumerate(digests)),
                fix="give the machines the same packages and the same kind of processor, and run it again",
            )


@contextmanager
def connected(group: ProcessGroup, address: str, timeout: int) -> Iterator[None]:
    """Connect this process with the others and disconnect at the end; after an exception, do not disconnect.

    Models and batches that Keras creates in the block are distributed over the group. JAX ends this process
    with SIGABRT if the others do not connect in time, or if one of them dies.

    Args:
        group: this process's rank and the number of processes.
        address: ``host:port`` on which the primary process listens.
        timeout: seconds to wait for the others.

    Raises:
        TrainingError: the rank or the number of the connected processes differs from the group.
    """
    import jax

    jax.distributed.initialize(
        address,
        num_processes=group.size,
        process_id=group.rank,
        initialization_timeout=timeout,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        coordinator_bind_address=address,  # by default it would listen on every interface
    )
    # without this check, an engine without collectives would train a separate model in each process
    if (jax.process_index(), jax.process_count()) != (group.rank, group.size):
        raise TrainingError(
            "The processes of this training are not connected.",
            expected=f"process {group.rank} of {group.size}",
            found=f"process {jax.process_index()} of {jax.process_count()}",
            fix="run the training again; if it fails again, set train.workers to 1",
        )
    import keras

    with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
        yield
    jax.distributed.shutdown()
