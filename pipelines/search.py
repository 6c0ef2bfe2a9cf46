"""The flow that a worker runs for a sweep elsewhere: one searcher, in a workspace of its own."""

import os
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Failed

from lenet5 import settings
from lenet5.errors import Lenet5Error
from lenet5.paths import Paths
from lenet5.sweep.order import Order
from pipelines import dispatch, occupancy, placement, sweep, sweep_pool, workspace
from pipelines.execute import kill_running
from pipelines.outcome import Outcome, tell


@flow(name=placement.SEARCH_FLOW)
def search(
    order: str,
    ref: str | None = None,
    patch: str | None = None,
    lock: str | None = None,
    experiment: str | None = None,
) -> State[Any] | None:
    """Run trials of a sweep until it has all of them.

    Args:
        order: JSON: which study, and what it searches.
        ref: the commit; the workspace is at it already, and so for `patch` and `lock`.
        patch: what was not committed.
        lock: the content of dvc.lock, which names the processed data.
        experiment: where MLflow keeps the runs; the worker's own setting when left out.
    """
    paths = Paths.find()
    settings.apply(paths)
    os.environ["LENET5_FLOW_RUN_ID"] = str(runtime.flow_run.id)
    if experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
    log = get_run_logger()
    outcome = Outcome()
    try:
        with occupancy.only_one(paths):
            sweep_pool.require_shared_storage(paths)
            dispatch.dvc(paths, "pull", sweep_pool.DATA)
            sweep.searcher(paths, Order.model_validate_json(order), log.info)
    except Lenet5Error as error:
        outcome = Outcome(exit_code=error.exit_code, message=str(error))
    except BaseException:  # cancelled: the searcher's own process group does not hear of it
        kill_running()
        raise
    with get_client(sync_client=True) as client:
        tell(client, str(runtime.flow_run.id), outcome)
    if outcome.exit_code:
        return Failed(message=outcome.message)
    workspace.leave(paths)
    return None
