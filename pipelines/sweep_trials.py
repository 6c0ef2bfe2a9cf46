"""The flow that a worker runs for a sweep elsewhere: one searcher, in a workspace of its own."""

from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from lenet5.core.paths import Paths
from lenet5.orchestration import placement, remote, remote_task, sweep, sweep_pool
from lenet5.orchestration.stage_result import StageResult
from lenet5.sweep.worker_spec import TrialWorkerSpec


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

    def work(paths: Paths, on_line: Callable[[str], None]) -> StageResult:
        sweep_pool.require_shared_storage(paths)
        remote.dvc(paths, "pull", sweep_pool.DATA)
        sweep.searcher(paths, TrialWorkerSpec.model_validate_json(order), on_line)
        return StageResult()

    return remote_task.carry_out(work, experiment=experiment)
