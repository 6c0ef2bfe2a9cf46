"""What is the same in each flow that a worker runs for another one: where it begins, and how it ends."""

import os
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Failed

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, workspace
from lenet5.orchestration.stage_result import StageResult, tell
from lenet5.system import settings
from lenet5.system.process import StageFailed, kill_running


def carry_out(
    work: Callable[[Paths, Callable[[str], None]], StageResult],
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
        with checkout_lock.only_one(paths):
            outcome = work(paths, log.info)
    except StageFailed as error:
        outcome = StageResult(exit_code=error.exit_code, message=error.message)
    except Lenet5Error as error:
        outcome = StageResult(exit_code=error.exit_code, message=str(error))
    except BaseException:  # cancelled: what was started has a process group of its own, and hears nothing
        kill_running()
        raise
    with get_client(sync_client=True) as client:
        tell(client, flow_run, outcome)
    if outcome.exit_code:
        return Failed(message=outcome.message)
    workspace.leave(paths)
    return None
