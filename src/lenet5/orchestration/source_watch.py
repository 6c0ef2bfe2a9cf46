"""Compare what the data source holds with what was seen last, and emit an event when it differs."""

from prefect.events import emit_event
from prefect.variables import Variable

from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.stages import params
from lenet5.stages.ingest import stage as ingest

NEW_DATA = "lenet5.new-data"
"""The event. A trigger in ``prefect.yaml`` starts a training on it."""
SOURCE = "lenet5.source"
SEEN = "lenet5_source"
"""The variable of the Prefect server with the checksums seen last, so that bad data is reported only once."""


def check(paths: Paths) -> str:
    """Emit an event when the source holds new data; return what was found, in one line.

    Raises:
        UsageError, Unavailable, DataError: the source cannot be read.
    """
    ingest_params = params.load(paths.params).ingest
    source = mask_urls(ingest_params.source)
    checksums = ingest.current_pins(paths, ingest_params).by_name
    seen = Variable.get(SEEN, default=None) or ingest_params.pins.by_name
    if checksums == seen:
        return f"up to date: {source} holds what it held"
    changed = sorted(name for name in checksums if checksums[name] != seen.get(name))
    resource = {"prefect.resource.id": SOURCE, "prefect.resource.name": source}
    emit_event(NEW_DATA, resource, payload=checksums)
    Variable.set(SEEN, checksums, overwrite=True)
    return f"new data at {source}: {', '.join(changed)}"
