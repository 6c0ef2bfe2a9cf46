"""Run a training in this process, or start several processes and end them together."""

import importlib.util
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lenet5.core import dataset
from lenet5.core.errors import Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages.train.params import Train
from lenet5.stages.train.sharding import ProcessGroup
from lenet5.system import parent_watch, settings
from lenet5.system.process import death, memory_kills
from lenet5.system.terminal import console
from lenet5.training.process import LOST_CONNECTION, WorkerError, WorkerSpec

REMOTE_TIMEOUT_SECONDS = 600
"""How long processes on other machines may take to connect."""
_LOCAL_TIMEOUT_SECONDS = 86_400
"""The launcher sees local processes end, and the primary one may wait long for another equal training."""
_GRACE_SECONDS = 20
"""How long the others may take to end when one has ended: the primary process closes its MLflow run."""
_POLL_SECONDS = 0.1
_ERRORS = {error.exit_code: error for error in Lenet5Error.__subclasses__()}

Worker = tuple[WorkerSpec, "subprocess.Popen[bytes]"]


def run(paths: Paths, params: Train) -> None:
    """Train with ``params.workers`` processes, and print progress and the result.

    A single process is this one. Several processes are started on this machine. If ``LENET5_RENDEZVOUS`` is
    ``RANK@HOST:PORT``, only the process of that rank is started, and other machines start the others.

    Raises:
        DataError: the processed data is missing or damaged.
        TrainingError: the loss or a weight is not finite, or the processes differ; nothing is saved then.
        Unavailable: a process died or did not connect; nothing is saved, and the next training resumes.
        UsageError: the device cannot train in ``params.precision``, JAX is not installed, or the validation
            images cannot be shared out.
    """
    if params.workers == 1:
        _run_here(paths, params)
    else:
        _run_processes(paths, params)


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def environment(threads: int) -> dict[str, str]:
    """Return environment variables with which JAX gives the same bytes in every process.

    Args:
        threads: threads for one operation, ``train.threads``.
    """
    flags = [
        *os.environ.get("XLA_FLAGS", "").split(),
        f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}",
        # with one instruction set there is one code path, which gives the same bytes on every processor
        *(["--xla_cpu_max_isa=AVX2"] if platform.machine() in ("x86_64", "AMD64") else []),
    ]
    return {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "XLA_FLAGS": " ".join(flags),
        "PJRT_NPROC": str(threads),
    }


def _run_here(paths: Paths, params: Train) -> None:
    with quiet_libraries(), engine.lean_keras():
        from lenet5.stages.train import stage
        from lenet5.training.checkpoint_store import exclusive
        from lenet5.training.observers import observe

    with exclusive(paths, stage.identity(paths, params)):
        summary = stage.run(paths, params, observe=lambda training: observe(paths, params, training, console))
    console.print(summary, soft_wrap=True, markup=False)


def _run_processes(paths: Paths, params: Train) -> None:
    _require_jax()
    validation = dataset.load_manifest(paths.processed).splits["validation"]
    ProcessGroup(size=params.workers).require_equal_shares(validation.images.shape[0])
    rendezvous = settings.load(paths).lenet5_rendezvous
    if rendezvous:
        rank, _, address = rendezvous.partition("@")
        ranks, timeout = [int(rank)], REMOTE_TIMEOUT_SECONDS
        console.print(f"process {rank} of {params.workers}, counted from 0; rendezvous at {address}")
    else:
        ranks, timeout = list(range(params.workers)), _LOCAL_TIMEOUT_SECONDS
        address = f"127.0.0.1:{free_port()}"
        console.print(f"{params.workers} processes on this machine")
    with tempfile.TemporaryDirectory() as folder:
        first = WorkerSpec(
            root=paths.root,
            folder=Path(folder),
            params=params,
            rank=ranks[0],
            address=address,
            timeout=timeout,
        )
        _supervise([first.model_copy(update={"rank": rank}) for rank in ranks])


def _require_jax() -> None:
    if importlib.util.find_spec("jax") is None:
        raise UsageError(
            "A training with several processes needs JAX.",
            expected="the package jax: Keras trains across processes on it, and not on TensorFlow",
            found="it is not installed",
            fix="pip install 'lenet5[jax]', or set train.workers to 1",
        )


def _supervise(specs: Sequence[WorkerSpec]) -> None:
    """Start the processes of this machine, wait, and end all of them when one fails."""
    workers: list[Worker] = []
    kills_before = memory_kills()
    try:
        workers += [(spec, _start(spec)) for spec in specs]
        first = workers[0][1]
        while first.poll() is None and all(process.poll() in (None, 0) for _, process in workers):
            time.sleep(_POLL_SECONDS)
        _await_end(workers)
        if first.poll() != 0:  # its success is enough: it saves only after all processes agreed
            raise _failure(workers, kills_before)
    except KeyboardInterrupt:  # the processes receive it as well
        _await_end(workers)
        raise
    finally:
        for _, process in workers:
            process.kill()
            process.wait()


def _start(spec: WorkerSpec) -> "subprocess.Popen[bytes]":
    output = None if spec.group.is_primary else subprocess.DEVNULL  # output of libraries goes to its log
    return subprocess.Popen(
        [sys.executable, "-m", "lenet5.training.process", spec.model_dump_json()],
        cwd=spec.root,
        env=os.environ | environment(spec.params.threads) | parent_watch.env_for_child(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )


def _await_end(workers: Sequence[Worker]) -> None:
    """Wait for the remaining processes, which end by themselves when one of them has ended."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(process.poll() is None for _, process in workers) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _failure(workers: Sequence[Worker], kills_before: int) -> Exception:
    """Return the error of the process that failed first, not of those that lost their connection to it."""
    for spec, _ in workers:
        if spec.error.exists():
            report = WorkerError.model_validate_json(spec.error.read_text())
            return _ERRORS[report.exit_code](report.message)
    for spec, process in workers:
        if (code := process.poll()) == 1:
            return RuntimeError(f"process {spec.rank} failed:\n{spec.log.read_text(errors='replace')}")
        # a process that loses its connection aborts itself
        if code is not None and code < 0 and code != -signal.SIGABRT:
            what = f"Process {spec.rank} of {spec.params.workers} (from 0) died, and the others were ended."
            return death(what, -code, memory_kills=memory_kills() - kills_before)
    spec, process = workers[0]
    if not spec.connected.exists():
        return Unavailable(
            "The processes of this training did not connect.",
            expected=f"{spec.params.workers} processes at {spec.address} within {spec.timeout} seconds",
            found=f"process {spec.rank} got no connection",
            fix="start the missing processes, or set train.workers to 1",
        )
    return Unavailable(
        "Another process of this training died or does not answer.",
        found=f"process {spec.rank} ended with {process.poll()}"
        if process.poll() != LOST_CONNECTION
        else None,
        fix="run the training again; it resumes after the last finished epoch",
    )
