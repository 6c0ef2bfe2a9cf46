"""The flow that a worker runs for a sweep elsewhere: trials of one study, in a workspace of its own."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from lenet5.orchestration import placement, remote_task, sweep_pool


@flow(name=placement.TRIALS_FLOW)
def sweep_trials(
    spec: str,
    ref: str | None = None,
    patch: str | None = None,
    lock: str | None = None,
    experiment: str | None = None,
) -> State[Any] | None:
    """Run trials of a sweep until it has all of them.

    Args:
        spec: JSON: which study, and what it searches.
        ref: the commit; the workspace is at it already, and the same holds for `patch` and `lock`.
        patch: uncommitted changes.
        lock: the content of dvc.lock, which names the processed data.
        experiment: the MLflow experiment; the worker's own setting when left out.
    """
    return remote_task.run(
        lambda paths, on_line: sweep_pool.run_trials(paths, spec, on_line), experiment=experiment
    )
