"""The result of a run that has nothing to do: no stage, no registration, no new decision of the gate.

It asks the same functions as the flow, with a client of the registry that can only read. The first request to
write, and everything that is not as usual, means that the flow has to run. So this starts no Prefect server,
and imports neither Prefect nor MLflow.
"""

import logging
import sqlite3
from typing import TYPE_CHECKING

from lenet5.core.errors import Lenet5Error, Refused
from lenet5.core.paths import Paths
from lenet5.registry import promotion
from lenet5.stages import params
from lenet5.system import dvc, settings
from lenet5.system.state import LocalState
from lenet5.tracking import store
from lenet5.tracking.embedded_client import NeedsMlflowError

if TYPE_CHECKING:
    from lenet5.registry.promotion import Promotion

log = logging.getLogger(__name__)


def find(paths: Paths) -> "Promotion | None":
    """Return what the flow would return, if it would change nothing; None when the flow has to run.

    The caller holds the lock of the checkout, and no stage is out of date.

    Raises:
        Refused: the gate rejected the version or held it back, or the version is a model of another data set
            than the champion. The registry says so already.
    """
    if LocalState(paths.root).in_workspace:
        return None
    try:
        client = store.connect_read_only(paths)
        if client is None:
            return None
        from lenet5.stages.register import stage as register

        all_params = params.load(paths.params)
        version = register.run(paths, all_params.register_, all_params.flat(), client=client).version
        promoted = promotion.promote(paths, all_params, str(version.number), client=client, recorded=True)
        if remote_url := settings.load(paths).lenet5_dvc_remote:
            dvc.use_remote(paths, paths, remote_url)
        if refused := promotion.refusal(promoted):
            raise refused
    except Refused:
        raise
    except (Lenet5Error, NeedsMlflowError, OSError, sqlite3.Error) as reason:
        # the flow meets the same error, and reports it
        log.info("the flow has to run: %s", reason)
        return None
    return promoted
