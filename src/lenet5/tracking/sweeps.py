"""A sweep in MLflow: one run a study, and a run nested in it for each trial.

No run of a sweep is the run of a model: none has the tag ``lenet5.training``, by which those are found.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.system import environment
from lenet5.tracking import runs, source_code, store
from lenet5.tracking.tags import CLOSED, FLOW_RUN, MACHINE, SWEEP, TRIAL, TRIAL_STATE

log = logging.getLogger(__name__)

COMPLETE, PRUNED, DIVERGED = "complete", "pruned", "diverged"
BEST = "best."
"""Tags of a study's run: the winner's values, by dotted name."""


def open_run(paths: Paths, study: str, facts: Mapping[str, Any]) -> str:
    """The run of a study, made when there is none yet, and running from now on; its id.

    Args:
        paths: for the store.
        study: its name, a digest.
        facts: what all its trials have in common, by dotted name.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable():
        client = store.connect(paths)
        found = [run for run in _search(client, paths, study) if TRIAL not in run.data.tags]
        run = found[0] if found else _create(client, paths, study, f"sweep-{study[:8]}", {})
        runs.log_params(client, run, facts)
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
    """Say what came of a study so far, and end its run.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable():
        client = store.connect(paths)
        if metrics:
            runs.log_metrics(client, run_id, metrics)
        for name, value in (best or {}).items():
            client.set_tag(run_id, f"{BEST}{name}", str(value))
        if pictures:
            client.log_artifacts(run_id, str(pictures), "plots")
        client.set_terminated(run_id, status)


def close_trials(paths: Paths, study: str, at_work: Collection[int]) -> int:
    """End the runs of trials on which nobody works any more; how many those were.

    Args:
        paths: for the store.
        study: its name.
        at_work: the trials that somebody works on, by number.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable():
        client = store.connect(paths)
        running = [run for run in _search(client, paths, study) if run.info.status == "RUNNING"]
        dead = [run for run in running if int(run.data.tags.get(TRIAL, -1)) not in {*at_work, -1}]
        for run in dead:
            client.set_tag(run.info.run_id, CLOSED, "its searcher was ended")
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
    return len(dead)


class TrialRun:
    """The run of one trial. After the first time that the store does not answer, it keeps still."""

    def __init__(
        self, client: MlflowClient | None, parent: str = "", trial: int = 0, run_id: str = ""
    ) -> None:
        self._client = client
        self._parent = parent
        self._trial = trial
        self._run_id = run_id
        self.is_over = client is None

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell an epoch's metrics."""
        self._tell(lambda client: runs.log_metrics(client, self._run_id, _named(metrics), epoch))

    def end(self, state: str, score: float | None = None) -> None:
        """Say what became of the trial."""
        status = RunStatus.FAILED if state == DIVERGED else RunStatus.FINISHED

        def say(client: MlflowClient) -> None:
            if score is not None:
                runs.log_metrics(client, self._run_id, {runs.SCORE: score})
                runs.log_metrics(client, self._parent, {runs.SCORE: score}, self._trial)
            client.set_tag(self._run_id, TRIAL_STATE, state)
            client.set_terminated(self._run_id, RunStatus.to_string(status))

        self._tell(say)
        self.is_over = True

    def fail(self, status: int) -> None:
        """Close it: the trial came to no end."""
        self._tell(lambda client: client.set_terminated(self._run_id, RunStatus.to_string(status)))

    def _tell(self, what: Callable[[MlflowClient], None]) -> None:
        if self._client is None:
            return
        try:
            with store.reachable():
                what(self._client)
        except Unavailable as error:
            self._client = None
            log.warning("%s", error)


@contextmanager
def trial_run(
    paths: Paths, study: str, parent: str, trial: int, params: Mapping[str, Any]
) -> Iterator[TrialRun]:
    """Open the run of a trial, nested in that of its study; close it, whatever comes.

    A store that does not answer costs a warning and not the trial.

    Args:
        paths: for the store.
        study: its name.
        parent: the id of the study's run.
        trial: its number.
        params: of the training, by their names in its section.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        with store.reachable():
            client = store.connect(paths)
            said = {MLFLOW_PARENT_RUN_ID: parent, TRIAL: str(trial), TRIAL_STATE: "running"}
            said |= {f"{MACHINE}{name}": value for name, value in environment.machine().items()}
            if flow_run := os.environ.get("LENET5_FLOW_RUN_ID"):
                said[FLOW_RUN] = flow_run
            run = _create(client, paths, study, f"trial-{trial:03}", said)
            runs.log_params(client, run, _named(params))
            opened = TrialRun(client, parent, trial, run.info.run_id)
    except Unavailable as error:
        log.warning("%s", error)
        opened = TrialRun(None)
    status = RunStatus.FAILED
    try:
        yield opened
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        if not opened.is_over:
            opened.fail(status)


def _create(client: MlflowClient, paths: Paths, study: str, name: str, more: Mapping[str, str]) -> Run:
    tags = {SWEEP: study, "mlflow.source.name": "lenet5", **more}
    return client.create_run(store.experiment(client, paths), tags=tags, run_name=name)


def _search(client: MlflowClient, paths: Paths, study: str) -> list[Run]:
    where = f"tags.`{SWEEP}` = '{study}'"
    found: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs([store.experiment(client, paths)], where, page_token=token or None)
        found += page
        token = page.token or None
    return found


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"train.{name}": value for name, value in values.items()}
