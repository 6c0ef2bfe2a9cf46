"""One MLflow run per trained model, however many processes work on it, and however often.

A run belongs to a training: the digest of everything that decides the weights, kept as the tag
``lenet5.training``. Training opens the run and feeds it while it learns; registering completes it and
says so with the tag ``lenet5.weights``. No file holds a run's id, so a wiped store is rebuilt from files.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.system import environment
from lenet5.tracking import source_code, store
from lenet5.tracking.tags import CLOSED, FLOW_RUN, MACHINE, TRAINING, WEIGHTS

log = logging.getLogger(__name__)

OnEpoch = Callable[[int, Mapping[str, float]], None]
SCORE = "sweep.score"
_SIGNS_OF_LIFE = ("system/cpu_utilization_percentage", "train.loss", SCORE)
"""Metrics by which somebody works on a run: each moment, each epoch, each trial of a sweep."""


@contextmanager
def training_run(paths: Paths, training: str, params: Mapping[str, Any]) -> Iterator[OnEpoch]:
    """Open the run of a training, yield what to tell each epoch's metrics, close the run.

    A training whose run is complete is not recorded again. A store that does not answer costs a warning
    and not the training: registering fills in what is missing.
    """
    try:
        with store.reachable():
            client = store.connect(paths)
            run_id = _open(client, paths, training, params)
            recorder = _Recorder(client, run_id) if run_id else None
    except Unavailable as error:
        log.warning("%s", error)
        recorder = None
    if recorder is None:
        yield lambda epoch, metrics: None
        return

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(run_id, resume_logging=True)
    monitor.start()
    status = RunStatus.FAILED
    try:
        yield recorder
        status = RunStatus.FINISHED
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        monitor.finish()
        try:
            with store.reachable():
                client.set_terminated(run_id, RunStatus.to_string(status))
        except Unavailable as error:
            log.warning("%s", error)


class _Recorder:
    """Sends an epoch's metrics; after the first time that the store does not answer, it keeps still."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._alive = True
        self._known = known_epochs(client, run_id)  # of an earlier, killed attempt

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if not self._alive or epoch in self._known:
            return
        try:
            with store.reachable():
                log_metrics(self._client, self._run_id, {f"train.{k}": v for k, v in metrics.items()}, epoch)
        except Unavailable as error:
            self._alive = False
            log.warning("%s", error)


def find_complete(client: MlflowClient, paths: Paths, training: str, weights: str) -> Run | None:
    """The run that holds everything about these weights of this training."""
    runs = _search(client, paths, training)
    return next((run for run in runs if run.data.tags.get(WEIGHTS) == weights), None)


def find_unfinished(
    client: MlflowClient, paths: Paths, training: str, params: Mapping[str, Any]
) -> Run | None:
    """A run of this training that was not completed and says nothing else about the parameters."""
    for run in _search(client, paths, training):
        known = run.data.params
        if WEIGHTS not in run.data.tags and all(known.get(k, str(v)) == str(v) for k, v in params.items()):
            return run
    return None


def create(client: MlflowClient, paths: Paths, training: str) -> Run:
    """A new run of a training."""
    tags = {TRAINING: training, "mlflow.source.name": "lenet5"}
    experiment = store.experiment(client, paths)
    return client.create_run(experiment, tags=tags, run_name=f"lenet5-{training[:8]}")


def known_epochs(client: MlflowClient, run_id: str) -> set[int]:
    """The epochs that a run holds metrics of."""
    return {metric.step for metric in client.get_metric_history(run_id, "train.loss")}


def log_params(client: MlflowClient, run: Run, params: Mapping[str, Any]) -> None:
    """Log what the run lacks; a value that changed since becomes a tag, since MLflow's params are final."""
    known = run.data.params
    missing = [Param(k, str(v)) for k, v in params.items() if k not in known]
    # what was changed once has a tag, and keeps it when it is changed back
    now = {name: run.data.tags.get(name, value) for name, value in known.items()}
    changed = [RunTag(k, str(v)) for k, v in params.items() if now.get(k, str(v)) != str(v)]
    if missing or changed:
        client.log_batch(run.info.run_id, params=missing, tags=changed)


def params(client: MlflowClient, run_id: str) -> dict[str, str]:
    """The parameters of a run as they are now."""
    data = client.get_run(run_id).data
    return {name: data.tags.get(name, value) for name, value in data.params.items()}


def log_metrics(
    client: MlflowClient,
    run_id: str,
    metrics: Mapping[str, float],
    step: int = 0,
    model_id: str | None = None,
) -> None:
    now = time.time_ns() // 1_000_000
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, step, model_id=model_id) for name, value in metrics.items()],
    )


def close_orphans(
    client: MlflowClient, paths: Paths, *, is_over: Callable[[str], bool], silent: timedelta
) -> int:
    """Close runs that say RUNNING and on which nobody works; how many those were.

    Args:
        client: of the store.
        paths: for the experiment.
        is_over: whether a flow run, by its id, has ended.
        silent: how long a run may say nothing: its flow run may be one of another server.
    """
    running = client.search_runs([store.experiment(client, paths)], "attributes.status = 'RUNNING'")
    orphans = [run for run in running if _is_orphan(client, run, is_over, silent)]
    for run in orphans:
        client.set_tag(run.info.run_id, CLOSED, "nobody was at work on it any more")
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
    return len(orphans)


def _is_orphan(client: MlflowClient, run: Run, is_over: Callable[[str], bool], silent: timedelta) -> bool:
    if (flow_run := run.data.tags.get(FLOW_RUN)) and not is_over(flow_run):
        return False
    signs = [sign for name in _SIGNS_OF_LIFE for sign in client.get_metric_history(run.info.run_id, name)]
    last = max([run.info.start_time, *(sign.timestamp for sign in signs)])
    return bool(time.time() * 1000 - last > silent.total_seconds() * 1000)


def _open(client: MlflowClient, paths: Paths, training: str, params: Mapping[str, Any]) -> str | None:
    named = {f"train.{name}": value for name, value in params.items()}
    if any(WEIGHTS in run.data.tags for run in _search(client, paths, training)):
        return None
    run = find_unfinished(client, paths, training, named) or create(client, paths, training)
    log_params(client, run, named)
    source_code.record(client, run.info.run_id, source_code.find(paths))
    here = {f"{MACHINE}{name}": value for name, value in environment.machine().items()}
    if flow_run := os.environ.get("LENET5_FLOW_RUN_ID"):
        here[FLOW_RUN] = flow_run
    client.log_batch(run.info.run_id, tags=[RunTag(*tag) for tag in here.items()])
    client.update_run(run.info.run_id, "RUNNING")
    return str(run.info.run_id)


def _search(client: MlflowClient, paths: Paths, training: str) -> list[Run]:
    return list(
        client.search_runs(
            [store.experiment(client, paths)],
            f"tags.`{TRAINING}` = '{training}'",
            order_by=["attributes.start_time DESC"],
        )
    )
