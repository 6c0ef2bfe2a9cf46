"""Where a stage runs: on this machine, or on the work pool that its ``meta`` in ``dvc.yaml`` names."""

from datetime import UTC, datetime
from enum import StrEnum

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Worker, WorkerStatus
from prefect.exceptions import ObjectNotFound

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.orchestration import heartbeat
from lenet5.orchestration.graph import Stage
from lenet5.system import settings
from lenet5.system.settings import Settings

STAGE_FLOW = "lenet5-stage"
"""The flow that runs one stage."""
TRIALS_FLOW = "lenet5-search"
"""The flow that runs trials of a sweep."""
_WHAT = {STAGE_FLOW: "stage", TRIALS_FLOW: "trials"}
"""What a flow runs, for the names of its deployments: Prefect's lists show them without the flow."""
_ON = "-on-"


class Mode(StrEnum):
    """What to do with a stage that names a work pool."""

    AUTO = "auto"
    """Run it on the pool while one of its workers is alive, else on this machine."""
    LOCAL = "here"
    """Run it on this machine, whatever ``dvc.yaml`` says."""
    REQUIRE_REMOTE = "strict"
    """Run it on the pool; that no worker is alive is an error."""


def deployment(pool: str, flow: str = STAGE_FLOW) -> str:
    """Return the name of the deployment that runs a flow on the workers of a pool."""
    return f"{flow}/{_WHAT[flow]}{_ON}{pool}"


def unavailable_reason(paths: Paths, deployed: str) -> str | None:
    """Return why nothing can be sent to a deployment; None when it can."""
    return _unshared_store(settings.load(paths)) or _missing_on_server(deployed)


def local_reason(paths: Paths, stage: Stage, mode: Mode) -> str | None:
    """Return why a stage runs on this machine and not on its pool; None when it goes to the pool.

    Raises:
        Unavailable: the pool cannot take it, and ``mode`` requires the pool.
    """
    pool = stage.meta.work_pool
    assert pool is not None
    if mode is Mode.LOCAL:
        return "--placement here"
    reason = unavailable_reason(paths, deployment(pool))
    if reason and mode is Mode.REQUIRE_REMOTE:
        raise Unavailable(
            f"Stage {stage.name} has nowhere to run.",
            expected=f"a live worker in work pool {pool}",
            found=reason,
            fix=f"start one (`lenet5 worker --pool {pool}`), or leave out --placement strict",
        )
    return reason


def live_workers(client: SyncPrefectClient, pool: str) -> list[Worker]:
    """Return the workers of a pool whose heartbeats arrive."""
    now = datetime.now(UTC)
    return [worker for worker in client.read_workers_for_work_pool(pool) if _is_alive(worker, now)]


def _unshared_store(configured: Settings) -> str | None:
    """Return which store a worker could not reach, because it is on this machine."""
    if not configured.prefect_api_url:
        return "there is no Prefect server (PREFECT_API_URL is not set)"
    if configured.mlflow_tracking_uri.startswith("sqlite:"):
        return "runs are kept on this machine (MLFLOW_TRACKING_URI is not set)"
    if not configured.lenet5_dvc_remote:
        return "data is kept on this machine (LENET5_DVC_REMOTE is not set)"
    return None


def _missing_on_server(deployed: str) -> str | None:
    """Return what the Prefect server lacks to run a deployment."""
    pool = deployed.partition(_ON)[2]
    with get_client(sync_client=True) as client:
        try:
            work_pool = client.read_work_pool(pool)
        except ObjectNotFound:
            return f"there is no work pool {pool} (`lenet5 deploy` makes it)"
        try:
            client.read_deployment_by_name(deployed)
        except ObjectNotFound:
            return f"there is no deployment {deployed} (`lenet5 deploy` makes it)"
        if work_pool.is_paused:
            return f"work pool {pool} is paused"
        if not live_workers(client, pool):
            return f"work pool {pool} has no live worker"
    return None


def _is_alive(worker: Worker, now: datetime) -> bool:
    return worker.status is WorkerStatus.ONLINE and heartbeat.is_recent(
        worker.last_heartbeat_time, worker.heartbeat_interval_seconds, now
    )
