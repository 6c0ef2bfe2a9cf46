"""The flow: every stage of ``dvc.yaml`` as a task, in graph order, then the promotion gate."""

import logging
import os
import signal
from typing import Any

import httpx
from filelock import AcquireReturnProxy, FileLock, Timeout
from prefect import Task, flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.server.api.server import SubprocessASGIServer
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from lenet5 import params, promotion, settings
from lenet5.errors import Lenet5Error, Refused, Unavailable
from lenet5.paths import Paths
from lenet5.register import stage as register
from lenet5.tracking import store
from pipelines import graph, report
from pipelines.execute import StageFailed, kill_running, run_stage


def _is_transient(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Only what a second try can mend is tried again: a source or a server that did not answer."""
    return getattr(state.result(raise_on_failure=False), "exit_code", None) == Unavailable.exit_code


def _never(_task: Task[..., object], _run: TaskRun, _state: State[object]) -> bool:
    return False


def _failed(error: Lenet5Error) -> State[Any]:
    """An expected no: a failed state that carries the error. Raised, it would fill the log with a trace."""
    return Failed(message=str(error), data=error)


@task(cache_policy=NO_CACHE, persist_result=False)
def stage(paths: Paths, node: graph.Stage, force: bool) -> State[Any] | None:
    """Bring one stage up to date through DVC, the only cache."""
    try:
        run_stage(
            paths.root,
            node.name,
            timeout=node.placement.timeout_seconds,
            on_line=get_run_logger().info,
            force=force,
        )
    except StageFailed as error:
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
        version = register.run(paths, everything.section("register"))
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
def training(force: bool = False) -> promotion.Promotion | State[Any]:
    """Run the graph, register what came out, ask the gate.

    Args:
        force: run every stage even if nothing changed.
    """
    paths = Paths.find()
    settings.apply(paths)
    os.environ["LENET5_FLOW_RUN_ID"] = str(runtime.flow_run.id)  # for what is registered, here or in a stage
    try:
        with _only_one(paths):
            _run_stages(paths, force)
            promoted = promote.submit(paths).result()
    except Lenet5Error as error:
        return _failed(error)
    assert isinstance(promoted, promotion.Promotion)
    create_markdown_artifact(report.markdown(promoted, store.run_link(promoted.version.run_id)), key="lenet5")
    return promoted


def _run_stages(paths: Paths, force: bool) -> None:
    done: dict[str, PrefectFuture[Any]] = {}
    for node in graph.stages(paths.root):
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
        done[node.name] = named.submit(paths, node, force, return_state=False, wait_for=before)
    try:
        for future in done.values():
            future.result()  # in graph order, so the first failure is the one that is told
    except BaseException:  # Ctrl-C, too: the stages' own process groups do not hear of it
        kill_running()
        raise


def _only_one(paths: Paths) -> AcquireReturnProxy[FileLock]:
    """DVC's own locks fail a second run half-way; this says so at once."""
    lock = FileLock(paths.state / "flow.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise Unavailable(
            "Another flow run is at work in this checkout.",
            expected="one at a time",
            found=f"{lock.lock_file} is held",
            do="wait for it, or run in another clone",
        ) from None


def run(force: bool = False) -> promotion.Promotion:
    """Run the flow in this process.

    Raises:
        Lenet5Error: what a stage or the gate said.
        Unavailable: the Prefect server does not answer, or another run is at work in this checkout.
    """
    paths = Paths.find()
    graph.stages(paths.root)  # what is wrong with it, or with the lock, is better said before a server starts
    with _only_one(paths):
        pass
    # ended by SIGTERM, this process still ends its stages and its server
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not os.environ.get("PREFECT_API_URL"):
            _start_server()
        promoted = training(force=force)
    except (httpx.TransportError, RuntimeError) as error:
        api = os.environ.get("PREFECT_API_URL", "the embedded server")
        if not isinstance(error, httpx.TransportError) and "reach" not in str(error).lower():
            raise
        raise Unavailable(
            "Prefect does not answer.", expected=api, found=error, do="start it, or unset PREFECT_API_URL"
        ) from error
    finally:
        # the last word is ours, not "Stopping temporary server"
        logging.getLogger("prefect").setLevel(logging.WARNING)
    assert isinstance(promoted, promotion.Promotion)
    return promoted


def _start_server() -> None:
    """Start Prefect's embedded server deaf to Ctrl-C: it has to outlive the flow to hear how that ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits the mask
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
