"""One stage sent to another machine: code and inputs go there, the result comes back, nothing runs twice.

Code goes as a commit and a patch; data goes through the DVC remote. The worker gives back what ``dvc.lock``
is to say of the stage, and this checkout then restores just that.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, cast
from uuid import UUID

import httpx
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.states import Cancelling, Crashed
from ruamel.yaml import YAML
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from lenet5.core.errors import DataError, Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration import placement, workspace
from lenet5.orchestration import process_group as gangs
from lenet5.orchestration import stage_result as outcomes
from lenet5.orchestration.graph import Stage
from lenet5.orchestration.placement import Mode
from lenet5.orchestration.stage_result import StageResult
from lenet5.system import settings
from lenet5.system.process import StageFailed, differs, run_stage
from lenet5.tracking import source_code

POLL_SECONDS = 2.0
BEGIN_WITHIN = timedelta(minutes=5)
"""What a worker may take to make a workspace; no heart beats until then."""
PART_SECONDS = 30.0
"""What those who joined a training may take to end after it."""
LARGEST_PATCH = 300_000
"""Characters; Prefect's server takes parameters of half a megabyte in all."""

_sent: set[UUID] = set()
_recalled = threading.Event()

OnLine = Callable[[str], None]


def locked(paths: Paths, stage: str) -> str:
    """What ``dvc.lock`` says of a stage, as YAML."""
    entry, text = YAML().load(paths.lock)["stages"][stage], StringIO()
    YAML().dump(entry, text)
    return text.getvalue()


