"""The flow: every stage of ``dvc.yaml`` as a task, in graph order, then the promotion gate.

It runs in a checkout of this machine, or, as a deployment, in a workspace that a worker made for it.
"""

import os
from collections.abc import Sequence
from typing import Any

from prefect import Task, flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from lenet5.core.errors import Lenet5Error, Refused, Unavailable
from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, graph, placement, remote, report, workspace
from lenet5.orchestration.placement import Mode
from lenet5.registry import model_versions, promotion
from lenet5.registry.model_versions import Version
from lenet5.stages import params
from lenet5.stages.ingest import stage as ingest
from lenet5.stages.register import stage as register
from lenet5.system import settings
from lenet5.system.process import kill_running, run_stage
from lenet5.tracking import source_code, store, tags


def _is_transient(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Only what a second try can mend is tried again: a source or a server that did not answer."""
    return getattr(state.result(raise_on_failure=False), "exit_code", None) == Unavailable.exit_code


def _never(_task: Task[..., object], _run: TaskRun, _state: State[object]) -> bool:
    return False


def _failed(error: Lenet5Error) -> State[Any]:
    """An expected no: a failed state that carries the error. Raised, it would fill the log with a trace."""
    return Failed(message=str(error), data=error)


@task(cache_policy=NO_CACHE, persist_result=False)
def stage(paths: Paths, node: graph.Stage, force: bool, mode: Mode) -> State[Any] | None:
    """Bring one stage up to date through DVC, the only cache; here, or on a worker of its pool."""
    say = get_run_logger().info
    try:
        if node.placement.work_pool:
            obstacle = placement.obstacle(paths, node, mode)
            if obstacle is None:
                remote.send(paths, node, mode=mode, force=force, on_line=say)
                return None
            say(f"{node.name} runs here and not on work pool {node.placement.work_pool}: {obstacle}")
        run_stage(
            paths.root,
            node.name,
            timeout=node.placement.timeout_seconds,
            on_line=say,
            force=force,
            pull=workspace.is_workspace(paths),  # which is empty; a checkout has what it made
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
    """Put back what the store lacks (it may be another one than last time), then ask the gate."""
    everything = params.load(paths.params)
    try:
        version = register.run(paths, everything.register_, everything.flat()).version
        # this one, not the challenger: another clone may have registered one meanwhile
        asked = promotion.promote(paths, everything, str(version.number))
    except Lenet5Error as error:
        return _failed(error)
    if asked.verdict and asked.verdict.decision == "reject":
        stays = (
            f"Version {asked.holder.number} stays champion."
            if asked.holder
            else "There is still no champion."
        )
        return _failed(Refused(f"Version {asked.version.number} is not promoted. {stays}\n{asked.verdict}"))
    return asked


@flow(name="lenet5", task_runner=ThreadPoolTaskRunner(max_workers=32))  # type: ignore[arg-type]
def training(
    force: list[str] | None = None,
    placement: Mode = Mode.AUTO,
    new_data: bool = False,
    experiment: str | None = None,
    branch: bool = False,
    ref: str | None = None,
) -> State[Any]:
    """Run the graph, register what came out, ask the gate.

    Args:
        force: stages to run even if nothing changed.
        placement: what to do with a stage that names a work pool. auto: it goes there when a worker is
            alive, and runs here otherwise; here: it runs here; strict: the lack of a worker is an error.
        new_data: take what the source holds now, whatever params.yaml pins. The run's params.yaml pins it
            then, so that its record is true.
        experiment: where MLflow keeps the run; the setting when left out.
        branch: commit what the run changed (dvc.lock; params.yaml for new data) to the branch runs/ID.
        ref: the branch, tag or commit to run; for deployments, whose workspace is at it already.
    """
    paths = Paths.find()
    in_a_workspace = workspace.is_workspace(paths)
    settings.apply(paths)
    os.environ["LENET5_FLOW_RUN_ID"] = str(runtime.flow_run.id)  # for what is registered, here or in a stage
    if experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
    try:
        nodes = graph.stages(paths.root)
        graph.require(force or [], nodes)
        with checkout_lock.only_one(paths):
            remote = settings.load(paths).lenet5_dvc_remote
            if remote and not in_a_workspace:
                workspace.use_remote(paths, paths, remote)
            if new_data:
                _pin(paths)
            more = force or experiment or branch  # whoever asks for these wants to see them
            if in_a_workspace and not more and (made := _made_of_the_same(paths)):
                workspace.leave(paths)
                return Completed(message=f"up to date: version {made.number} was made of this code and data")
            _run_stages(paths, nodes, force or [], placement)
            if in_a_workspace:
                _share(paths, branch)
            promoted = promote.submit(paths).result()
            assert isinstance(promoted, promotion.Promotion)
    except Lenet5Error as error:
        return _failed(error)
    run_link = store.run_link(paths, promoted.version.run_id)
    create_markdown_artifact(report.markdown(promoted, run_link), key="lenet5")
    workspace.leave(paths)
    return Completed(message=report.line(promoted), data=promoted)


def _pin(paths: Paths) -> None:
    """Let the run's own params.yaml name what the source holds now."""
    before = params.load(paths.params).ingest
    found = ingest.source_checksums(paths, before)
    if found != before.sha256:
        get_run_logger().info(f"new data at {before.source}: params.yaml of this run pins it")
        params.pin(paths.params, found)


def _made_of_the_same(paths: Paths) -> Version | None:
    """The version that came from this very commit, patch and data; none that the gate still has to refuse."""
    code = source_code.find(paths.root)
    with store.reachable(paths):
        name = params.load(paths.params).register_.model_name
        versions = model_versions.versions(store.connect(paths), name)
    decided = [each for each in versions if not each.tags.get(tags.DECISION, "reject").startswith("reject")]
    return next((version for version in decided if code and source_code.made(version.tags, code)), None)


def _run_stages(paths: Paths, nodes: Sequence[graph.Stage], force: Sequence[str], mode: Mode) -> None:
    done: dict[str, PrefectFuture[Any]] = {}
    for node in nodes:
        named = stage.with_options(
            name=node.name,
            task_run_name=node.name,
            description=node.about,
            # at least 1, for a condition that says no: without any, Prefect logs an empty stack trace
            retries=node.placement.retries or 1,
            retry_condition_fn=_is_transient if node.placement.retries else _never,
            retry_delay_seconds=10,
        )
        before = [done[name] for name in node.after]
        forced = node.name in force
        done[node.name] = named.submit(paths, node, forced, mode, return_state=False, wait_for=before)
    try:
        for future in done.values():
            future.result()  # in graph order, so the first failure is the one that is told
    except BaseException:  # Ctrl-C, too: the stages' own process groups do not hear of it
        kill_running()
        remote.recall_sent()
        raise


def _share(paths: Paths, branch: bool) -> None:
    """What a workspace made outlives it: data in the remote, dvc.lock with the version and in a branch."""
    remote.dvc(paths, "push", "--run-cache")
    if branch:
        name = f"runs/{runtime.flow_run.id}"
        commit = workspace.publish(paths, name, f"Flow run {runtime.flow_run.name}")
        get_run_logger().info(f"dvc.lock is committed to {name} ({commit[:12]})")
