"""The flow: every stage of ``dvc.yaml`` as a task, in graph order, then the promotion gate."""

import os

import httpx
from filelock import AcquireReturnProxy, FileLock, Timeout
from prefect import Task, flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from lenet5 import params, promotion, settings
from lenet5.errors import Refused, Unavailable
from lenet5.paths import Paths
from lenet5.register import stage as register
from lenet5.tracking import store
from pipelines import graph, report
from pipelines.execute import run_stage


def _is_transient(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Only what a second try can mend is tried again: a source or a server that did not answer."""
    return getattr(state.result(raise_on_failure=False), "exit_code", None) == Unavailable.exit_code


@task(cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_transient)
def stage(paths: Paths, name: str, timeout: float, force: bool) -> None:
    """Bring one stage up to date through DVC, the only cache."""
    run_stage(
        paths.root,
        name,
        timeout=timeout,
        on_line=get_run_logger().info,
        force=force,
        environment={"LENET5_FLOW_RUN_ID": str(runtime.flow_run.id)},
    )


@task(task_run_name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote(paths: Paths) -> promotion.Promotion:
    """Put back what the store lacks (it may be another one than last time), then ask the gate."""
    section = params.load(paths.params).section("register")
    register.run(paths, section)
    return promotion.promote(paths, section)


@flow(name="lenet5", task_runner=ThreadPoolTaskRunner(max_workers=32))  # type: ignore[arg-type]
def training(force: bool = False) -> promotion.Promotion:
    """Run the graph, register what came out, ask the gate.

    Args:
        force: run every stage even if nothing changed.
    """
    paths = Paths.find()
    settings.apply(paths)
    with _only_one(paths):
        done: dict[str, PrefectFuture[None]] = {}
        for node in graph.stages(paths.root):
            named = stage.with_options(
                name=node.name,
                task_run_name=node.name,
                description=node.about,
                retries=node.placement.retries,
                retry_delay_seconds=10,
            )
            done[node.name] = named.submit(
                paths,
                node.name,
                node.placement.timeout_seconds,
                force,
                return_state=False,
                wait_for=[done[before] for before in node.after],
            )
        for future in done.values():
            future.result()  # in graph order, so the first failure is the one that is told
        promoted = promote(paths)
    create_markdown_artifact(report.markdown(promoted, store.run_link(promoted.version.run_id)), key="lenet5")
    return promoted


def _only_one(paths: Paths) -> AcquireReturnProxy[FileLock]:
    """DVC's own locks fail a second run half-way; this says so at once."""
    paths.state.mkdir(exist_ok=True)
    lock = FileLock(paths.state / "flow.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise Refused(
            "Another flow run is at work in this checkout.",
            expected="one at a time",
            found=f"{lock.lock_file} is held",
            do="wait for it, or run in another clone",
        ) from None


def run(force: bool = False) -> promotion.Promotion:
    """Run the flow in this process.

    Raises:
        Lenet5Error: what a stage or the gate said.
        Unavailable: the Prefect server does not answer.
    """
    try:
        promoted: promotion.Promotion = training(force=force)
    except (httpx.TransportError, RuntimeError) as error:
        api = os.environ.get("PREFECT_API_URL", "the embedded server")
        if not isinstance(error, httpx.TransportError) and "reach" not in str(error).lower():
            raise
        raise Unavailable(
            "Prefect does not answer.", expected=api, found=error, do="start it, or unset PREFECT_API_URL"
        ) from error
    return promoted
