"""The flow that looks for new data at the source."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.orchestration import source_watch, workspace
from lenet5.system import settings


@flow(name="lenet5-watch", flow_run_name="look for new data")
def watch_source(ref: str | None = None) -> State[Any]:
    """Compare what the source holds with what was seen last; emit an event when it differs.

    Args:
        ref: the branch, tag or commit whose params.yaml names the source.
    """
    paths = Paths.find()
    settings.apply(paths)
    try:
        message = source_watch.check(paths)
    except Lenet5Error as error:
        return Failed(message=str(error))
    finally:
        workspace.remove(paths)
    get_run_logger().info(message)
    return Completed(message=message)
