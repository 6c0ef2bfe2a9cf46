"""A worker's process: ``python -m lenet5.train.seat SEAT``, as the launcher starts it."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lenet5 import settings, supervision
from lenet5.errors import Lenet5Error
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import console, errors
from lenet5.train.gang import Gang

LOST = 75
"""The exit code of one that had to end because of another one."""


class Word(BaseModel):
    """What a worker says before it ends with an error of ours."""

    exit_code: int
    message: str


class Seat(BaseModel):
    """Where a worker belongs."""

    model_config = ConfigDict(frozen=True)

    root: Path
    """The checkout."""
    folder: Path
    """For what it tells the launcher."""
    params: Train
    rank: int
    address: str
    """``host:port`` on which the first worker listens."""
    patience: int
    """Seconds to wait for the others."""

    @property
    def gang(self) -> Gang:
        return Gang(self.rank, self.params.workers)

    @property
    def log(self) -> Path:
        """What libraries print, and stack traces."""
        return self.folder / f"{self.rank}.log"

    @property
    def met(self) -> Path:
        """Is there when it has met the others."""
        return self.folder / f"{self.rank}.met"

    @property
    def word(self) -> Path:
        return self.folder / f"{self.rank}.json"


def main(seat: Seat) -> int:
    """Train; the exit code."""
    supervision.accept()
    _divert(seat.log)
    if not seat.gang.leads:
        # Keras would import it only to seed it: seconds, and 400 MB
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        with settings.lean_keras(for_training=True):
            from lenet5.train import member

        member.run(Paths(seat.root), seat.params, seat.gang, _meeting(seat))
    except Lenet5Error as error:
        seat.word.write_text(Word(exit_code=error.exit_code, message=str(error)).model_dump_json())
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback.print_exc()
        return LOST if _is_lost_connection(error) else 1
    return 0


def _divert(log: Path) -> None:
    """Leave the terminal to our own words: gloo greets on it, and JAX says much when a worker died."""
    console.file, errors.file = (os.fdopen(os.dup(stream), "w", buffering=1) for stream in (1, 2))
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


@contextmanager
def _meeting(seat: Seat) -> Iterator[None]:
    with seat.gang.joined(seat.address, seat.patience):
        seat.met.touch()
        yield


def _is_lost_connection(error: Exception) -> bool:
    """Whether another worker is gone: JAX has no class for it, and wraps gloo's words in any of several."""
    return "gloo" in str(error).lower()


if __name__ == "__main__":
    code = main(Seat.model_validate_json(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at a normal exit, JAX waits for workers that may be gone
