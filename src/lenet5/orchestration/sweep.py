"""Run a sweep: start trial workers on this machine or on a work pool, then record the result in MLflow."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from lenet5.core import dataset
from lenet5.core.errors import Lenet5Error, Unavailable
from lenet5.core.paths import Paths
from lenet5.stages.params import Params
from lenet5.sweep import plots, result, study
from lenet5.sweep.result import Result
from lenet5.sweep.space import Sweep
from lenet5.sweep.worker_spec import TrialWorkerFailed, TrialWorkerSpec
from lenet5.system import dvc, process, settings
from lenet5.system.process import OnLine
from lenet5.system.state import LocalState
from lenet5.tracking import sweeps

log = logging.getLogger(__name__)


def run(
    paths: Paths, params: Params, sweep: Sweep, *, workers: int | None, pool: str | None, on_line: OnLine
) -> Result:
    """Run trials until the study is complete, and record the result. An interrupted study is continued.

    Args:
        paths: a checkout whose data is processed.
        params: the parameters that are not searched.
        sweep: the search space and the sampler.
        workers: trial workers at a time; by default one for each core, or one on a pool.
        pool: the work pool that runs them; this machine when None.
        on_line: called with a line for each trial that ends.

    Raises:
        UsageError: the settings do not allow a pool.
        DataError: the data is not processed.
        TrainingError: no trial was trained to its end.
        Unavailable: a store, a database or a worker does not answer, or the sweep is running already.
        TrialWorkerFailed: a trial worker ended with an error before the study was complete.
    """
    name = study.name(paths, sweep, params, dataset.load_manifest(paths.processed).digest)
    if pool:
        from lenet5.orchestration import sweep_pool  # Prefect takes seconds to import

        sweep_pool.require(paths, pool)
    with _exclusive(paths, name), _interrupted_by_sigterm():
        opened = study.create(paths, name, sweep, params)
        _recover(paths, opened)
        done = len(study.trials(opened, *study.DONE))
        run_id = sweeps.open_run(paths, name, sweep.fixed(params))
        try:
            on_line(f"study {name[:8]}: {done} of {sweep.trials} trials are there")
            if not study.is_complete(opened, sweep):
                count = min(workers or (1 if pool else _cores(params)), sweep.trials - done)
                specs = [
                    TrialWorkerSpec(study=name, run=run_id, worker=number, sweep=sweep)
                    for number in range(count)
                ]
                if pool:
                    sweep_pool.search(paths, pool, specs, opened, on_line)
                else:
                    _run_here(paths, specs, opened, on_line)
            _recover(paths, opened)
            summary = result.summarize(opened, sweep, params)
        except BaseException as error:
            _close_unfinished(paths, run_id, opened, error)
            raise
        _record(paths, run_id, opened, summary)
    return summary


def run_trial_worker(paths: Paths, spec: TrialWorkerSpec, on_line: OnLine) -> None:
    """Run one trial worker as a child process.

    Raises:
        TrialWorkerFailed: it ended with an error.
        Lenet5Error: a signal ended it.
    """
    failed = False

    def pass_on(line: str) -> None:
        nonlocal failed
        failed = failed or line.startswith(("error: ", "Traceback "))
        if not failed:  # the error is reported once, at the end
            on_line(line)

    command = [sys.executable, "-m", "lenet5.sweep.worker"]
    ended = process.run(command, paths.root, on_line=pass_on, stdin=spec.model_dump_json())
    if number := process.signal_number(ended.code):
        raise process.death("A trial worker died.", number, memory_kills=ended.memory_kills)
    if ended.code:
        raise TrialWorkerFailed(*dvc.failure(paths.root, ended.lines, ended.code))


def _run_here(paths: Paths, specs: list[TrialWorkerSpec], opened: optuna.Study, on_line: OnLine) -> None:
    with ThreadPoolExecutor(len(specs)) as threads:
        try:
            running = [threads.submit(run_trial_worker, paths, spec, on_line) for spec in specs]
            errors = [error for future in running if (error := future.exception())]
        except BaseException:  # Ctrl-C: the trial workers have process groups of their own
            process.kill_running()
            raise
    if not errors:
        return
    if not study.is_complete(opened, specs[0].sweep):
        raise errors[0]
    for error in errors:  # the other workers completed the study
        log.warning("%s", error)


def _cores(params: Params) -> int:
    """Return how many trainings this machine has cores for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // params.train.threads)


def _recover(paths: Paths, opened: optuna.Study) -> None:
    """Mark trials of dead workers as failed, queue them again, and close their MLflow runs."""
    if study.is_local(settings.load(paths).lenet5_sweep_storage):
        study.requeue_running(opened)  # this machine's lock is held, so no worker is alive
    else:
        study.requeue_stale(opened)
    running = [trial.number for trial in study.trials(opened, TrialState.RUNNING)]
    sweeps.close_trials(paths, opened.study_name, running)


def _close_unfinished(paths: Paths, run_id: str, opened: optuna.Study, error: BaseException) -> None:
    """Close the MLflow runs of an interrupted sweep. Its trials stay, and the next command continues them."""
    status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    try:
        _recover(paths, opened)
        sweeps.close_run(paths, run_id, status)
    except Lenet5Error as problem:
        log.warning("%s", problem)


def _record(paths: Paths, run_id: str, opened: optuna.Study, summary: Result) -> None:
    metrics = {"sweep.best": summary.winner.score, "sweep.trials": float(summary.trials)}
    with tempfile.TemporaryDirectory() as folder:
        plots.draw(opened, Path(folder))
        best = summary.winner.values
        sweeps.close_run(paths, run_id, "FINISHED", best=best, metrics=metrics, pictures=Path(folder))


@contextmanager
def _exclusive(paths: Paths, name: str) -> Iterator[None]:
    """Keep a second command of this machine out of the same sweep."""
    folder = LocalState(paths.root).sweeps
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{name}.lock", timeout=0):
            yield
    except Timeout:
        raise Unavailable(
            "Another command is at work on this sweep.",
            expected="one at a time on a machine; it starts enough trial workers",
            fix="wait for it, or end it: nothing is lost",
        ) from None


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that this process ends its trial workers."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
