"""A sweep: searchers here or on a work pool until all trials are there; what came of them goes to MLflow."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from lenet5.core import dataset
from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.stages.params import Params
from lenet5.sweep import plots, result, study
from lenet5.sweep.result import Result
from lenet5.sweep.space import Sweep
from lenet5.sweep.worker_spec import TrialWorkerFailed, TrialWorkerSpec
from lenet5.system import process, settings
from lenet5.system.state import LocalState
from lenet5.tracking import sweeps

log = logging.getLogger(__name__)

OnLine = Callable[[str], None]


def run(
    paths: Paths, params: Params, sweep: Sweep, *, workers: int | None, pool: str | None, on_line: OnLine
) -> Result:
    """Search, or go on with what was ended; when all trials are there, only say what came of them.

    Args:
        paths: a checkout whose data is processed.
        params: for all that is not searched.
        sweep: what is searched, and how.
        workers: searchers at a time; on this machine, by default, as many as it has cores for.
        pool: the work pool that runs them; here when None.
        on_line: is told each trial that ends.

    Raises:
        UsageError: the settings do not allow a pool.
        DataError: the data is not processed.
        TrainingError: no trial was trained to its end.
        Unavailable: a store, a database or a worker does not answer, or this sweep is at work already.
        TrialWorkerFailed: what a searcher ended with; the study is not at its end then.
    """
    name = study.name(paths, sweep, params, dataset.load_manifest(paths.processed).digest)
    if pool:
        from lenet5.orchestration import sweep_pool  # Prefect takes seconds to import

        sweep_pool.require(paths, pool)
    with _only_one(paths, name), _ended_by_signals():
        found = study.create(paths, name, sweep, params)
        _settle(paths, found)
        done = len(study.trials(found, *study.DONE))
        run_id = sweeps.open_run(paths, name, sweep.fixed(params))
        try:
            on_line(f"study {name[:8]}: {done} of {sweep.trials} trials are there")
            if not study.is_complete(found, sweep):
                count = min(workers or (1 if pool else _cores(params)), sweep.trials - done)
                orders = [
                    TrialWorkerSpec(study=name, run=run_id, worker=n, sweep=sweep) for n in range(count)
                ]
                if pool:
                    sweep_pool.search(paths, pool, orders, found, on_line)
                else:
                    _search_here(paths, orders, found, on_line)
            _settle(paths, found)
            came = result.summarize(found, sweep, params)
        except BaseException as error:
            _close_unfinished(paths, run_id, found, error)
            raise
        _record(paths, run_id, found, came)
    return came


def searcher(paths: Paths, order: TrialWorkerSpec, on_line: OnLine) -> None:
    """Run one searcher in a process of its own, which ends with this one.

    Raises:
        TrialWorkerFailed: it ended with an error.
    """
    failed = False

    def pass_on(line: str) -> None:
        nonlocal failed
        failed = failed or line.startswith(("error: ", "Traceback "))
        if not failed:  # the error is told once, at the end
            on_line(line)

    command = [sys.executable, "-m", "lenet5.sweep.worker"]
    ended = process.run(command, paths.root, on_line=pass_on, stdin=order.model_dump_json())
    if ended.code < 0:
        message = f"A searcher was killed by signal {-ended.code} (9 can mean that the memory ran out)."
        raise TrialWorkerFailed(message, 1)
    if ended.code:
        raise TrialWorkerFailed(*process.reason(ended.lines, ended.code))


def _search_here(paths: Paths, orders: list[TrialWorkerSpec], found: optuna.Study, on_line: OnLine) -> None:
    with ThreadPoolExecutor(len(orders)) as threads:
        try:
            running = [threads.submit(searcher, paths, order, on_line) for order in orders]
            errors = [error for each in running if (error := each.exception())]
        except BaseException:  # Ctrl-C: the searchers' own process groups do not hear of it
            process.kill_running()
            raise
    if not errors:
        return
    if not study.is_complete(found, orders[0].sweep):
        raise errors[0]
    for error in errors:  # the others went on without it
        log.warning("%s", error)


def _cores(params: Params) -> int:
    """Trainings that this machine has cores for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // params.train.threads)


def _settle(paths: Paths, found: optuna.Study) -> None:
    """Nothing says that it runs and does not: what a killed searcher left is failed, and queued again."""
    if study.is_local(settings.load(paths).lenet5_sweep_storage):
        study.requeue_running(found)  # this machine's lock is held, so nobody is at work
    else:
        study.requeue_stale(found)
    at_work = [trial.number for trial in study.trials(found, TrialState.RUNNING)]
    sweeps.close_trials(paths, found.study_name, at_work)


def _close_unfinished(paths: Paths, run_id: str, found: optuna.Study, error: BaseException) -> None:
    """End what says that it runs. What was found stays, and the next command goes on from it."""
    status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    try:
        _settle(paths, found)
        sweeps.close_run(paths, run_id, status)
    except Unavailable as problem:
        log.warning("%s", problem)


def _record(paths: Paths, run_id: str, found: optuna.Study, came: Result) -> None:
    metrics = {"sweep.best": came.winner.score, "sweep.trials": float(came.trials)}
    with tempfile.TemporaryDirectory() as folder:
        plots.draw(found, Path(folder))
        best = came.winner.values
        sweeps.close_run(paths, run_id, "FINISHED", best=best, metrics=metrics, pictures=Path(folder))


@contextmanager
def _only_one(paths: Paths, name: str) -> Iterator[None]:
    """Keep a second command on this machine out of the same sweep."""
    LocalState(paths.root).sweeps.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LocalState(paths.root).sweeps / f"{name}.lock", timeout=0):
            yield
    except Timeout:
        raise Unavailable(
            "Another command is at work on this sweep.",
            expected="one at a time on a machine; it starts searchers enough",
            fix="wait for it, or end it: nothing is lost",
        ) from None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ended by SIGTERM, this process still ends its searchers."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
