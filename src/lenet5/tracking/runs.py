"""MLflow runs of trainings: one run for each trained model.

A run belongs to a training, identified by the tag ``lenet5.training``: the digest of everything that decides
the weights. Training creates the run and logs each epoch. Registering completes the run and then sets the tag
``lenet5.weights``. No file holds the id of a run, so an empty store can be filled again from the files.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.core.text import fitted, mask_urls
from lenet5.system import environment, settings
from lenet5.tracking import run_name, source_code, store
from lenet5.tracking.embedded_client import Client, EmbeddedClient
from lenet5.tracking.tags import CHANGES, CLOSED, DVC_EXPERIMENT, FLOW_RUN, MACHINE, TRAINING, WEIGHTS

if TYPE_CHECKING:
    from mlflow.entities import Run
else:
    Run = Any

log = logging.getLogger(__name__)

OnEpoch = Callable[[int, Mapping[str, float]], None]
"""Takes the number of an epoch, counted from 1, and its metrics."""
SCORE = "sweep.score"
_ACTIVITY_METRICS = ("system/cpu_utilization_percentage", "train.loss", SCORE)
"""Metrics that a running process logs: every two seconds, each epoch, each trial of a sweep."""


_DVC_EXPERIMENT = "DVC_EXP_NAME"
"""DVC sets it for the stages of an experiment."""
_LARGEST_BATCH = 100
"""Parameters, or tags, in one request to MLflow."""
_MOST_METRICS = 1000
"""Metrics in one request to MLflow."""
_LONGEST = 6000
"""Characters of the value of a parameter. MLflow would cut a longer one, and it would differ from itself."""


@contextmanager
def training_run(paths: Paths, training: str, params: Mapping[str, Any]) -> Iterator[OnEpoch]:
    """Open the MLflow run of a training, and close it at the end of the block.

    A training with a complete run is not logged again. When the store does not answer or refuses a request,
    this logs a warning and the training continues; registering adds the missing epochs later.

    Args:
        paths: The checkout, for the store.
        training: Identity of the training, the value of the tag ``lenet5.training``.
        params: Parameters of the training, by their names in the section ``train``.

    Yields:
        A function that logs the metrics of one epoch.
    """
    try:
        with store.reachable(paths):
            client = store.connect(paths)
            run_id = _open(client, paths, training, params)
            logged_epochs = known_epochs(client, run_id) if run_id else set()  # by an earlier, killed attempt
    except Lenet5Error as error:
        log.warning("%s", error)
        run_id = None
    if run_id is None:
        yield lambda epoch, metrics: None
        return

    from mlflow.entities import RunStatus

    from lenet5.tracking.system_metrics import SystemMetrics

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    logger = _EpochLogger(paths, client, run_id, logged_epochs)
    monitor = SystemMetrics(run_id, lambda: logger.has_logged)
    monitor.start()
    status = RunStatus.FAILED
    try:
        yield logger
        status = RunStatus.FINISHED
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        monitor.finish()
        try:
            with store.reachable(paths):
                client.set_terminated(run_id, RunStatus.to_string(status))
        except Lenet5Error as error:
            log.warning("%s", error)


class _EpochLogger:
    """Logs the metrics of each epoch. Stops logging after the first failed request."""

    def __init__(self, paths: Paths, client: Client, run_id: str, logged_epochs: Collection[int]) -> None:
        self._paths = paths
        self._client = client
        self._run_id = run_id
        self._logged_epochs = logged_epochs
        self._store_answers = True
        self.has_logged = bool(logged_epochs)
        """Whether the run has metrics of an epoch."""

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if not self._store_answers or epoch in self._logged_epochs:
            return
        try:
            with store.reachable(self._paths):
                log_metrics(self._client, self._run_id, {f"train.{k}": v for k, v in metrics.items()}, epoch)
            self.has_logged = True
        except Lenet5Error as error:
            self._store_answers = False
            log.warning("%s", error)


def find_complete(client: Client, paths: Paths, training: str, weights: str) -> Run | None:
    """Return the complete run of a training that gave these weights (SHA-256)."""
    return next(
        (run for run in _search(client, paths, training) if run.data.tags.get(WEIGHTS) == weights), None
    )


def find_unfinished(client: Client, paths: Paths, training: str, params: Mapping[str, Any]) -> Run | None:
    """Return an incomplete run of a training, if its logged parameters agree with ``params``."""
    for run in _search(client, paths, training):
        logged = run.data.params
        if WEIGHTS not in run.data.tags and all(
            logged.get(k, _shown(v)) == _shown(v) for k, v in params.items()
        ):
            return run
    return None


def create(client: Client, paths: Paths, training: str, params: Mapping[str, Any]) -> Run:
    """Create a run for a training. Its name says what the parameters change against the defaults.

    Args:
        client: The store.
        paths: The checkout, for the experiment and the recipes.
        training: Identity of the training.
        params: Every parameter that is known, by dotted name.
    """
    tags = {TRAINING: training, "mlflow.source.name": "lenet5"}
    experiment = store.described_experiment(client, paths)
    return client.create_run(experiment, tags=tags, run_name=run_name.name(paths, params))


def labels(paths: Paths, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that say in a list of runs what a run is: its changes and the DVC experiment.

    Args:
        paths: The checkout, for its settings.
        params: Every parameter that is known, by dotted name.
    """
    found = {CHANGES: fitted(run_name.summary(params), _LONGEST)}
    if experiment := settings.given([_DVC_EXPERIMENT]).get(_DVC_EXPERIMENT):
        found[DVC_EXPERIMENT] = experiment
    return found


