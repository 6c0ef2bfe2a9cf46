"""A training with several workers: starts those of this machine, and sees to it that they end together."""

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

from lenet5 import dataset, settings, supervision
from lenet5.errors import Lenet5Error, Unavailable, UsageError
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import console
from lenet5.train.gang import Gang
from lenet5.train.seat import LOST, Seat, Word

GATHER_SECONDS = 600
"""What the workers of other machines may take to come."""
_OURS_SECONDS = 86_400  # those of this machine are watched; the first may have to wait for another training
_GRACE_SECONDS = 20
"""What the others may take to end when one has: the first one closes its MLflow run."""
_POLL_SECONDS = 0.1
_KINDS = {kind.exit_code: kind for kind in Lenet5Error.__subclasses__()}

Worker = tuple[Seat, "subprocess.Popen[bytes]"]


def run(paths: Paths, params: Train) -> None:
    """Train with ``params.workers`` processes: all on this machine, or the one that ``LENET5_GANG`` names.

    Raises:
        Unavailable: a worker died, or did not come.
        UsageError: JAX is not installed, or the validation images cannot be shared out.
        Lenet5Error: what a worker said.
    """
    _require_jax()
    validation = dataset.load_manifest(paths.processed).splits["validation"]
    Gang(workers=params.workers).require_equal_shares(validation.images.shape[0])
    elsewhere = settings.load(paths).lenet5_gang
    if elsewhere:
        rank, _, address = elsewhere.partition("@")
        ranks, patience = [int(rank)], GATHER_SECONDS
        console.print(f"worker {rank} of {params.workers}, counted from 0; they meet at {address}")
    else:
        ranks, patience = list(range(params.workers)), _OURS_SECONDS
        address = f"127.0.0.1:{free_port()}"
        console.print(f"{params.workers} workers on this machine")
    with tempfile.TemporaryDirectory() as folder:
        first = Seat(
            root=paths.root,
            folder=Path(folder),
            params=params,
            rank=ranks[0],
            address=address,
            patience=patience,
        )
        _train([first.model_copy(update={"rank": rank}) for rank in ranks])


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as some:
        some.bind(("", 0))
        return int(some.getsockname()[1])


def environment(threads: int) -> dict[str, str]:
    """Variables by which JAX does its sums in the same way in every worker."""
    flags = [
        *os.environ.get("XLA_FLAGS", "").split(),
        f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}",
        # one instruction set is one code path: the same bytes on every processor that has it
        *(["--xla_cpu_max_isa=AVX2"] if platform.machine() in ("x86_64", "AMD64") else []),
    ]
    return {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "XLA_FLAGS": " ".join(flags),
        "PJRT_NPROC": str(threads),
    }


def _require_jax() -> None:
    if importlib.util.find_spec("jax") is None:
        raise UsageError(
            "A training with several workers needs JAX.",
            expected="the package jax: Keras trains across processes on it, and not on TensorFlow",
            found="it is not installed",
            do="pip install 'lenet5[jax]', or set train.workers to 1",
        )


def _train(seats: Sequence[Seat]) -> None:
    workers: list[Worker] = []
    try:
        workers += [(seat, _start(seat)) for seat in seats]
        leader = workers[0][1]
        while leader.poll() is None and all(process.poll() in (None, 0) for _, process in workers):
            time.sleep(_POLL_SECONDS)
        _let_end(workers)
        if leader.poll() != 0:  # it saves only what all of them agreed on
            raise _reason(workers)
    except KeyboardInterrupt:  # they hear it, too
        _let_end(workers)
        raise
    finally:
        for _, process in workers:
            process.kill()
            process.wait()


def _start(seat: Seat) -> "subprocess.Popen[bytes]":
    said = None if seat.gang.leads else subprocess.DEVNULL  # libraries' words go to its log
    return subprocess.Popen(
        [sys.executable, "-m", "lenet5.train.seat", seat.model_dump_json()],
        cwd=seat.root,
        env=os.environ | environment(seat.params.threads) | supervision.offer(),
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
    )


def _alive(workers: Sequence[Worker]) -> list[Worker]:
    return [worker for worker in workers if worker[1].poll() is None]


def _let_end(workers: Sequence[Worker]) -> None:
    """Give those that are left a moment: without the one that ended, they end by themselves."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while _alive(workers) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _reason(workers: Sequence[Worker]) -> Exception:
    """Why a training was no success: by the worker that was the cause, not by those that lost it."""
    for seat, _ in workers:
        if seat.word.exists():
            word = Word.model_validate_json(seat.word.read_text())
            return _KINDS[word.exit_code](word.message)
    for seat, process in workers:
        if (code := process.poll()) == 1:
            return RuntimeError(f"worker {seat.rank} broke:\n{seat.log.read_text(errors='replace')}")
        if code is not None and code < 0 and code != -signal.SIGABRT:
            return Unavailable(
                f"Worker {seat.rank} of {seat.params.workers} (from 0) died, and the others were ended.",
                found=f"it was killed by signal {-code} (9 can mean that the memory ran out)",
                do="run it again: it goes on after the last epoch that was finished",
            )
    seat, process = workers[0]
    if not seat.met.exists():
        return Unavailable(
            "The workers of this training did not come together.",
            expected=f"{seat.params.workers} of them at {seat.address} within {seat.patience} seconds",
            found=f"worker {seat.rank} waited in vain",
            do="start what is missing, or set train.workers to 1",
        )
    return Unavailable(
        "Another worker of this training died, or cannot be reached any more.",
        found=f"worker {seat.rank} ended with {process.poll()}" if process.poll() != LOST else None,
        do="run it again: it goes on after the last epoch that was finished",
    )
