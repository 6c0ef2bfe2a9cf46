"""Where a stage runs: here, or on the work pool that its ``meta`` in ``dvc.yaml`` names."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Worker, WorkerStatus
from prefect.exceptions import ObjectNotFound

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.orchestration.graph import Stage
from lenet5.system import settings
from lenet5.system.settings import Settings

STAGE_FLOW = "lenet5-stage"
"""Its deployment for a pool has the pool's name."""
SEARCH_FLOW = "lenet5-search"
"""And so has this one's."""
_BEATS = 3
"""Heartbeats that a worker may miss: one that is killed says no good-bye."""


class Mode(StrEnum):
    """What to do with a stage that names a work pool."""

    AUTO = "auto"
    """To the pool when one of its workers is alive, else here."""
    HERE = "here"
    """Here, whatever the graph says."""
    STRICT = "strict"
    """To the pool; that it has no worker is an error."""


def deployment(pool: str, flow: str = STAGE_FLOW) -> str:
    """The deployment that runs stages, or what else is sent, on a pool's workers."""
    return f"{flow}/{pool}"


def missing(paths: Paths, deployed: str) -> str | None:
    """Why nothing can be sent to a deployment; None when it can."""
    return _lack(settings.load(paths)) or _absence(deployed)


def obstacle(paths: Paths, stage: Stage, mode: Mode) -> str | None:
    """Why a stage cannot go to its pool; None when it can.

    Raises:
        Unavailable: it cannot, and has to.
    """
    pool = stage.placement.work_pool
    assert pool is not None
    if mode is Mode.HERE:
        return "it was asked for"
    reason = missing(paths, deployment(pool))
    if reason and mode is Mode.STRICT:
        raise Unavailable(
            f"Stage {stage.name} has nowhere to run.",
            expected=f"a live worker in work pool {pool}",
            found=reason,
            fix=f"start one (`lenet5 worker --pool {pool}`), or leave out the strict placement",
        )
    return reason


def live_workers(client: SyncPrefectClient, pool: str) -> list[Worker]:
    """The workers of a pool that were heard of lately."""
    now = datetime.now(UTC)
    return [worker for worker in client.read_workers_for_work_pool(pool) if _is_alive(worker, now)]


def _lack(found: Settings) -> str | None:
    """What this machine would have to share with the worker, and does not."""
    if not found.prefect_api_url:
        return "there is no Prefect server (PREFECT_API_URL is not set)"
    if found.mlflow_tracking_uri.startswith("sqlite:"):
        return "runs are kept on this machine (MLFLOW_TRACKING_URI is not set)"
    if not found.lenet5_dvc_remote:
        return "data is kept on this machine (LENET5_DVC_REMOTE is not set)"
    return None


def _absence(deployed: str) -> str | None:
    """Why the server has nobody for it."""
    pool = deployed.partition("/")[2]
    with get_client(sync_client=True) as client:
        try:
            found = client.read_work_pool(pool)
        except ObjectNotFound:
            return f"there is no work pool {pool} (`lenet5 deploy` makes it)"
        try:
            client.read_deployment_by_name(deployed)
        except ObjectNotFound:
            return f"there is no deployment {deployed} (`lenet5 deploy` makes it)"
        if found.is_paused:
            return f"work pool {pool} is paused"
        if not live_workers(client, pool):
            return f"work pool {pool} has no live worker"
    return None


def _is_alive(worker: Worker, now: datetime) -> bool:
    if worker.status is not WorkerStatus.ONLINE or worker.last_heartbeat_time is None:
        return False
    silence = now - worker.last_heartbeat_time
    return silence < timedelta(seconds=_BEATS * (worker.heartbeat_interval_seconds or 30))