def set_tags(client: Client, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run in as few requests as MLflow allows."""
    from mlflow.entities import RunTag

    entities = [RunTag(name, value) for name, value in tags.items()]
    for first in range(0, len(entities), _LARGEST_BATCH):
        client.log_batch(run_id, tags=entities[first : first + _LARGEST_BATCH])


def known_epochs(client: Client, run_id: str) -> set[int]:
    """Return the epochs whose metrics a run holds."""
    return {metric.step for metric in client.get_metric_history(run_id, "train.loss")}


def log_params(client: Client, run: Run, params: Mapping[str, Any]) -> None:
    """Log the parameters that the run lacks.

    MLflow does not change a logged parameter. A new value becomes a tag with the name of the parameter.
    Credentials of URLs are masked.
    """
    from mlflow.entities import Param, RunTag

    logged = run.data.params
    values = {name: _shown(value) for name, value in params.items()}
    missing = [Param(k, v) for k, v in values.items() if k not in logged]
    # a parameter that changed once has a tag; the tag stays when the value changes back
    current = {name: run.data.tags.get(name, value) for name, value in logged.items()}
    changed = [RunTag(k, v) for k, v in values.items() if current.get(k, v) != v]
    for first in range(0, len(missing), _LARGEST_BATCH):
        client.log_batch(run.info.run_id, params=missing[first : first + _LARGEST_BATCH])
    for first in range(0, len(changed), _LARGEST_BATCH):
        client.log_batch(run.info.run_id, tags=changed[first : first + _LARGEST_BATCH])


def as_logged(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow stores them: as text, without credentials, and not too long."""
    return {name: _shown(value) for name, value in params.items()}


def _shown(value: object) -> str:
    """Return the value of a parameter as MLflow stores it: without credentials, and not too long."""
    return fitted(mask_urls(str(value)), _LONGEST)


def params(client: Client, run_id: str) -> dict[str, str]:
    """Return the current parameters of a run, by dotted name."""
    data = client.get_run(run_id).data
    return {name: data.tags.get(name, value) for name, value in data.params.items()}


def log_metrics(
    client: Client,
    run_id: str,
    metrics: Mapping[str, float],
    step: int = 0,
    model_id: str | None = None,
) -> None:
    """Log metrics in as few requests as MLflow allows.

    Args:
        client: The store.
        run_id: The run.
        metrics: Values by name.
        step: The epoch, or the number of a trial.
        model_id: The logged model that the metrics describe.
    """
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000  # MLflow counts milliseconds
    entities = [Metric(name, value, now, step, model_id=model_id) for name, value in metrics.items()]
    for first in range(0, len(entities), _MOST_METRICS):
        client.log_batch(run_id, metrics=entities[first : first + _MOST_METRICS])


def close_orphans(client: Client, paths: Paths, *, is_over: Callable[[str], bool], silent: timedelta) -> int:
    """Set runs to KILLED that have the status RUNNING but no process.

    Args:
        client: The store.
        paths: The checkout, for the experiment.
        is_over: Takes the id of a flow run; returns whether the flow run has ended.
        silent: How long a run must have logged nothing. Its flow run may belong to another Prefect server,
            so ``is_over`` alone is not enough.

    Returns:
        The number of closed runs.
    """
    running = client.search_runs([store.experiment(client, paths)], "attributes.status = 'RUNNING'")
    orphans = [run for run in running if _is_orphan(client, run, is_over, silent)]
    for run in orphans:
        client.set_tag(run.info.run_id, CLOSED, "no process was working on this run")
        client.set_terminated(run.info.run_id, "KILLED")
    return len(orphans)


def _is_orphan(client: Client, run: Run, is_over: Callable[[str], bool], silent: timedelta) -> bool:
    if (flow_run := run.data.tags.get(FLOW_RUN)) and not is_over(flow_run):
        return False
    logged = [
        metric for name in _ACTIVITY_METRICS for metric in client.get_metric_history(run.info.run_id, name)
    ]
    last_activity = max([run.info.start_time, *(metric.timestamp for metric in logged)])  # milliseconds
    return bool(time.time() * 1000 - last_activity > silent.total_seconds() * 1000)


def _open(client: Client, paths: Paths, training: str, params: Mapping[str, Any]) -> str | None:
    """Find or create the run of a training, and set its status to RUNNING.

    Returns:
        The id of the run; None when a complete run exists.
    """
    dotted = {f"train.{name}": value for name, value in params.items()}
    if any(WEIGHTS in run.data.tags for run in _search(client, paths, training)):
        return None
    # the sections of other stages are no parameters of this training, but one of them shapes the model
    known = {**run_name.other_sections(paths), **dotted}
    run = find_unfinished(client, paths, training, dotted) or create(client, paths, training, known)
    log_params(client, run, dotted)
    source_code.record(client, run.info.run_id, source_code.find(paths))
    tags = {f"{MACHINE}{name}": value for name, value in environment.machine().items()}
    tags |= labels(paths, known)
    if flow_run := settings.load(paths).lenet5_flow_run_id:
        tags[FLOW_RUN] = flow_run
    set_tags(client, run.info.run_id, tags)
    client.update_run(run.info.run_id, "RUNNING")
    return str(run.info.run_id)


def _search(client: Client, paths: Paths, training: str) -> list[Run]:
    """Return the runs of a training, the newest first."""
    experiment = store.experiment(client, paths)
    if isinstance(client, EmbeddedClient):
        known = client.read_runs(experiment, TRAINING, training)
        if known is not None:
            return cast("list[Run]", known)
    return list(
        client.search_runs(
            [experiment],
            f"tags.`{TRAINING}` = '{training}'",
            order_by=["attributes.start_time DESC"],
        )
    )
