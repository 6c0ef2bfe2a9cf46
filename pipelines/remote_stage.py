"""The flow that a worker runs for another flow: one stage, in a workspace of its own."""

import os
from collections.abc import Callable
from typing import Any

from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from lenet5.core.paths import Paths
from lenet5.orchestration import graph, placement, remote, remote_task
from lenet5.orchestration import process_group as gangs
from lenet5.orchestration.stage_result import StageResult
from lenet5.stages import params
from lenet5.system.process import run_bare, run_stage


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

    def work(paths: Paths, on_line: Callable[[str], None]) -> StageResult:
        if gang and gang != gangs.LEAD:
            os.environ["LENET5_RENDEZVOUS"] = gang
            inputs = next(node.after for node in graph.stages(paths.root) if node.name == stage)
            remote.dvc(paths, "pull", *sorted(inputs))
            run_bare(paths.root, stage, timeout=timeout_seconds, on_line=on_line)
            return StageResult()
        if gang:
            workers = params.load(paths.params).train.workers
            with get_client(sync_client=True) as client:
                os.environ["LENET5_RENDEZVOUS"] = gangs.lead(client, str(runtime.flow_run.id), workers)
        run_stage(paths.root, stage, timeout=timeout_seconds, on_line=on_line, force=force, pull=True)
        remote.dvc(paths, "push", "--run-cache", stage)
        return StageResult(locked=remote.locked(paths, stage))

    return remote_task.carry_out(work, experiment=experiment, for_flow_run=for_flow_run)