def dvc(paths: Paths, *words: str) -> None:
    """Let DVC exchange data with the remote.

    Raises:
        Unavailable: it could not.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *words],
        cwd=paths.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(
            f"`dvc {' '.join(words)}` failed.",
            expected="a DVC remote that answers",
            found=settings.in_urls("\n            ".join(done.stderr.strip().splitlines()[-5:])),
            fix="correct LENET5_DVC_REMOTE or .dvc/config, and the keys of its store",
        )


def send(paths: Paths, stage: Stage, *, mode: Mode, force: bool, on_line: OnLine) -> None:
    """Bring a stage up to date on a worker of its pool, and its result into this checkout.

    Args:
        paths: this checkout; the stages before are up to date.
        stage: one with a work pool.
        mode: whether it may run here when all workers are gone.
        force: run it even if nothing changed.
        on_line: is given each line that the worker logs.

    Raises:
        StageFailed: it ended with an error there.
        Unavailable: the remote or the Prefect server does not answer, every worker died at it, or this flow
            was interrupted.
        UsageError: what was not committed is too much for a patch.
        DataError: what came back is the result of other inputs.
    """
    if not force and not differs(paths.root, stage.name) and _pulled(paths, stage.name):
        on_line(f"Stage '{stage.name}' didn't change, skipping")
        return
    parameters = _order(paths, stage, force)
    dvc(paths, "push", *sorted(stage.after))
    for attempt in range(1 + stage.placement.replacements):
        if attempt:
            on_line(f"{stage.name} is sent to another worker")
        try:
            first = gangs.first(paths, stage, on_line, someone_died=attempt > 0)
            run = _follow(paths, stage, {**parameters, "gang": first}, mode, on_line)
        except httpx.HTTPError as error:
            raise Unavailable("The Prefect server does not answer any more.", found=error) from error
        if run is None:
            timeout = stage.placement.timeout_seconds
            run_stage(paths.root, stage.name, timeout=timeout, on_line=on_line, force=force, pull=True)
            return
        if not _died(run):
            adopt(paths, stage, _outcome(stage, run))
            on_line(f"{stage.name} is done, and its outputs are here")
            return
        on_line(f"{run.name}: {run.state.message if run.state else 'crashed'}")
    raise Unavailable(
        f"Stage {stage.name} was sent to {1 + stage.placement.replacements} workers, and each died at it.",
        fix="look at the flow runs of deployment " + placement.deployment(str(stage.placement.work_pool)),
    )


def recall_sent() -> None:
    """Cancel what this process sent and did not hear the end of; for a flow that is interrupted."""
    _recalled.set()
    for number in list(_sent):
        with suppress(httpx.HTTPError, RuntimeError), get_client(sync_client=True) as client:
            client.set_flow_run_state(number, Cancelling(message="its flow was interrupted"))


def code_of(paths: Paths, what: str) -> dict[str, Any]:
    """The code that lies here, as the parameters by which a worker makes a workspace with it.

    Raises:
        UsageError: it is in no git checkout, or what is not committed is too much for a patch.
    """
    code = source_code.find(paths.root)
    if code is None:
        raise UsageError(
            f"{what[0].upper()}{what[1:]} cannot be sent to a worker.",
            expected="a git checkout, whose commit the worker fetches",
            found=paths.root,
            fix="clone the project with git, or run it here",
        )
    patch = workspace.pack(code.patch)
    if patch and len(patch) > LARGEST_PATCH:
        raise UsageError(
            f"What is not committed is too much to be sent to a worker: {what} was not started.",
            expected=f"a patch of at most {LARGEST_PATCH:,} characters, compressed",
            found=f"{len(patch):,}",
            fix="commit and push it, or run it here",
        )
    return {
        "ref": code.commit,
        "patch": patch,
        "lock": paths.lock.read_text() if paths.lock.exists() else None,
        "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME"),
    }


def _order(paths: Paths, stage: Stage, force: bool) -> dict[str, Any]:
    return code_of(paths, f"stage {stage.name}") | {
        "stage": stage.name,
        "force": force,
        "timeout_seconds": stage.placement.timeout_seconds,
        "for_flow_run": str(runtime.flow_run.id) if runtime.flow_run.id else None,
    }


def _died(run: FlowRun) -> bool:
    """Whether a worker died: the one of this run or, of a training on several machines, any."""
    if run.state_type is StateType.CRASHED:
        return True
    if run.parameters.get("gang") is None:
        return False
    with get_client(sync_client=True) as client:
        outcome = outcomes.read(client, run.id)
    return outcome is not None and outcome.exit_code == Unavailable.exit_code


def start(
    deployed: str, parameters: Mapping[str, Any], resources: Mapping[str, Any] | None = None
) -> FlowRun:
    """Ask for a run of a deployment; it is recalled with all others until its end was heard of."""
    run = cast(  # there is no event loop here
        FlowRun,
        run_deployment(
            deployed, parameters=dict(parameters), timeout=0, job_variables=dict(resources or {}) or None
        ),
    )
    _sent.add(run.id)
    return run


def ended(number: UUID) -> None:
    """The end of a run was heard of."""
    _sent.discard(number)


def wait_recalled() -> bool:
    """Wait a moment; whether what was sent was recalled meanwhile."""
    return _recalled.wait(POLL_SECONDS)


def _follow(
    paths: Paths, stage: Stage, parameters: Mapping[str, Any], mode: Mode, on_line: OnLine
) -> FlowRun | None:
    """Send, and wait for the end; None when no worker was left to begin, and the stage may run here."""
    pool = str(stage.placement.work_pool)
    heard = 0
    others: list[FlowRun] = []
    run = start(placement.deployment(pool), parameters, stage.placement.resources)
    on_line(f"{stage.name} is sent to work pool {pool}: flow run {run.name} ({run.id})")
    with get_client(sync_client=True) as client:
        try:
            while not wait_recalled():
                run, lines = patiently(look, client, run.id, heard)
                heard += len(lines)
                for line in lines:
                    on_line(line)
                if run.state and run.state.is_final():
                    ended(run.id)
                    return run
                if message := stuck(run, timedelta(seconds=stage.placement.timeout_seconds)):
                    client.set_flow_run_state(run.id, Crashed(message=message))
                elif run.start_time is None and (reason := placement.obstacle(paths, stage, Mode.AUTO)):
                    client.set_flow_run_state(run.id, Cancelling(message=reason))
                    placement.obstacle(paths, stage, mode)  # an error, if it has to run there
                    on_line(f"{stage.name} runs here: {reason}")
                    ended(run.id)
                    return None
                elif parameters["gang"] and not others:
                    for seat in gangs.others(client, run.id):
                        joins = {**parameters, "gang": seat, "force": False}
                        others.append(start(placement.deployment(pool), joins, stage.placement.resources))
                        on_line(f"flow run {others[-1].name} ({others[-1].id}) joins it")
        finally:
            _part(client, others)
    raise Unavailable(f"Stage {stage.name} was recalled: its flow was interrupted.")


def _part(client: SyncPrefectClient, others: Sequence[FlowRun]) -> None:
    """Let those who joined a training come to their end, which is near; cancel who does not."""
    deadline = time.monotonic() + PART_SECONDS
    for other in others:
        with suppress(httpx.HTTPError):
            while not (state := client.read_flow_run(other.id).state) or not state.is_final():
                if wait_recalled() or time.monotonic() > deadline:
                    client.set_flow_run_state(other.id, Cancelling(message="the training is over"))
                    break
        ended(other.id)


def look(client: SyncPrefectClient, number: UUID, heard: int) -> tuple[FlowRun, list[str]]:
    """A run as it is now, and what it logged beyond the first lines."""
    run = client.read_flow_run(number)  # first: an ended run logs no more
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[number]))
    lines = client.read_logs(wanted, offset=heard, limit=200)
    return run, [line.message for line in lines]


patiently = Retrying(
    retry=retry_if_exception_type(httpx.TransportError),  # a server that is started again
    stop=stop_after_delay(300),
    wait=wait_fixed(POLL_SECONDS),
    reraise=True,
)


def stuck(run: FlowRun, timeout: timedelta | None) -> str | None:
    """Why a run that neither ended nor waits in a queue will not end; without a time-out, it may run on."""
    if run.state is None:
        return None
    age = datetime.now(UTC) - run.state.timestamp
    if run.state.is_pending() and age > BEGIN_WITHIN:
        return f"its worker took it and did not begin within {BEGIN_WITHIN}"
    # a worker that lives ends it by itself then, and one that is dead was noticed long before
    if timeout and run.state.is_running() and age > timeout + 2 * BEGIN_WITHIN:
        return f"it has not ended within {timeout}"
    return None


def _outcome(stage: Stage, run: FlowRun) -> StageResult:
    with get_client(sync_client=True) as client:
        outcome = outcomes.read(client, run.id)
    if outcome is None:
        told = run.state.message if run.state and run.state.message else f"it ended as {run.state_type}"
        raise StageFailed(stage.name, told, 1)
    if outcome.exit_code:
        raise StageFailed(stage.name, outcome.message, outcome.exit_code)
    return outcome


def adopt(paths: Paths, stage: Stage, outcome: StageResult) -> None:
    """Take over what the worker's ``dvc.lock`` says of the stage, and fetch just that; nothing runs here.

    Raises:
        Unavailable: it is not in the DVC remote.
        DataError: it is the result of other inputs than those that lie here. ``dvc.lock`` is as before then.
    """
    before = _set_locked(paths, stage.name, YAML().load(outcome.locked))
    try:
        # what lies there may be of a training that nobody recorded; `dvc repro` would replace it, too
        dvc(paths, "pull", "--force", stage.name)
        if different := differs(paths.root, stage.name):
            raise DataError(
                f"Stage {stage.name} was run on a worker, and its result does not fit this checkout.",
                expected="a result of the same code, parameters and data",
                found=", ".join(f"{name} {how}" for name, how in sorted(different.items())),
                fix="see that no file was edited meanwhile, and run again",
            )
    except Lenet5Error:
        _set_locked(paths, stage.name, before)
        raise


def _set_locked(paths: Paths, stage: str, entry: Any) -> Any:
    """Write a stage's entry in ``dvc.lock``, as DVC does; what was there before."""
    with (
        Repo(str(paths.root), _wait_for_lock=True) as repo,
        repo.lock,
        modify_yaml(str(paths.lock), fs=repo.fs) as content,
    ):
        before = content["stages"].get(stage)
        if entry is None:
            content["stages"].pop(stage, None)
        else:
            content["stages"][stage] = entry
    return before


def _pulled(paths: Paths, stage: str) -> bool:
    """Whether the outputs that ``dvc.lock`` names are here now."""
    try:
        dvc(paths, "pull", stage)
    except Unavailable:
        return False
    return True
