"""Run one stage on a worker: code and inputs go there, its result comes back, nothing runs twice.

Code goes as a commit and a patch; data goes through the DVC remote. The worker returns the stage's entry for
``dvc.lock``, and this checkout then fetches exactly that.

    send                      decides whether anything is to be done, pushes the inputs, tries several workers
    _follow                   starts the flow run, passes on its log, waits for its end
    _result                   reads the result, which the worker attached to the flow run (remote_runs)
    apply_remote_result       writes the entry into dvc.lock and pulls the outputs
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling, Crashed

from lenet5.core import files
from lenet5.core.errors import DataError, Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration import placement, remote_runs, workspace
from lenet5.orchestration.graph import Stage
from lenet5.orchestration.placement import Mode
from lenet5.orchestration.remote_runs import RemoteRuns, StageResult, poll, stalled_reason, with_retry
from lenet5.system import dvc
from lenet5.system.dvc import StageFailed
from lenet5.system.process import OnLine
from lenet5.tracking import source_code, store

LARGEST_PATCH = 300_000
"""Characters. Prefect's server takes parameters of half a megabyte in all."""


class EveryWorkerDied(Unavailable):
    """A stage was sent as often as ``replacements`` allows. It is not retried: its input may kill workers."""


def is_transient(error: object) -> bool:
    """Return whether a second try can mend an error: a source or a server did not answer."""
    if isinstance(error, EveryWorkerDied):
        return False
    return isinstance(error, Lenet5Error) and error.exit_code == Unavailable.exit_code


def send(paths: Paths, stage: Stage, runs: RemoteRuns, *, mode: Mode, force: bool, on_line: OnLine) -> None:
    """Bring a stage up to date on a worker of its pool, and fetch its result into this checkout.

    Args:
        paths: this checkout; the stages before are up to date.
        stage: one with a work pool.
        runs: of the flow that sends the stage.
        mode: whether the stage may run here when no worker is left.
        force: run it even if nothing changed.
        on_line: called with each line that the worker logs.

    Raises:
        StageFailed: the stage ended with an error there.
        EveryWorkerDied: each worker that got the stage died.
        Unavailable: the remote or the Prefect server does not answer, or this flow was interrupted.
        UsageError: the uncommitted changes are too large for a patch.
        DataError: the result belongs to other inputs.
    """
    if not force and not dvc.changes(paths.root, stage.name) and dvc.can_pull(paths.root, stage.name):
        on_line(f"Stage '{stage.name}' didn't change, skipping")
        return
    parameters = code_parameters(paths, f"stage {stage.name}") | {
        "stage": stage.name,
        "force": force,
        "for_flow_run": str(runtime.flow_run.id) if runtime.flow_run.id else None,
    }
    dvc.exchange(paths.root, "push", *sorted(stage.after))
    for attempt in range(1 + stage.meta.replacements):
        if attempt:
            on_line(f"{stage.name} is sent to another worker")
        try:
            run = _follow(paths, stage, runs, parameters, mode, on_line)
        except httpx.HTTPError as error:
            raise Unavailable("The Prefect server does not answer any more.", found=error) from error
        if run is None:
            timeout = stage.meta.timeout_seconds
            dvc.run_stage(paths.root, stage.name, timeout=timeout, on_line=on_line, force=force, pull=True)
            return
        # CRASHED: its worker died (an automation that `deploy` makes marks it), or it stalled (see _follow)
        if run.state_type is not StateType.CRASHED:
            apply_remote_result(paths, stage, _result(stage, run))
            on_line(f"{stage.name} is done, and its outputs are here")
            return
        on_line(f"{run.name}: {run.state.message if run.state else 'crashed'}")
    raise EveryWorkerDied(
        f"Stage {stage.name} was sent to {1 + stage.meta.replacements} workers, and each one died.",
        fix="look at the flow runs of deployment " + placement.deployment(str(stage.meta.work_pool)),
    )


