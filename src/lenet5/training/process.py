"""Run one process of a distributed training: ``python -m lenet5.training.process SPEC``."""

import os
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lenet5.core import storage
from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.stages.train.params import Train
from lenet5.system import logs, parent_watch
from lenet5.system.terminal import console, errors
from lenet5.training.rendezvous import JaxProcessGroup, connected

LOST_CONNECTION = 75
"""Exit code of a process that ended because it lost the connection to another one."""


class WorkerError(BaseModel):
    """An expected error of one process, written for the launcher."""

    exit_code: int
    message: str


class WorkerSpec(BaseModel):
    """The arguments of one training process."""

    model_config = ConfigDict(frozen=True)

    root: Path
    """The checkout."""
    folder: Path
    """The folder in which the process writes files for the launcher."""
    params: Train
    rank: int
    """From 0; process 0 is the primary one."""
    address: str
    """``host:port`` on which the primary process listens."""
    timeout: int
    """Seconds to wait for the other processes."""

    @property
    def group(self) -> JaxProcessGroup:
        return JaxProcessGroup(self.rank, self.params.workers)

    @property
    def log(self) -> Path:
        """Return the file for the output of libraries and for stack traces."""
        return self.folder / f"{self.rank}.log"

    @property
    def connected(self) -> Path:
        """Return the file that exists once this process is connected with the others."""
        return self.folder / f"{self.rank}.connected"

    @property
    def error(self) -> Path:
        """Return the file that holds a ``WorkerError``."""
        return self.folder / f"{self.rank}.json"


def main(spec: WorkerSpec) -> int:
    """Train with the other processes; return the exit code."""
    parent_watch.exit_with_parent()
    _redirect_libraries(spec.log)
    if not spec.group.is_primary:
        # Keras would import TensorFlow only to seed it, which costs seconds and 400 MB
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        with storage.failures_named(spec.root):
            _train(spec)
    except Lenet5Error as error:
        report = WorkerError(exit_code=error.exit_code, message=str(error))
        spec.error.write_text(report.model_dump_json())
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback.print_exc()
        return LOST_CONNECTION if _is_lost_connection(error) else 1
    return 0


def _train(spec: WorkerSpec) -> None:
    with engine.lean_keras():
        from lenet5.stages.train import stage
        from lenet5.training.checkpoint_store import exclusive
        from lenet5.training.observers import observe

    paths = Paths(spec.root)
    with ExitStack() as held:
        if spec.group.is_primary:
            held.enter_context(exclusive(paths, stage.identity(paths, spec.params)))
        held.enter_context(connected(spec.group, spec.address, spec.timeout))
        spec.connected.touch()
        summary = stage.run(
            paths,
            spec.params,
            group=spec.group,
            observe=lambda training: observe(paths, spec.params, training, console),
        )
    if spec.group.is_primary:
        console.print(summary, soft_wrap=True, markup=False)


def _redirect_libraries(log: Path) -> None:
    """Redirect the output of gloo and JAX to a file, because they print a lot when a process dies."""
    console.file, errors.file = (os.fdopen(os.dup(stream), "w", buffering=1) for stream in (1, 2))
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _is_lost_connection(error: Exception) -> bool:
    """Return whether another process is gone. JAX raises several classes for it, all with gloo's message."""
    return "gloo" in str(error).lower()


if __name__ == "__main__":
    logs.configure()
    code = main(WorkerSpec.model_validate_json(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a normal exit makes JAX wait for processes that may be gone
