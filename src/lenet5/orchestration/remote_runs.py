"""Flow runs on workers: start, poll and cancel them, and the result that a worker attaches to its run."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import Cancelling
from pydantic import BaseModel, ConfigDict
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

POLL_SECONDS = 2.0
BEGIN_WITHIN = timedelta(minutes=5)
"""How long a worker may take to make a workspace; it sends no heartbeats until then."""

RESULT_KEY = "lenet5-stage-result"
"""Key of the artifact that holds the result of a remote stage."""

with_retry = Retrying(
    retry=retry_if_exception_type(httpx.TransportError),  # the server is being restarted
    stop=stop_after_delay(300),
    wait=wait_fixed(POLL_SECONDS),
    reraise=True,
)


class StageResult(BaseModel):
    """How a remote stage ended, or why no workspace could be made for it."""

    model_config = ConfigDict(frozen=True)

    exit_code: int = 0
    message: str = ""
    """Why it failed."""
    lock_entry: str = ""
    """The stage's entry in ``dvc.lock``, as YAML: the order of its keys counts, and JSON columns lose it."""


class RemoteRuns:
    """The flow runs that one flow has started on workers and whose end it has not seen yet."""

    def __init__(self) -> None:
        self._running: set[UUID] = set()
        self._cancelled = threading.Event()

    def start(
        self,
        deployed: str,
        parameters: Mapping[str, Any],
        resources: Mapping[str, Any] | None = None,
        *,
        name: str,
    ) -> FlowRun:
        """Start a run of a deployment.

        Args:
            deployed: ``flow/deployment``.
            parameters: of the flow.
            name: of the flow run, for people.
            resources: job variables of the work pool.
        """
        run = cast(  # not a coroutine: there is no event loop here
            FlowRun,
            run_deployment(
                deployed,
                parameters=dict(parameters),
                flow_run_name=name,
                timeout=0,
                job_variables=dict(resources or {}) or None,
            ),
        )
        self._running.add(run.id)
        return run

    def ended(self, run_id: UUID) -> None:
        """Note that a run has ended, so that it is not cancelled later."""
        self._running.discard(run_id)

    def cancel(self) -> None:
        """Cancel every run that has not ended, because the flow that started them was interrupted."""
        self._cancelled.set()
        for run_id in list(self._running):
            with suppress(httpx.HTTPError, RuntimeError), get_client(sync_client=True) as client:
                client.set_flow_run_state(run_id, Cancelling(message="its flow was interrupted"))

    def cancelled_while_waiting(self) -> bool:
        """Wait until the next poll; return whether the runs were cancelled meanwhile."""
        return self._cancelled.wait(POLL_SECONDS)


def poll(client: SyncPrefectClient, run_id: UUID, seen_lines: int) -> tuple[FlowRun, list[str]]:
    """Return a run as it is now, and the lines that it logged beyond those that were seen."""
    run = client.read_flow_run(run_id)  # before the logs: a run that has ended logs no more
    by_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    lines = client.read_logs(by_run, offset=seen_lines, limit=200)
    return run, [line.message for line in lines]


def stalled_reason(run: FlowRun, timeout: timedelta | None) -> str | None:
    """Return why a run will not end by itself; None while it may. A run that waits in a queue may wait on.

    Args:
        run: as it is now.
        timeout: of the stage; None when the run may take any time.
    """
    if run.state is None:
        return None
    age = datetime.now(UTC) - run.state.timestamp
    if run.state.is_pending() and age > BEGIN_WITHIN:
        return f"its worker took it and did not begin within {BEGIN_WITHIN}"
    # a live worker ends the run itself at the timeout, and the end of a dead one was noticed long before
    if timeout and run.state.is_running() and age > timeout + 2 * BEGIN_WITHIN:
        return f"it has not ended within {timeout}"
    return None


def publish_result(client: SyncPrefectClient, flow_run: UUID | str, result: StageResult) -> None:
    """Attach a result to a flow run."""
    client.create_artifact(
        ArtifactCreate(
            key=RESULT_KEY,
            type="json",
            description="How the stage ended, for the flow that sent it",
            data=result.model_dump(mode="json"),
            flow_run_id=UUID(str(flow_run)),
        )
    )


def read_result(client: SyncPrefectClient, flow_run: UUID) -> StageResult | None:
    """Return the result that is attached to a flow run; None when it ended without one."""
    by_run = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]), key=ArtifactFilterKey(any_=[RESULT_KEY])
    )
    artifacts = client.read_artifacts(artifact_filter=by_run)
    return StageResult.model_validate(artifacts[0].data) if artifacts else None
