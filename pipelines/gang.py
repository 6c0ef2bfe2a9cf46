"""A training with several workers, each of them a flow run of the work pool: who leads, and where they meet.

The first flow run runs the stage, as that of any other stage does, and says where it listens. The sender then
sends the others there, in the same workspace of their own; they train along and leave nothing behind.
"""

import socket
from collections.abc import Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

from lenet5 import params
from lenet5.errors import Unavailable
from lenet5.paths import Paths
from lenet5.train.launcher import free_port
from pipelines import placement
from pipelines.graph import Stage

LEAD = "lead"
"""The parameter ``gang`` of the first; that of the others is RANK@HOST:PORT, as ``LENET5_GANG``."""
_KEY = "lenet5-gang"
_QUEUE = "stages"


def size(paths: Paths, stage: Stage) -> int:
    """How many workers the parameters ask for."""
    return int(getattr(params.load(paths.params).section(stage.name), "workers", 1))


def obstacle(client: SyncPrefectClient, pool: str, workers: int) -> str | None:
    """Why all of them have to be on one machine; None when the pool has room for a flow run each."""
    live = len(placement.live_workers(client, pool))
    if live < workers:
        return f"work pool {pool} has {live} live workers"
    for queue in client.read_work_queues(work_pool_name=pool):
        if queue.name == _QUEUE and queue.concurrency_limit is not None and queue.concurrency_limit < workers:
            return f"LENET5_GPUS lets work pool {pool} run {queue.concurrency_limit} at a time"
    return None


def lead(client: SyncPrefectClient, flow_run: UUID | str) -> str:
    """Choose where to meet, and say so; the first one's RANK@HOST:PORT."""
    address = f"{_own_address()}:{free_port()}"
    about = "Where the workers of this training meet"
    told = ArtifactCreate(
        key=_KEY, type="json", description=about, data={"address": address}, flow_run_id=UUID(str(flow_run))
    )
    client.create_artifact(told)
    return f"0@{address}"


def others(client: SyncPrefectClient, first: UUID, workers: int) -> Sequence[str]:
    """RANK@HOST:PORT of the others; none before the first one said where it is."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[first]), key=ArtifactFilterKey(any_=[_KEY])
    )
    found = client.read_artifacts(artifact_filter=wanted)
    if not found:
        return []
    data = found[0].data
    assert isinstance(data, dict)
    return [f"{rank}@{data['address']}" for rank in range(1, workers)]


def _own_address() -> str:
    """The address that this machine's name stands for: gloo, too, takes no other.

    Raises:
        Unavailable: the name stands for none.
    """
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise Unavailable(
            "Other machines would not find this worker.",
            expected=f"an address for its own name, {socket.gethostname()}",
            found=error,
            do="give it one, in DNS or /etc/hosts; containers and pods have one",
        ) from None
