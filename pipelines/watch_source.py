"""The flow that looks for new data and tells of it by an event, which a trigger of ``prefect.yaml`` hears."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed
from prefect.variables import Variable

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.orchestration import workspace
from lenet5.stages import params
from lenet5.stages.ingest import stage as ingest
from lenet5.system import settings

NEW_DATA = "lenet5.new-data"
SOURCE = "lenet5.source"
SEEN = "lenet5_source"
"""The variable of the Prefect server that keeps what was seen last, so that bad data is told of only once."""


@flow(name="lenet5-watch")
def watch(ref: str | None = None) -> State[Any]:
    """Compare what the source holds with what was seen last; tell of a difference with an event.

    Args:
        ref: the branch, tag or commit whose params.yaml names the source.
    """
    paths = Paths.find()
    settings.apply(paths)
    try:
        said = params.load(paths.params).ingest
        found = ingest.source_checksums(paths, said).model_dump()
    except Lenet5Error as error:
        return Failed(message=str(error))
    finally:
        workspace.leave(paths)
    seen = Variable.get(SEEN, default=None) or said.sha256.model_dump()
    if found == seen:
        return Completed(message=f"up to date: {said.source} holds what it held")
    changed = sorted(name for name in found if found[name] != seen.get(name))
    get_run_logger().info(f"new at {said.source}: {', '.join(changed)}")
    emit_event(NEW_DATA, {"prefect.resource.id": SOURCE, "prefect.resource.name": said.source}, payload=found)
    Variable.set(SEEN, found, overwrite=True)
    return Completed(message=f"new data at {said.source}: {', '.join(changed)}")
