"""MLflow runs of a sweep: one run for each study, with one nested run for each trial.

These runs lack the tag ``lenet5.training``, so no search for the run of a model returns them.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.system import environment, settings
from lenet5.tracking import run_name, runs, source_code, store
from lenet5.tracking.tags import CLOSED, FLOW_RUN, MACHINE, SWEEP, TRIAL, TRIAL_STATE

log = logging.getLogger(__name__)

COMPLETE, PRUNED, DIVERGED = "complete", "pruned", "diverged"
BEST = "best."
"""Prefix of tags on the run of a study: the parameters of the best trial, by dotted name."""


def open_run(paths: Paths, study: str, fixed_params: Mapping[str, Any]) -> str:
    """Find or create the run of a study, and set its status to RUNNING.

    Args:
        paths: The checkout, for the store.
        study: Name of the study, a digest.
        fixed_params: Parameters that all trials share, by dotted name.

    Returns:
        The id of the run.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        client = store.connect(paths)
        existing = [run for run in _search(client, paths, study) if TRIAL not in run.data.tags]
        run = existing[0] if existing else _create(client, paths, study, f"sweep {study[:8]}", {})
        runs.log_params(client, run, fixed_params)
        source_code.record(client, run.info.run_id, source_code.find(paths))
        client.update_run(run.info.run_id, "RUNNING")
    return str(run.info.run_id)


def close_run(
    paths: Paths,
    run_id: str,
    status: str,
    *,
    best: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    pictures: Path | None = None,
) -> None:
    """Log the results of a study and end its run.

    Args:
        paths: The checkout, for the store.
        run_id: The run of the study.
        status: MLflow's status, such as FINISHED.
        best: Parameters of the best trial, by dotted name.
        metrics: Metrics of the study.
        pictures: A folder of plots.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        client = store.connect(paths)
        if metrics:
            runs.log_metrics(client, run_id, metrics)
        for name, value in (best or {}).items():
            client.set_tag(run_id, f"{BEST}{name}", str(value))
        if pictures:
            client.log_artifacts(run_id, str(pictures), "plots")
        client.set_terminated(run_id, status)


def close_trials(paths: Paths, study: str, active: Collection[int]) -> int:
    """Set the runs of trials to KILLED whose worker has ended.

    Args:
        paths: The checkout, for the store.
        study: Name of the study.
        active: Numbers of the trials that a worker is running.

    Returns:
        The number of closed runs.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        client = store.connect(paths)
        running = [run for run in _search(client, paths, study) if run.info.status == "RUNNING"]
        orphans = [run for run in running if int(run.data.tags.get(TRIAL, -1)) not in {*active, -1}]
        for run in orphans:
            client.set_tag(run.info.run_id, CLOSED, "the worker of this trial has ended")
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
    return len(orphans)


class TrialRun:
    """The run of one trial. Stops logging after the first failed request."""

    def __init__(
        self,
        paths: Paths,
        client: MlflowClient | None,
        parent: str = "",
        trial: int = 0,
        run_id: str = "",
    ) -> None:
        self._paths = paths
        self._client = client
        self._parent = parent
        self._trial = trial
        self._run_id = run_id
        self.is_over = client is None

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one epoch."""
        self._send(lambda client: runs.log_metrics(client, self._run_id, _dotted(metrics), epoch))

    def end(self, state: str, score: float | None = None) -> None:
        """Log the final state and end the run.

        Args:
            state: COMPLETE, PRUNED or DIVERGED.
            score: Accuracy on the hold-out images, from 0 to 1.
        """
        status = RunStatus.FAILED if state == DIVERGED else RunStatus.FINISHED

        def log_result(client: MlflowClient) -> None:
            if score is not None:
                runs.log_metrics(client, self._run_id, {runs.SCORE: score})
                runs.log_metrics(client, self._parent, {runs.SCORE: score}, self._trial)
            client.set_tag(self._run_id, TRIAL_STATE, state)
            client.set_terminated(self._run_id, RunStatus.to_string(status))

        self._send(log_result)
        self.is_over = True

    def fail(self, status: int) -> None:
        """End the run of a trial without a result, with a status of MLflow's ``RunStatus``."""
        self._send(lambda client: client.set_terminated(self._run_id, RunStatus.to_string(status)))

    def _send(self, request: Callable[[MlflowClient], None]) -> None:
        if self._client is None:
            return
        try:
            with store.reachable(self._paths):
                request(self._client)
        except Lenet5Error as error:
            self._client = None
            log.warning("%s", error)


@contextmanager
def trial_run(
    paths: Paths, study: str, parent: str, trial: int, params: Mapping[str, Any]
) -> Iterator[TrialRun]:
    """Open the run of a trial, nested in the run of its study, and close it at the end of the block.

    When the store does not answer, this logs a warning and the trial continues.

    Args:
        paths: The checkout, for the store.
        study: Name of the study.
        parent: Id of the run of the study.
        trial: Number of the trial.
        params: Parameters of the training, by their names in the section ``train``.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        with store.reachable(paths):
            client = store.connect(paths)
            tags = {MLFLOW_PARENT_RUN_ID: parent, TRIAL: str(trial), TRIAL_STATE: "running"}
            tags |= {f"{MACHINE}{name}": value for name, value in environment.machine().items()}
            if flow_run := settings.load(paths).lenet5_flow_run_id:
                tags[FLOW_RUN] = flow_run
            tags |= runs.labels(paths, _dotted(params))
            name = f"trial {trial}: {run_name.name(paths, _dotted(params))}"
            run = _create(client, paths, study, name, tags)
            runs.log_params(client, run, _dotted(params))
            opened = TrialRun(paths, client, parent, trial, run.info.run_id)
    except Lenet5Error as error:
        log.warning("%s", error)
        opened = TrialRun(paths, None)
    status = RunStatus.FAILED
    try:
        yield opened
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        if not opened.is_over:
            opened.fail(status)


def _create(client: MlflowClient, paths: Paths, study: str, name: str, tags: Mapping[str, str]) -> Run:
    tags = {SWEEP: study, "mlflow.source.name": "lenet5", **tags}
    return client.create_run(store.experiment(client, paths), tags=tags, run_name=name)


def _search(client: MlflowClient, paths: Paths, study: str) -> list[Run]:
    """Return all runs of a study: its own and those of its trials."""
    experiment = store.experiment(client, paths)
    runs_of_study: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment], f"tags.`{SWEEP}` = '{study}'", page_token=token or None)
        runs_of_study += page
        token = page.token or None
    return runs_of_study


def _dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"train.{name}": value for name, value in values.items()}