def code_parameters(paths: Paths, what: str) -> dict[str, Any]:
    """Return the code of this checkout: the fields of ``workspace.Code``, and the MLflow experiment.

    A worker makes a workspace from these parameters of the flow run.

    Args:
        paths: this checkout.
        what: is sent, for messages: ``stage train``.

    Raises:
        UsageError: this is no git checkout, or the uncommitted changes are too large for a patch.
        GitFailed: git cannot read the checkout.
    """
    source = source_code.find(paths)
    if source is None:
        raise UsageError(
            f"{what[0].upper()}{what[1:]} cannot be sent to a worker.",
            expected="a git checkout, whose commit the worker fetches",
            found=paths.root,
            fix="clone the project with git, or run it here",
        )
    patch = workspace.pack(source.patch)
    if patch and len(patch) > LARGEST_PATCH:
        raise UsageError(
            f"The uncommitted changes are too large to be sent to a worker: {what} was not started.",
            expected=f"a patch of at most {LARGEST_PATCH:,} characters, compressed",
            found=f"{len(patch):,}",
            fix="commit and push them, or run it here",
        )
    return {
        "ref": source.commit,
        "patch": patch,
        "lock": files.read_text(paths.lock) if paths.lock.exists() else None,
        "experiment": store.experiment_name(paths),
    }


def apply_remote_result(paths: Paths, stage: Stage, result: StageResult) -> None:
    """Write the worker's entry of the stage into ``dvc.lock``, and fetch exactly its outputs.

    Raises:
        Unavailable: the outputs are not in the DVC remote.
        DataError: the result belongs to other inputs than those in this checkout.
            After an error, ``dvc.lock`` is as it was before.
    """
    before = dvc.replace_locked_entry(paths, stage.name, result.lock_entry)
    try:
        # files of a training that was never recorded may lie there; `dvc repro` would replace them, too
        dvc.exchange(paths.root, "pull", "--force", stage.name)
        if changes := dvc.changes(paths.root, stage.name):
            raise DataError(
                f"Stage {stage.name} was run on a worker, and its result does not fit this checkout.",
                expected="a result of the same code, parameters and data",
                found=", ".join(f"{name} {how}" for name, how in sorted(changes.items())),
                fix="see that no file was edited meanwhile, and run again",
            )
    except Lenet5Error:
        dvc.replace_locked_entry(paths, stage.name, before)
        raise


def _follow(
    paths: Paths, stage: Stage, runs: RemoteRuns, parameters: Mapping[str, Any], mode: Mode, on_line: OnLine
) -> FlowRun | None:
    """Start the flow run and wait for its end; return None when the stage runs here: no worker is left."""
    pool = str(stage.meta.work_pool)
    timeout = timedelta(seconds=stage.meta.timeout_seconds)
    deployed = placement.deployment(pool)
    name = f"{stage.name} for {runtime.flow_run.name or parameters['ref'][:8]}"
    run = runs.start(deployed, parameters, stage.meta.resources, name=name)
    on_line(f"{stage.name} is sent to work pool {pool}: flow run {run.name} ({run.id})")
    seen_lines = 0
    with get_client(sync_client=True) as client:
        while not runs.cancelled_while_waiting():
            run, lines = with_retry(poll, client, run.id, seen_lines)
            seen_lines += len(lines)
            for line in lines:
                on_line(line)
            if run.state and run.state.is_final():
                runs.ended(run.id)
                return run
            if message := stalled_reason(run, timeout):
                client.set_flow_run_state(run.id, Crashed(message=message))
            elif run.start_time is None and (reason := placement.unavailable_reason(paths, deployed)):
                client.set_flow_run_state(run.id, Cancelling(message=reason))
                placement.local_reason(paths, stage, mode)  # raises an error when it must not run here
                on_line(f"{stage.name} runs here: {reason}")
                runs.ended(run.id)
                return None
    raise Unavailable(f"Stage {stage.name} was cancelled: its flow was interrupted.")


def _result(stage: Stage, run: FlowRun) -> StageResult:
    with get_client(sync_client=True) as client:
        result = remote_runs.read_result(client, run.id)
    if result is None:
        message = run.state.message if run.state and run.state.message else f"it ended as {run.state_type}"
        raise StageFailed(stage.name, message, 1)
    if result.exit_code:
        raise StageFailed(stage.name, result.message, result.exit_code)
    return result
