"""A training with several workers, each of them a flow run of the work pool: who leads, and where they meet.

The first flow run runs the stage, as that of any other stage does, and says where it listens. The sender then
sends the others there, in the same workspace of their own; they train along and leave nothing behind.
"""

import socket
from collections.abc import Callable, Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.orchestration import placement, stage_result
from lenet5.orchestration.graph import Stage
from lenet5.stages import params
from lenet5.training.launcher import free_port

LEAD = "lead"
"""The parameter ``gang`` of the first; that of the others is RANK@HOST:PORT, as ``LENET5_GANG``."""
_KEY = "lenet5-gang"
_QUEUE = "stages"


def first(paths: Paths, stage: Stage, on_line: Callable[[str], None], *, someone_died: bool) -> str | None:
    """The parameter ``gang`` of the first flow run; None when all workers are processes of its machine.

    So they are when the pool has no room for a flow run each, and after one of them died: a dead machine is
    taken for a live one for some time yet.
    """
    workers = params.load(paths.params).train.workers if stage.name == "train" else 1
    if workers == 1:
        return None
    crowded = "one died" if someone_died else _lack_of_room(str(stage.placement.work_pool), workers)
    where = f"on one machine: {crowded}" if crowded else "as a flow run each"
    on_line(f"the {workers} workers of {stage.name} come {where}")
    return None if crowded else LEAD


def lead(client: SyncPrefectClient, flow_run: UUID | str, workers: int) -> str:
    """Choose where to meet, and leave word of it for the sender; the first one's RANK@HOST:PORT."""
    address = f"{_own_address()}:{free_port()}"
    data = {"others": [f"{rank}@{address}" for rank in range(1, workers)]}
    stage_result.leave_word(client, flow_run, _KEY, "Where the workers of this training meet", data)
    return f"0@{address}"


def others(client: SyncPrefectClient, flow_run: UUID) -> Sequence[str]:
    """RANK@HOST:PORT of those that are to join; none before the first one left word."""
    found = stage_result.word(client, flow_run, _KEY)
    return [] if found is None else list(found["others"])


def _lack_of_room(pool: str, workers: int) -> str | None:
    with get_client(sync_client=True) as client:
        live = len(placement.live_workers(client, pool))
        if live < workers:
            return f"work pool {pool} has {live} live workers"
        for queue in client.read_work_queues(work_pool_name=pool):
            limit = queue.concurrency_limit
            if queue.name == _QUEUE and limit is not None and limit < workers:
                return f"work pool {pool} runs {limit} at a time (LENET5_GPUS)"
    return None


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
            fix="give it one, in DNS or /etc/hosts; containers and pods have one",
        ) from None
