"""The flow that removes what runs leave on a worker's machine."""

import platform
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.orchestration import cleanup as cleaning
from lenet5.orchestration import workspace
from lenet5.system import settings


@flow(name="lenet5-cleanup", flow_run_name=lambda: f"clean up {platform.node()}")
def cleanup(keep_days: int | None = None, ref: str | None = None) -> State[Any]:
    """Remove old workspaces, checkpoints and cached data of this machine; close orphan MLflow runs.

    What is removed from the cache is in the DVC remote, and is fetched from there when it is needed.

    Args:
        keep_days: younger workspaces and checkpoints stay; LENET5_KEEP_DAYS when left out.
        ref: the branch, tag or commit whose code cleans up.
    """
    paths = Paths.find()
    settings.apply(paths)
    try:
        lines = cleaning.run(paths, keep_days)
    except Lenet5Error as error:
        return Failed(message=str(error))
    for line in lines:
        get_run_logger().info(line)
    workspace.remove(paths)
    return Completed(message="; ".join(lines))
