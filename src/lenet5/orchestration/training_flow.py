"""The steps of the training flow: prepare the checkout, run the stages as Prefect tasks, ask the gate."""

from collections.abc import Sequence
from typing import Any

from prefect import Task, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from lenet5.core import storage
from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.orchestration import checkout_lock, events, graph, placement, remote, report, workspace
from lenet5.orchestration.placement import Mode
from lenet5.orchestration.remote_runs import RemoteRuns
from lenet5.registry import model_versions, promotion
from lenet5.registry.model_versions import Version
from lenet5.stages import params
from lenet5.stages.ingest import stage as ingest
from lenet5.stages.register import stage as register
from lenet5.system import dvc, process, settings
from lenet5.tracking import source_code, store, tags


def run(
    *, force: Sequence[str], mode: Mode, new_data: bool, experiment: str | None, branch: bool
) -> State[Any]:
    """Run the graph in the current checkout, register the result, ask the gate.

    Args:
        force: stages to run even if nothing changed.
        mode: where stages run that name a work pool.
        new_data: pin what the source holds now in this checkout's params.yaml.
        experiment: the MLflow experiment; the setting when None.
        branch: commit what the run changed to the branch runs/ID.

    Returns:
        A completed state with the promotion, or a failed state with the error.
    """
    paths = Paths.find()
    settings.apply(paths)
    # stages and registering record it
    settings.set_variables({"LENET5_FLOW_RUN_ID": str(runtime.flow_run.id)})
    if experiment:
        settings.set_variables({"MLFLOW_EXPERIMENT_NAME": experiment})
    try:
        nodes = graph.stages(paths.root)
        graph.require(force, nodes)
        with storage.failures_named(paths.root), checkout_lock.hold(paths):
            _prepare(paths, new_data=new_data)
            # these options ask for a run, even when a version of this code exists
            wants_a_run = bool(force or experiment or branch)
            if workspace.is_workspace(paths) and not wants_a_run and (same := _version_of_this_code(paths)):
                workspace.remove(paths)
                return Completed(message=f"up to date: version {same.number} was made of this code and data")
            _run_stages(paths, nodes, force, mode)
            if workspace.is_workspace(paths):
                _share(paths, branch)
            promoted = promote.submit(paths).result()
            assert isinstance(promoted, promotion.Promotion)
    except Lenet5Error as error:
        return _failed(error)
    create_markdown_artifact(
        report.markdown(paths, promoted),
        key=report.artifact_key(promoted),
        description=report.line(promoted),
    )
    workspace.remove(paths)
    return Completed(message=report.line(promoted), data=promoted)


def _is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[object]) -> bool:
    return remote.is_transient(state.result(raise_on_failure=False))


def _never(_task: Task[Any, Any], _run: TaskRun, _state: State[object]) -> bool:
    return False


def _failed(error: Lenet5Error) -> State[Any]:
    """Return a failed state that carries an expected error; raising it would log a stack trace."""
    return Failed(message=str(error), data=error)


@task(cache_policy=NO_CACHE, persist_result=False)
def stage(paths: Paths, node: graph.Stage, force: bool, mode: Mode, runs: RemoteRuns) -> State[Any] | None:
    """Bring one stage up to date through DVC, on this machine or on a worker of its pool."""
    log = get_run_logger().info
    try:
        with storage.failures_named(paths.root), events.of_stage(node.name, log) as on_line:
            if node.meta.work_pool:
                reason = placement.local_reason(paths, node, mode)
                if reason is None:
                    remote.send(paths, node, runs, mode=mode, force=force, on_line=on_line)
                    return None
                on_line(f"{node.name} runs here and not on work pool {node.meta.work_pool}: {reason}")
            dvc.run_stage(
                paths.root,
                node.name,
                timeout=node.meta.timeout_seconds,
                on_line=on_line,
                force=force,
                pull=workspace.is_workspace(paths),  # a workspace begins empty; a checkout has its outputs
            )
    except Lenet5Error as error:
        return _failed(error)
    return None


@task(
    task_run_name="promote",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=10,
    retry_condition_fn=_is_transient,
)
def promote(paths: Paths) -> promotion.Promotion | State[Any]:
    """Register what the store lacks (it may be another store than last time), then ask the gate."""
    all_params = params.load(paths.params)
    try:
        with storage.failures_named(paths.root), events.of_stage(events.PROMOTION, get_run_logger().info):
            version = register.run(paths, all_params.register_, all_params.flat()).version
            # this version, not the challenger: another clone may have registered one meanwhile
            promoted = promotion.promote(paths, all_params, str(version.number))
            if refused := promotion.refusal(promoted):
                raise refused
    except Lenet5Error as error:
        return _failed(error)
    return promoted


def _prepare(paths: Paths, *, new_data: bool) -> None:
    """Point DVC to the shared remote and, for new data, pin what the source holds now."""
    remote_url = settings.load(paths).lenet5_dvc_remote
    if remote_url and not workspace.is_workspace(paths):
        dvc.use_remote(paths, paths, remote_url)
    if new_data:
        before = params.load(paths.params).ingest
        pins = ingest.current_pins(paths, before)
        if pins != before.pins:
            get_run_logger().info(f"new data at {mask_urls(before.source)}: params.yaml of this run pins it")
            params.pin_checksums(paths.params, pins.base, pins.additions)


def _version_of_this_code(paths: Paths) -> Version | None:
    """Return the version that was made from this commit, patch and data, unless the gate refused it."""
    source = source_code.find(paths)
    if source is None:
        return None
    with store.reachable(paths):
        name = params.load(paths.params).register_.model_name
        versions = model_versions.versions(store.connect(paths), name)
    refused = ("reject", "other_data")
    decided = [each for each in versions if not each.tags.get(tags.DECISION, "reject").startswith(refused)]
    return next((version for version in decided if source_code.is_from(version.tags, source)), None)


def _run_stages(paths: Paths, nodes: Sequence[graph.Stage], force: Sequence[str], mode: Mode) -> None:
    """Submit every stage as a task that waits for those before it."""
    events.plan([node.name for node in nodes])
    runs = RemoteRuns()
    done: dict[str, PrefectFuture[Any]] = {}
    for node in nodes:
        named = stage.with_options(
            name=node.name,
            task_run_name=node.name,
            description=node.description,
            # at least 1, with a condition that refuses: without any, Prefect logs an empty stack trace
            retries=node.meta.retries or 1,
            retry_condition_fn=_is_transient if node.meta.retries else _never,
            retry_delay_seconds=10,
        )
        done[node.name] = named.submit(
            paths,
            node,
            node.name in force,
            mode,
            runs,
            return_state=False,
            wait_for=[done[name] for name in node.after],
        )
    try:
        for future in done.values():
            future.result()  # in graph order, so that the first failure is the one that is reported
    except BaseException as error:  # Ctrl-C, too: the stages have process groups of their own
        if not isinstance(error, Exception):
            events.interrupt()
        process.kill_running()
        runs.cancel()
        raise


def _share(paths: Paths, branch: bool) -> None:
    """Push what a workspace made: data to the remote and, when asked, dvc.lock to a branch."""
    dvc.exchange(paths.root, "push", "--run-cache")
    if branch:
        name = f"runs/{runtime.flow_run.id}"
        commit = workspace.publish(paths, name, f"Flow run {runtime.flow_run.name}")
        get_run_logger().info(f"dvc.lock is committed to {name} ({commit[:12]})")
