"""Share out each batch among the processes of one training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet5.core.errors import UsageError


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model together, and the rank of this process among them.

    Each process trains on its share of every batch, and all have the same weights. This class is for one
    process; ``lenet5.training.rendezvous`` has the class for several.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_primary(self) -> bool:
        """Return whether this process saves checkpoints, reports progress and saves the model."""
        return self.rank == 0

    def share(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return this process's part of the rows of a batch: (B,) → (B // size,), equal for all."""
        return rows[: len(rows) // self.size * self.size][self.rank :: self.size]

    def require_equal_shares(self, images: int) -> None:
        """Check that every validation image is scored.

        Raises:
            UsageError: the number of images is not a multiple of the number of processes.
        """
        if images % self.size:
            raise UsageError(
                "The validation images cannot be shared out equally.",
                expected=f"preprocess.validation_images divisible by train.workers, {self.size}",
                found=images,
                fix="change one of the two",
            )

    def broadcast(self, content: bytes) -> bytes:
        """Return the content of the primary process; the content of the other processes is ignored."""
        return content

    def require_same(self, what: str, digest: str) -> None:
        """Compare a SHA-256 across all processes.

        Args:
            what: the name of the compared thing, for the error.
            digest: the digest in this process, as 64 hexadecimal digits.

        Raises:
            TrainingError: the digests differ; the message names the ranks.
        """


SINGLE_PROCESS = ProcessGroup()
