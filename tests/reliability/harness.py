"""Start a command, interrupt it at a random moment, and compare what is left with an undisturbed run."""

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient

from lenet5.core import files
from lenet5.system import settings
from tests.conftest import BIN, Project, until

MODEL = "lenet5-mnist"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SEED_VARIABLE = "RELIABILITY_SEED"
Target = Literal["process", "group"]


def seeded(test: str) -> random.Random:
    """Return the random numbers of one test. Its seed is ``RELIABILITY_SEED``, or else a new one."""
    seed = os.environ.get(SEED_VARIABLE) or str(random.SystemRandom().randrange(10**9))
    print(f"{SEED_VARIABLE}={seed}")  # pytest shows it when the test fails
    return random.Random(f"{seed} {test}")


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    output: str
    seconds: float


@contextmanager
def started(
    project: Project, *words: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own, which is killed at the end of the block.

    Its output goes to a file, so that no pipe keeps a process alive.
    """
    log = _log(project)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            cwd=project.root,
            env=project.environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def complete(
    project: Project, *words: str, environment: Mapping[str, str] | None = None, seconds: float = 400
) -> Ended:
    """Run a command to its end."""
    begin = time.monotonic()
    with started(project, *words, environment=environment) as process:
        code = process.wait(timeout=seconds)
    return Ended(code, output_of(project), time.monotonic() - begin)


def interrupt(
    project: Project, words: Sequence[str], *, after: float, how: signal.Signals, target: Target
) -> Ended:
    """Start a command and send it a signal; require that it and all its processes end.

    Args:
        project: the checkout.
        words: the command.
        after: seconds from its start to the signal.
        how: the signal.
        target: the process alone, as ``kill`` does, or its process group, as a terminal's Ctrl-C does.
    """
    begin = time.monotonic()
    with started(project, *words) as process:
        with suppress(subprocess.TimeoutExpired):  # it works at the moment of the signal
            process.wait(timeout=after)
        with suppress(ProcessLookupError):
            (os.killpg if target == "group" else os.kill)(process.pid, how)
        code = process.wait(timeout=90)
        until(lambda: not project.processes(), 60, f"the end of {project.processes()}")
    return Ended(code, output_of(project), time.monotonic() - begin)


def output_of(project: Project) -> str:
    """Return the output of the last command."""
    return _log(project).read_text(errors="replace")


def _log(project: Project) -> Path:
    """Return the file for the output. It is not beside the project, whose disk can be full."""
    return Path(tempfile.gettempdir()) / f"reliability-{os.getpid()}-{project.root.parent.name}.log"


@dataclass(frozen=True)
class State:
    """What a fault must not change."""

    lock: str
    """The content of ``dvc.lock``."""
    model: str
    """The SHA-256 of the model file."""
    versions: int


def state(project: Project) -> State:
    """Read the state of a finished project, and require that no run is left open."""
    client = MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])
    experiments = [each.experiment_id for each in client.search_experiments()]
    left = [run.info.run_id for run in client.search_runs(experiments, filter_string="status = 'RUNNING'")]
    assert left == [], "runs that are left RUNNING"
    return State(
        project.paths.lock.read_text(),
        files.sha256(project.paths.model),
        len(client.search_model_versions(f"name = '{MODEL}'")),
    )


def require_no_trace(output: str) -> None:
    """Require that a fault from outside is reported without a stack trace of the product.

    DVC and Prefect print traces of their own when a signal comes while they are imported.
    """
    at = output.find("Traceback (most recent call last)")
    assert at == -1 or "/lenet5/" not in output[at:], output[-6000:]
