"""The flow that a worker runs for another flow: one stage, in a workspace of its own."""

import os
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Failed

from lenet5 import params, settings
from lenet5.errors import Lenet5Error
from lenet5.paths import Paths
from pipelines import dispatch, graph, occupancy, placement, workspace
from pipelines import gang as gangs
from pipelines.execute import StageFailed, kill_running, run_bare, run_stage
from pipelines.outcome import Outcome, tell


@flow(name=placement.STAGE_FLOW)
def remote_stage(
    stage: str,
    ref: str | None = None,
    patch: str | None = None,
    lock: str | None = None,
    force: bool = False,
    timeout_seconds: int = 3600,
    experiment: str | None = None,
    for_flow_run: str | None = None,
    gang: str | None = None,
) -> State[Any] | None:
    """Run one stage for a flow elsewhere, and push what it made.

    Args:
        stage: its name in dvc.yaml.
        ref: the commit; the workspace is at it already, and so for `patch` and `lock`.
        patch: what was not committed.
        lock: the content of dvc.lock, which names the outputs of the stages before.
        force: run it even if nothing changed.
        timeout_seconds: then it is killed.
        experiment: where MLflow keeps the run; the worker's own setting when left out.
        for_flow_run: the flow run that is to be named as the origin of what the stage records.
        gang: of a training on several machines: `lead`, or RANK@HOST:PORT of one who joins it.
    """
    paths = Paths.find()
    settings.apply(paths)
    os.environ["LENET5_FLOW_RUN_ID"] = for_flow_run or str(runtime.flow_run.id)
    if experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
    log = get_run_logger()
    try:
        with occupancy.only_one(paths):
            if gang and gang != gangs.LEAD:
                os.environ["LENET5_GANG"] = gang
                inputs = next(node.after for node in graph.stages(paths.root) if node.name == stage)
                dispatch.dvc(paths, "pull", *sorted(inputs))
                run_bare(paths.root, stage, timeout=timeout_seconds, on_line=log.info)
                outcome = Outcome()
            else:
                if gang:
                    with get_client(sync_client=True) as client:
                        workers = params.load(paths.params).section(stage).workers
                        os.environ["LENET5_GANG"] = gangs.lead(client, str(runtime.flow_run.id), workers)
                run_stage(
                    paths.root, stage, timeout=timeout_seconds, on_line=log.info, force=force, pull=True
                )
                dispatch.dvc(paths, "push", "--run-cache", stage)
                outcome = Outcome(locked=dispatch.locked(paths, stage))
    except StageFailed as error:
        outcome = Outcome(exit_code=error.exit_code, message=error.message)
    except Lenet5Error as error:
        outcome = Outcome(exit_code=error.exit_code, message=str(error))
    except BaseException:  # cancelled: the stage's own process group does not hear of it
        kill_running()
        raise
    with get_client(sync_client=True) as client:
        tell(client, str(runtime.flow_run.id), outcome)
    if outcome.exit_code:
        return Failed(message=outcome.message)
    workspace.leave(paths)
    return None
