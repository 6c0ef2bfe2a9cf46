"""Searchers of a sweep on workers: each is a run of a deployment, in a workspace of its own."""

from collections.abc import Callable, Sequence
from uuid import UUID

import httpx
import optuna
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Crashed

from lenet5.core.errors import Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration import placement, remote, stage_result, workspace
from lenet5.sweep import study
from lenet5.sweep.worker_spec import TrialWorkerFailed, TrialWorkerSpec
from lenet5.system import settings

DATA = "preprocess"
"""The stage whose outputs a trial reads; none but these reach a searcher's workspace."""

OnLine = Callable[[str], None]


def require_shared_storage(paths: Paths) -> None:
    """Say no to a study that is a file of one machine.

    Raises:
        UsageError: it is.
    """
    url = settings.load(paths).lenet5_sweep_storage
    if study.is_local(url):
        raise UsageError(
            "The searchers of a work pool have nowhere to keep their trials together.",
            expected="the URL of one database in LENET5_SWEEP_STORAGE, here and where the workers run",
            found=url,
            fix="set it, such as postgresql+psycopg://user:password@host/sweeps (docs/sweep.md)",
        )


def require(paths: Paths, pool: str) -> None:
    """Say no to a pool that cannot search, before anything is begun.

    Raises:
        UsageError: the study would be a file of this machine.
        Unavailable: the servers, the pool, its deployment or a live worker is missing.
    """
    require_shared_storage(paths)
    try:
        reason = placement.missing(paths, placement.deployment(pool, placement.SEARCH_FLOW))
    except httpx.HTTPError as error:
        reason = f"the Prefect server does not answer: {settings.in_urls(str(error))}"
    if reason:
        raise Unavailable(
            f"The sweep has nowhere to run: work pool {pool} cannot take it.",
            expected=f"servers that machines share, and a live worker in work pool {pool}",
            found=reason,
            fix=f"see docs/workers.md; start a worker with `lenet5 worker --pool {pool}`, or omit --pool",
        )


def search(
    paths: Paths, pool: str, orders: Sequence[TrialWorkerSpec], found: optuna.Study, on_line: OnLine
) -> None:
    """Send searchers to a pool, and wait until the study has all its trials, or nobody searches any more.

    Args:
        paths: this checkout, whose code and processed data the workers get.
        pool: of the workers.
        orders: one a searcher.
        found: the study, to see how far it is.
        on_line: is given what the workers log.

    Raises:
        UsageError: what is not committed is too much for a patch.
        Unavailable: the Prefect server or the DVC remote does not answer, or the searchers died.
        TrialWorkerFailed: what a searcher ended with.
    """
    code = remote.code_of(paths, "the sweep")
    if url := settings.load(paths).lenet5_dvc_remote:
        workspace.use_remote(paths, paths, url)
    remote.dvc(paths, "push", DATA)
    deployed = placement.deployment(pool, placement.SEARCH_FLOW)
    try:
        heard: dict[UUID, int] = {}
        for order in orders:
            run = remote.start(deployed, code | {"order": order.model_dump_json()})
            on_line(f"searcher {order.worker} is sent to work pool {pool}: flow run {run.name} ({run.id})")
            heard[run.id] = 0
        ended = _follow(paths, deployed, heard, lambda: study.is_complete(found, orders[0].sweep), on_line)
    except httpx.HTTPError as error:
        raise Unavailable("The Prefect server does not answer any more.", found=error) from error
    except BaseException:  # Ctrl-C
        remote.recall_sent()
        raise
    if not study.is_complete(found, orders[0].sweep):
        raise _reason(ended)


def _follow(
    paths: Paths, deployed: str, heard: dict[UUID, int], is_complete: Callable[[], bool], on_line: OnLine
) -> list[FlowRun]:
    """Pass on what the searchers log until all have ended; the ended runs."""
    over: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while heard and not remote.wait_recalled():
            complete = is_complete()
            for number in list(heard):
                run, lines = remote.patiently(remote.look, client, number, heard[number])
                heard[number] += len(lines)
                for line in lines:
                    on_line(line)
                if run.state and run.state.is_final():
                    remote.ended(number)
                    del heard[number]
                    over.append(run)
                else:
                    _end_if_idle(client, paths, deployed, run, complete=complete)
    return over


def _end_if_idle(
    client: SyncPrefectClient, paths: Paths, deployed: str, run: FlowRun, *, complete: bool
) -> None:
    """End a searcher that will not begin, or need not."""
    if message := remote.stuck(run, None):
        client.set_flow_run_state(run.id, Crashed(message=message))
    elif run.start_time is None and complete:
        client.set_flow_run_state(run.id, Cancelling(message="the sweep has all its trials"))
    elif run.start_time is None and (reason := placement.missing(paths, deployed)):
        client.set_flow_run_state(run.id, Cancelling(message=reason))


def _reason(ended: Sequence[FlowRun]) -> Lenet5Error:
    with get_client(sync_client=True) as client:
        outcomes = [told for run in ended if (told := stage_result.read(client, run.id)) and told.exit_code]
    if outcomes:
        return TrialWorkerFailed(outcomes[0].message, outcomes[0].exit_code)
    said = {run.state.message or str(run.state_type) for run in ended if run.state}
    return Unavailable(
        "The sweep is not at its end, and no searcher is at work any more.",
        found="; ".join(sorted(said)),
        fix="start it again: it goes on with the trials that are there",
    )
