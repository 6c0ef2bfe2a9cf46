"""Trial workers of a sweep on a work pool: each is a flow run in a workspace of its own."""

from collections.abc import Callable, Sequence
from uuid import UUID

import httpx
import optuna
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Crashed

from lenet5.core.errors import Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration import placement, remote, remote_runs
from lenet5.orchestration.remote_runs import RemoteRuns, StageResult, poll, stalled_reason, with_retry
from lenet5.orchestration.sweep import run_trial_worker
from lenet5.sweep import study
from lenet5.sweep.worker_spec import TrialWorkerFailed, TrialWorkerSpec
from lenet5.system import dvc, settings
from lenet5.system.process import OnLine

DATA = "preprocess"
"""The stage whose outputs a trial reads; only these reach the workspace of a trial worker."""


def require_shared_storage(paths: Paths) -> None:
    """Check that the study is not a file of one machine.

    Raises:
        UsageError: it is.
    """
    url = settings.load(paths).lenet5_sweep_storage
    if study.is_local(url):
        raise UsageError(
            "The trial workers of a work pool have no common database.",
            expected="the URL of one database in LENET5_SWEEP_STORAGE, here and where the workers run",
            found=url,
            fix="set it, such as postgresql+psycopg://user:password@host/sweeps (docs/sweep.md)",
        )


def require(paths: Paths, pool: str) -> None:
    """Check that a pool can run trials, before anything is started.

    Raises:
        UsageError: the study would be a file of this machine.
        Unavailable: the servers, the pool, its deployment or a live worker is missing.
    """
    require_shared_storage(paths)
    try:
        reason = placement.unavailable_reason(paths, placement.deployment(pool, placement.TRIALS_FLOW))
    except httpx.HTTPError as error:
        reason = f"the Prefect server does not answer: {error}"
    if reason:
        raise Unavailable(
            f"The sweep has nowhere to run: work pool {pool} cannot take it.",
            expected=f"servers that machines share, and a live worker in work pool {pool}",
            found=reason,
            fix=f"start a worker with `lenet5 worker --pool {pool}` (docs/workers.md), or leave out --pool",
        )


def search(
    paths: Paths, pool: str, specs: Sequence[TrialWorkerSpec], opened: optuna.Study, on_line: OnLine
) -> None:
    """Run trial workers on a pool until the study is complete or no worker is left.

    Args:
        paths: this checkout, whose code and processed data the workers get.
        pool: of the workers.
        specs: one for each trial worker.
        opened: the study, to see its progress.
        on_line: called with each line that the workers log.

    Raises:
        UsageError: the uncommitted changes are too large for a patch.
        Unavailable: the Prefect server or the DVC remote does not answer, or the workers died.
        TrialWorkerFailed: a trial worker ended with an error.
    """
    code = remote.code_parameters(paths, "the sweep")
    if url := settings.load(paths).lenet5_dvc_remote:
        dvc.use_remote(paths, paths, url)
    dvc.exchange(paths.root, "push", DATA)
    deployed = placement.deployment(pool, placement.TRIALS_FLOW)
    runs = RemoteRuns()
    try:
        seen_lines: dict[UUID, int] = {}
        for spec in specs:
            name = f"trial worker {spec.worker} of sweep {opened.study_name[:8]}"
            run = runs.start(deployed, code | {"spec": spec.model_dump_json()}, name=name)
            on_line(f"trial worker {spec.worker} is sent to work pool {pool}: flow run {run.name} ({run.id})")
            seen_lines[run.id] = 0
        ended = _follow(
            paths, deployed, runs, seen_lines, lambda: study.is_complete(opened, specs[0].sweep), on_line
        )
    except httpx.HTTPError as error:
        raise Unavailable("The Prefect server does not answer any more.", found=error) from error
    except BaseException:  # Ctrl-C
        runs.cancel()
        raise
    if not study.is_complete(opened, specs[0].sweep):
        raise _failure(ended)


def run_trials(paths: Paths, spec: str, on_line: OnLine) -> StageResult:
    """Run one trial worker in this workspace.

    Args:
        paths: the workspace.
        spec: a ``TrialWorkerSpec`` as JSON.
        on_line: called with each line of output.
    """
    require_shared_storage(paths)
    dvc.exchange(paths.root, "pull", DATA)
    run_trial_worker(paths, TrialWorkerSpec.model_validate_json(spec), on_line)
    return StageResult()


def _follow(
    paths: Paths,
    deployed: str,
    runs: RemoteRuns,
    seen_lines: dict[UUID, int],
    is_complete: Callable[[], bool],
    on_line: OnLine,
) -> list[FlowRun]:
    """Pass on the logs of the flow runs until all have ended; return the ended ones."""
    over: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while seen_lines and not runs.cancelled_while_waiting():
            complete = is_complete()
            for run_id in list(seen_lines):
                run, lines = with_retry(poll, client, run_id, seen_lines[run_id])
                seen_lines[run_id] += len(lines)
                for line in lines:
                    on_line(line)
                if run.state and run.state.is_final():
                    runs.ended(run_id)
                    del seen_lines[run_id]
                    over.append(run)
                else:
                    _end_if_idle(client, paths, deployed, run, complete=complete)
    return over


def _end_if_idle(
    client: SyncPrefectClient, paths: Paths, deployed: str, run: FlowRun, *, complete: bool
) -> None:
    """End a flow run that will never begin, or need not."""
    if message := stalled_reason(run, None):
        client.set_flow_run_state(run.id, Crashed(message=message))
    elif run.start_time is None and complete:
        client.set_flow_run_state(run.id, Cancelling(message="the sweep has all its trials"))
    elif run.start_time is None and (reason := placement.unavailable_reason(paths, deployed)):
        client.set_flow_run_state(run.id, Cancelling(message=reason))


def _failure(ended: Sequence[FlowRun]) -> Lenet5Error:
    with get_client(sync_client=True) as client:
        results = [
            result
            for run in ended
            if (result := remote_runs.read_result(client, run.id)) and result.exit_code
        ]
    if results:
        return TrialWorkerFailed(results[0].message, results[0].exit_code)
    reasons = {run.state.message or str(run.state_type) for run in ended if run.state}
    return Unavailable(
        "The sweep is not complete, and no trial worker is left.",
        found="; ".join(sorted(reasons)),
        fix="start it again: it continues with the trials that are there",
    )
