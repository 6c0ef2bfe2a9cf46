"""Run a stage on this worker. A training of several processes is spread over workers: a flow run for each.

The flow run that the sender started runs rank 0. It chooses the address of the rendezvous, and starts the
other ranks as flow runs of the same deployment. They train with it and record nothing. To the
sender, the stage is one flow run.
"""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.orchestration import placement
from lenet5.orchestration.graph import Stage
from lenet5.orchestration.remote_runs import RemoteRuns
from lenet5.stages import params
from lenet5.system import dvc
from lenet5.system.dvc import StageFailed
from lenet5.system.process import OnLine
from lenet5.training.launcher import free_port

VARIABLE = "LENET5_RENDEZVOUS"
"""``RANK@HOST:PORT``, for the training of one rank."""
LEAVE_SECONDS = 30.0
"""How long the other flow runs may take to end after rank 0."""
_QUEUE = "stages"


def run_stage(paths: Paths, stage: Stage, *, force: bool, on_line: OnLine) -> None:
    """Run a stage on this worker; spread a training of several processes over the workers of the pool.

    All processes run on this machine when the pool has no room for a flow run each, and after one of them
    died: the server takes a dead machine for a live one for some time.

    Raises:
        StageFailed: the stage ended with an error.
    """
    environment: dict[str, str] = {}

    def run() -> None:
        timeout = stage.meta.timeout_seconds
        dvc.run_stage(
            paths.root,
            stage.name,
            timeout=timeout,
            on_line=on_line,
            force=force,
            pull=True,
            environment=environment,
        )

    size = params.load(paths.params).train.workers if stage.name == "train" else 1
    if size == 1:
        run()
        return
    if reason := _no_room(str(stage.meta.work_pool), size):
        on_line(f"the {size} processes of {stage.name} run on one machine: {reason}")
        run()
        return
    on_line(f"the {size} processes of {stage.name} run as a flow run each")
    try:
        with _other_ranks(stage, size, on_line) as rendezvous:
            environment[VARIABLE] = rendezvous
            run()
    except StageFailed as error:
        if error.exit_code != Unavailable.exit_code:
            raise
        on_line(error.message)
        on_line(f"the {size} processes of {stage.name} run on one machine now: one of them died")
        environment.clear()
        run()


@contextmanager
def _other_ranks(stage: Stage, size: int, on_line: OnLine) -> Iterator[str]:
    """Start a flow run for each rank but 0, and end them after the block; yield the rendezvous of rank 0."""
    address = f"{_own_address()}:{free_port()}"
    runs = RemoteRuns()
    started: list[FlowRun] = []
    deployed = placement.deployment(str(stage.meta.work_pool))
    own: Mapping[str, Any] = runtime.flow_run.parameters
    own_id = str(runtime.flow_run.id)
    try:
        for rank in range(1, size):
            joins = {**own, "rendezvous": f"{rank}@{address}", "force": False, "for_flow_run": own_id}
            started.append(
                runs.start(deployed, joins, stage.meta.resources, name=f"rank {rank} of {stage.name}")
            )
            on_line(f"rank {rank}: flow run {started[-1].name} ({started[-1].id})")
        yield f"0@{address}"
    except BaseException:
        runs.cancel()
        raise
    with get_client(sync_client=True) as client:
        _await_end(client, started)


def _await_end(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> None:
    """Wait for flow runs that are about to end; cancel those that do not."""
    deadline = time.monotonic() + LEAVE_SECONDS
    for run in runs:
        with suppress(httpx.HTTPError):
            while not (state := client.read_flow_run(run.id).state) or not state.is_final():
                if time.monotonic() > deadline:
                    client.set_flow_run_state(run.id, Cancelling(message="the training is over"))
                    break
                time.sleep(1)


def _no_room(pool: str, size: int) -> str | None:
    """Return why a pool cannot run that many flow runs at a time; None when it can."""
    with get_client(sync_client=True) as client:
        live = len(placement.live_workers(client, pool))
        if live < size:
            return f"work pool {pool} has {live} live workers"
        for queue in client.read_work_queues(work_pool_name=pool):
            limit = queue.concurrency_limit
            if queue.name == _QUEUE and limit is not None and limit < size:
                return f"work pool {pool} runs {limit} at a time (LENET5_GPUS)"
    return None


def _own_address() -> str:
    """Return the address of this machine's name; gloo takes no other.

    Raises:
        Unavailable: the name has no address.
    """
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise Unavailable(
            "Other machines would not find this worker.",
            expected=f"an address for its own name, {socket.gethostname()}",
            found=error,
            fix="give it one, in DNS or /etc/hosts; containers and pods have one",
        ) from None
