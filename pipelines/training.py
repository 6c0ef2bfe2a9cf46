"""The flow: every stage of ``dvc.yaml`` as a task, in graph order, then the promotion gate.

It runs in a checkout of this machine or, as a deployment, in a workspace that a worker made for it.
"""

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from lenet5.orchestration import report, training_flow
from lenet5.orchestration.placement import Mode


def _name() -> str:
    return report.flow_run_name(runtime.flow_run.parameters)


@flow(name="lenet5", flow_run_name=_name, task_runner=ThreadPoolTaskRunner(max_workers=32))  # type: ignore[arg-type]
def training(
    force: list[str] | None = None,
    placement: Mode = Mode.AUTO,
    new_data: bool = False,
    experiment: str | None = None,
    branch: bool = False,
    ref: str | None = None,
) -> State[Any]:
    """Run the graph, register the result, ask the gate.

    Args:
        force: stages to run even if nothing changed.
        placement: what to do with a stage that names a work pool. auto: it goes there while a worker is
            alive, and runs here otherwise; here: it runs here; strict: that no worker is alive is an error.
        new_data: take what the source holds now, whatever params.yaml pins. The run's own params.yaml then
            pins it, so that its record is true.
        experiment: the MLflow experiment; the setting when left out.
        branch: commit what the run changed (dvc.lock; params.yaml for new data) to the branch runs/ID.
        ref: the branch, tag or commit to run; the workspace of a deployment is at it already.
    """
    return training_flow.run(
        force=force or [], mode=placement, new_data=new_data, experiment=experiment, branch=branch
    )
