"""The flow that a worker runs for another flow: one stage, in a workspace of its own."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from lenet5.orchestration import placement, remote_task


@flow(name=placement.STAGE_FLOW)
def remote_stage(
    stage: str,
    ref: str | None = None,
    patch: str | None = None,
    lock: str | None = None,
    force: bool = False,
    experiment: str | None = None,
    for_flow_run: str | None = None,
    rendezvous: str | None = None,
) -> State[Any] | None:
    """Run one stage for a flow elsewhere, and push what it made.

    Args:
        stage: its name in dvc.yaml.
        ref: the commit; the workspace is at it already, and the same holds for `patch` and `lock`.
        patch: uncommitted changes.
        lock: the content of dvc.lock, which names the outputs of the stages before.
        force: run it even if nothing changed.
        experiment: the MLflow experiment; the worker's own setting when left out.
        for_flow_run: the flow run that records name as their origin.
        rendezvous: RANK@HOST:PORT of a process that joins the training of another worker.
    """
    return remote_task.run(
        lambda paths, on_line: remote_task.run_stage(
            paths, stage, force=force, rendezvous=rendezvous, on_line=on_line
        ),
        experiment=experiment,
        for_flow_run=for_flow_run,
    )
