"""What is the same in each flow that a worker runs for another one: where it begins, and how it ends."""

import os
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Failed

from lenet5 import settings
from lenet5.errors import Lenet5Error
from lenet5.paths import Paths
from pipelines import occupancy, workspace
from pipelines.execute import StageFailed, kill_running
from pipelines.outcome import Outcome, tell


def carry_out(
    work: Callable[[Paths, Callable[[str], None]], Outcome],
    *,
    experiment: str | None,
    for_flow_run: str | None = None,
) -> State[Any] | None:
    """Do the work in this workspace, leave word of its end for the sender, and remove the workspace.

    Args:
        work: is given the workspace and a logger of lines.
        experiment: where MLflow keeps the runs; the worker's own setting when None.
        for_flow_run: the flow run that is to be named as the origin of what is recorded; this one when None.

    Returns:
        A failed state when the work failed, whose workspace stays.
    """
    paths = Paths.find()
    settings.apply(paths)
    flow_run = str(runtime.flow_run.id)
    os.environ["LENET5_FLOW_RUN_ID"] = for_flow_run or flow_run
    if experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
    log = get_run_logger()
    try:
        with occupancy.only_one(paths):
            outcome = work(paths, log.info)
    except StageFailed as error:
        outcome = Outcome(exit_code=error.exit_code, message=error.message)
    except Lenet5Error as error:
        outcome = Outcome(exit_code=error.exit_code, message=str(error))
    except BaseException:  # cancelled: what was started has a process group of its own, and hears nothing
        kill_running()
        raise
    with get_client(sync_client=True) as client:
        tell(client, flow_run, outcome)
    if outcome.exit_code:
        return Failed(message=outcome.message)
    workspace.leave(paths)
    return None
