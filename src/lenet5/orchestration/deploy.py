"""Apply prefect.yaml to the Prefect server: pools, queues, limits, deployments, automations. Idempotent."""

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.workers.process import ProcessWorker

from lenet5.core import files
from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.system import process, settings
from lenet5.system.settings import Settings

log = logging.getLogger(__name__)

DEAD_AFTER = timedelta(seconds=90)
"""A flow run that sends no heartbeat for this long is marked as Crashed; it sends one every 30 seconds."""
_EARLIER_NAMES = {"cpu", "gpu"}
_ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
_HEARTBEAT = "prefect.flow-run.heartbeat"


@dataclass(frozen=True)
class Deployed:
    """A deployment as it is on the server."""

    name: str
    """The flow, a slash, the deployment."""
    pool: str
    schedule: str
    """Empty when it runs only on demand."""
    active: bool
    description: str


def deploy(paths: Paths, *, activate: Sequence[str] = (), pause: Sequence[str] = ()) -> list[Deployed]:
    """Apply ``prefect.yaml``, with the pools, queues and automations that it needs.

    Changes that were made on the server stay: whether a schedule is active, and the type of a pool.

    Args:
        paths: a checkout, or an image of one.
        activate: slugs of schedules to activate.
        pause: slugs of schedules to pause.

    Raises:
        UsageError: there is no server to deploy to, or no such schedule.
        Unavailable: the server does not answer, or refuses.
    """
    configured = settings.load(paths)
    if not configured.prefect_api_url:
        raise UsageError(
            "There is no server to deploy to.",
            expected="its address in PREFECT_API_URL, such as http://127.0.0.1:4200/api",
            found="no such setting",
            fix="`make up` starts one; or set PREFECT_API_URL",
        )
    _require_schedules(paths, {*activate, *pause})
    try:
        with get_client(sync_client=True) as client:
            _pools(client, configured)
            before = _active(_own_deployments(client))
            try:
                _apply(paths, configured)
                _remove_earlier(client)
            finally:  # prefect.yaml pauses all of them; active ones stay active, also after an error
                wanted = before | dict.fromkeys(activate, True) | dict.fromkeys(pause, False)
                _set_active(client, _own_deployments(client), wanted)
            _automate(client)
            return [_deployed(client, each) for each in _own_deployments(client)]
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        raise Unavailable(
            "The Prefect server did not take the deployments.",
            expected=f"Prefect at {configured.prefect_api_url}",
            found=str(error).splitlines()[0],
            fix="start it, or correct PREFECT_API_URL and PREFECT_API_AUTH_STRING",
        ) from None


def _pools(client: SyncPrefectClient, configured: Settings) -> None:
    """Create a pool for CPU workers and one for GPU workers, with a limited queue for each purpose."""
    limits: dict[str, dict[str, int | None]] = {
        # `lenet5 sweep` chooses the number of its trial workers; the limit of each worker holds, too
        "cpu": {"training": configured.lenet5_runs, "searchers": None, "upkeep": 1},
        "gpu": {"stages": configured.lenet5_gpus, "upkeep": 1},
    }
    for pool, queues in limits.items():
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        known = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool)}
        for name, limit in queues.items():
            if name not in known:
                known[name] = client.create_work_queue(name, work_pool_name=pool)
            if limit is not None:
                client.update_work_queue(known[name].id, concurrency_limit=limit)


def _apply(paths: Paths, configured: Settings) -> None:
    """Run Prefect's own command on ``prefect.yaml``."""
    ended = process.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        paths.root,
        on_line=log.info,
        environment={
            "LENET5_NIGHTLY": configured.lenet5_nightly,
            "LENET5_WATCH": configured.lenet5_watch,
            "LENET5_TIMEZONE": configured.lenet5_timezone,
        },
    )
    if ended.code:
        raise Unavailable(
            "The Prefect server did not take the deployments.",
            found="\n            ".join([line for line in ended.lines if line][-8:]),
            fix="correct prefect.yaml, or see the server's log",
        )


def _automate(client: SyncPrefectClient) -> None:
    """Let the server mark flow runs without heartbeats as Crashed, because a killed worker cannot."""
    wanted = AutomationCore(
        name="lenet5: a flow run without a heartbeat is crashed",
        description="So that its stage is sent to another worker, and nothing waits for it for ever.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *_ENDED},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(  # other flows may send heartbeats less often
                {"prefect.resource.role": "flow", "prefect.resource.name": ["lenet5", "lenet5-*"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=DEAD_AFTER,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message=f"no heartbeat for {DEAD_AFTER.seconds} seconds: its worker is gone",
                force=False,
            )
        ],
    )
    there = client.read_automations_by_name(wanted.name)
    if not there:
        client.create_automation(wanted)
    elif _core(there[0]) != _core(wanted):  # an update resets the heartbeats that the server waits for
        client.update_automation(there[0].id, wanted)


def _core(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation does, without the ids that the server assigns to its parts."""
    return automation.model_dump(
        include={"description", "enabled", "trigger", "actions"}, exclude={"trigger": {"id"}}
    )


def _own_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    deployments = client.read_deployments(limit=200)
    return sorted((each for each in deployments if "lenet5" in each.tags), key=lambda each: each.name)


def _remove_earlier(client: SyncPrefectClient) -> None:
    """Remove the deployments of earlier releases, which had the names of their pools."""
    for each in _own_deployments(client):
        if each.name in _EARLIER_NAMES:
            client.delete_deployment(each.id)
            log.info("removed deployment %s of an earlier release", each.name)


def _active(deployments: Sequence[DeploymentResponse]) -> dict[str, bool]:
    """Return whether each schedule is active, by slug."""
    return {
        schedule.slug: schedule.active for each in deployments for schedule in each.schedules if schedule.slug
    }


def _set_active(
    client: SyncPrefectClient, deployments: Sequence[DeploymentResponse], wanted: Mapping[str, bool]
) -> None:
    for each in deployments:
        for schedule in each.schedules:
            active = wanted.get(schedule.slug or "", schedule.active)
            if schedule.active != active:
                client.update_deployment_schedule(each.id, schedule.id, active=active)


def _require_schedules(paths: Paths, named: Collection[str]) -> None:
    written = files.read_yaml(paths.root / "prefect.yaml", fix="`git restore prefect.yaml`")["deployments"]
    known = [schedule["slug"] for each in written for schedule in each.get("schedules", [])]
    if unknown := sorted(set(named) - set(known)):
        raise UsageError(
            f"There is no schedule {unknown[0]}.", expected=", ".join(known), found=", ".join(unknown)
        )


def _deployed(client: SyncPrefectClient, deployment: DeploymentResponse) -> Deployed:
    crons = [each.schedule for each in deployment.schedules if isinstance(each.schedule, CronSchedule)]
    return Deployed(
        name=f"{client.read_flow(deployment.flow_id).name}/{deployment.name}",
        pool=f"{deployment.work_pool_name}/{deployment.work_queue_name}",
        schedule=", ".join(f"{cron.cron} {cron.timezone}" for cron in crons),
        active=any(each.active for each in deployment.schedules),
        description=deployment.description or "",
    )
