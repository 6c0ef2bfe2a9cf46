"""Processes that train one model together: each on its share of every batch, all with the same weights.

JAX joins them (``jax.distributed``, with gloo between processors), and Keras' own ``fit`` runs on arrays that
lie across all of them: gradients, metrics and so every decision of a callback are those of the whole batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet5.errors import TrainingError, UsageError

HEARTBEAT = 30
"""Seconds without a sign of life until a member counts as dead; the end of a process is noticed at once."""


@dataclass(frozen=True)
class Gang:
    """A member's place among all; alone, nothing is shared and JAX is not needed."""

    rank: int = 0
    workers: int = 1

    @property
    def leads(self) -> bool:
        """Whether this member keeps checkpoints, tells of progress and saves the model."""
        return self.rank == 0

    def share(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """This member's part of the rows of a batch (B,): (B // workers,), as many as any other's."""
        return rows[: len(rows) // self.workers * self.workers][self.rank :: self.workers]

    def require_equal_shares(self, images: int) -> None:
        """Refuse validation images of which some would be left over.

        Raises:
            UsageError: their number is no multiple of the workers.
        """
        if images % self.workers:
            raise UsageError(
                "The validation images cannot be shared out equally.",
                expected=f"preprocess.validation_images divisible by train.workers, {self.workers}",
                found=images,
                do="change one of the two",
            )

    @contextmanager
    def joined(self, address: str, patience: int) -> Iterator[None]:
        """Meet the others, and part from them at the end; an exception leaves at once.

        What Keras makes in the block, models and batches, is the gang's.
        JAX ends this process, with SIGABRT, when they do not come, and when one of them dies.

        Args:
            address: ``host:port`` on which the first member listens.
            patience: seconds to wait for the others.

        Raises:
            TrainingError: other processes are here than expected.
        """
        if self.workers == 1:
            yield
            return
        import jax

        jax.distributed.initialize(
            address,
            num_processes=self.workers,
            process_id=self.rank,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=HEARTBEAT,
            coordinator_bind_address=address,  # by default it would listen on every interface
        )
        # without collectives, each would train a copy of its own
        if (jax.process_index(), jax.process_count()) != (self.rank, self.workers):
            raise TrainingError(
                "The workers of this training are not connected.",
                expected=f"worker {self.rank} of {self.workers}",
                found=f"worker {jax.process_index()} of {jax.process_count()}",
            )
        import keras

        with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
            yield
        jax.distributed.shutdown()

    def broadcast(self, content: bytes) -> bytes:
        """What the first member gives; what the others give does not count."""
        if self.workers == 1:
            return content
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int(broadcast_one_to_all(np.int32(len(content))))
        mine = np.frombuffer(content, np.uint8) if self.leads else np.zeros(size, np.uint8)
        return np.asarray(broadcast_one_to_all(mine)).tobytes()

    def require_same(self, what: str, digest: str) -> None:
        """Compare a SHA-256 of every member.

        Raises:
            TrainingError: they differ; it names the ranks.
        """
        if self.workers == 1:
            return
        from jax.experimental.multihost_utils import process_allgather

        gathered = process_allgather(np.frombuffer(bytes.fromhex(digest), np.uint8))  # (workers, 32)
        found = [bytes(row).hex() for row in np.asarray(gathered)]
        if len(set(found)) > 1:
            raise TrainingError(
                f"The workers of this training have different {what}; nothing is saved.",
                expected="the same SHA-256 on all of them",
                found=", ".join(f"{each[:12]} on worker {rank}" for rank, each in enumerate(found)),
                do="see that their machines have the same packages and kind of processor, and run again",
            )


ALONE = Gang()
