"""What every flow that a worker runs for another flow has in common: how it begins and how it ends."""

from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Failed

from lenet5.core import storage
from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, graph, process_group, remote_runs, workspace
from lenet5.orchestration.process_group import VARIABLE
from lenet5.orchestration.remote_runs import StageResult
from lenet5.system import dvc, process, settings
from lenet5.system.dvc import StageFailed
from lenet5.system.process import OnLine


def run(
    task: Callable[[Paths, OnLine], StageResult],
    *,
    experiment: str | None,
    for_flow_run: str | None = None,
) -> State[Any] | None:
    """Run a task in this workspace, publish its result for the sender, and remove the workspace.

    Args:
        task: gets the workspace and a logger of lines.
        experiment: the MLflow experiment; the worker's own setting when None.
        for_flow_run: the flow run that records name as their origin; this one when None.

    Returns:
        A failed state when the task failed; its workspace stays.
    """
    paths = Paths.find()
    settings.apply(paths)
    flow_run = str(runtime.flow_run.id)
    settings.set_variables({"LENET5_FLOW_RUN_ID": for_flow_run or flow_run})
    if experiment:
        settings.set_variables({"MLFLOW_EXPERIMENT_NAME": experiment})
    log = get_run_logger()
    try:
        with storage.failures_named(paths.root), checkout_lock.hold(paths):
            result = task(paths, log.info)
    except StageFailed as error:
        result = StageResult(exit_code=error.exit_code, message=error.message)
    except Lenet5Error as error:
        result = StageResult(exit_code=error.exit_code, message=str(error))
    except BaseException:  # cancelled: the child processes have groups of their own and receive no signal
        process.kill_running()
        raise
    with get_client(sync_client=True) as client:
        remote_runs.publish_result(client, flow_run, result)
    if result.exit_code:
        return Failed(message=result.message)
    workspace.remove(paths)
    return None


def run_stage(
    paths: Paths, name: str, *, force: bool, rendezvous: str | None, on_line: OnLine
) -> StageResult:
    """Run one stage in this workspace, and push what it made.

    Args:
        paths: the workspace.
        name: of the stage.
        force: run it even if nothing changed.
        rendezvous: ``RANK@HOST:PORT`` for a process that joins the training of another worker. It records
            nothing.
        on_line: called with each line of output.
    """
    nodes = graph.stages(paths.root)
    graph.require([name], nodes)
    stage = next(node for node in nodes if node.name == name)
    if rendezvous:
        dvc.exchange(paths.root, "pull", *sorted(stage.after))
        timeout = stage.meta.timeout_seconds
        environment = {VARIABLE: rendezvous}
        dvc.run_unrecorded(paths.root, name, timeout=timeout, on_line=on_line, environment=environment)
        return StageResult()
    process_group.run_stage(paths, stage, force=force, on_line=on_line)
    dvc.exchange(paths.root, "push", "--run-cache", name)
    return StageResult(lock_entry=dvc.locked_entry(paths, name))
