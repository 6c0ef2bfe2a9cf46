"""How the processes of one training share out each batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet5.core.errors import UsageError


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model together, seen from one of them. This class is a group of one.

    Each process trains on its share of every batch, and all have the same weights.
    ``lenet5.training.rendezvous`` has the group of several processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_primary(self) -> bool:
        """Return whether this process keeps checkpoints, reports progress and saves the model."""
        return self.rank == 0

    def share(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return this process's part of the rows of a batch: (B,) → (B // size,), equal for all."""
        return rows[: len(rows) // self.size * self.size][self.rank :: self.size]

    def require_equal_shares(self, images: int) -> None:
        """Check that every validation image is scored.

        Raises:
            UsageError: the number of images is no multiple of the number of processes.
        """
        if images % self.size:
            raise UsageError(
                "The validation images cannot be shared out equally.",
                expected=f"preprocess.validation_images divisible by train.workers, {self.size}",
                found=images,
                fix="change one of the two",
            )

    def broadcast(self, content: bytes) -> bytes:
        """Return what the primary process passes; what the others pass is ignored."""
        return content

    def require_same(self, what: str, digest: str) -> None:
        """Compare a SHA-256 across all processes.

        Raises:
            TrainingError: the digests differ; the message names the ranks.
        """


SINGLE_PROCESS = ProcessGroup()
