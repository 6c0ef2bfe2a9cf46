"""A stage that is sent away, up to the wire: what is not sent or not taken. The rest is in tests/stack."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Pending, Running, Scheduled

from lenet5.core.errors import DataError, Lenet5Error, Unavailable, UsageError
from lenet5.orchestration import graph, placement, remote
from lenet5.orchestration.placement import Mode
from lenet5.orchestration.remote_runs import RemoteRuns, StageResult, stalled_reason
from lenet5.system import dvc
from lenet5.system.dvc import StageFailed
from tests.conftest import Project


@pytest.fixture
def project(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    copied = finished.copy(tmp_path)
    for name, value in copied.environment().items():
        monkeypatch.setenv(name, value)
    return copied


def train(project: Project) -> graph.Stage:
    return next(stage for stage in graph.stages(project.root) if stage.name == "train")


def send(project: Project, lines: list[str]) -> None:
    remote.send(
        project.paths, train(project), RemoteRuns(), mode=Mode.AUTO, force=False, on_line=lines.append
    )


def test_the_graph_asks_for_a_gpu_to_train_on(project: Project) -> None:
    asked = {stage.name: stage.meta.work_pool for stage in graph.stages(project.root)}
    assert {name for name, pool in asked.items() if pool} == {"train"}
    assert asked["train"] == "gpu"
    assert train(project).meta.resources == {"gpus": 1}


def test_without_a_server_it_runs_here(project: Project) -> None:
    reason = "there is no Prefect server (PREFECT_API_URL is not set)"
    assert placement.local_reason(project.paths, train(project), Mode.AUTO) == reason
    assert placement.local_reason(project.paths, train(project), Mode.LOCAL) == "--placement here"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", "runs are kept on this machine"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "data is kept on this machine"),
    ],
)
def test_what_machines_have_to_share_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv(variable, value)
    assert told in str(placement.local_reason(project.paths, train(project), Mode.AUTO))


def test_a_run_that_comes_to_no_end_is_given_up() -> None:
    def run(state: State[None], minutes: float) -> FlowRun:
        state.timestamp = datetime.now(UTC) - timedelta(minutes=minutes)
        return FlowRun(flow_id=uuid4(), state=state)

    hour = timedelta(hours=1)
    assert stalled_reason(run(Pending(), 4), hour) is None
    assert "did not begin" in str(stalled_reason(run(Pending(), 6), hour))
    assert stalled_reason(run(Running(), 65), hour) is None
    assert "has not ended" in str(stalled_reason(run(Running(), 75), hour))
    assert stalled_reason(run(Scheduled(), 600), hour) is None, "it waits for its turn"
    assert stalled_reason(run(Completed(), 600), hour) is None


@pytest.mark.long
def test_where_it_has_to_run_elsewhere_the_lack_of_a_worker_is_an_error(project: Project) -> None:
    with pytest.raises(Unavailable, match="Stage train has nowhere to run") as refused:
        placement.local_reason(project.paths, train(project), Mode.REQUIRE_REMOTE)
    assert "lenet5 worker --pool gpu" in str(refused.value)
    done = project.command("lenet5", "run", "--placement", "strict")
    assert done.returncode == 6, done.stdout + done.stderr
    assert "Stage train has nowhere to run." in done.stderr
    assert "Traceback" not in done.stderr


def test_what_did_not_change_is_not_sent(project: Project) -> None:
    lines: list[str] = []
    send(project, lines)
    assert lines == ["Stage 'train' didn't change, skipping"]
    project.paths.model.unlink()
    send(project, lines)
    assert project.paths.model.exists(), "it was only missing, and is in the cache"


def test_what_is_not_committed_has_a_limit(project: Project) -> None:
    project.set_params(**{"train.seed": 7})
    (project.root / "large.bin").write_bytes(os.urandom(400_000))
    with pytest.raises(UsageError, match="too large to be sent to a worker: stage train was not started"):
        send(project, [])


def test_a_result_of_other_inputs_is_not_taken(project: Project) -> None:
    """As if the parameters were edited while the worker was at it."""
    outcome = StageResult(lock_entry=dvc.locked_entry(project.paths, "train"))
    remote.apply_remote_result(project.paths, train(project), outcome)
    project.set_params(**{"train.seed": 7})
    before = project.paths.lock.read_bytes()
    with pytest.raises(DataError, match="does not fit this checkout") as refused:
        remote.apply_remote_result(project.paths, train(project), outcome)
    assert "train.seed" in str(refused.value) or "params.yaml" in str(refused.value)
    assert project.paths.lock.read_bytes() == before


def test_a_result_that_is_not_in_the_remote_is_not_taken(project: Project) -> None:
    before = project.paths.lock.read_bytes()
    locked = dvc.locked_entry(project.paths, "train")
    elsewhere = re.sub(r"(?<=path: models/lenet5.keras\n  hash: md5\n  md5: )\w+", "a" * 32, locked)
    assert elsewhere != locked
    with pytest.raises(Unavailable, match="`dvc pull --force train` failed"):
        remote.apply_remote_result(project.paths, train(project), StageResult(lock_entry=elsewhere))
    assert project.paths.lock.read_bytes() == before


def test_a_worker_without_addresses_says_which_it_lacks(project: Project) -> None:
    done = project.command("lenet5", "worker")
    assert done.returncode == 2
    for name in ("PREFECT_API_URL", "LENET5_GIT_URL", "LENET5_DVC_REMOTE", "MLFLOW_TRACKING_URI"):
        assert name in done.stderr


@pytest.mark.integration
def test_deploying_to_no_server_is_a_clear_error(project: Project) -> None:
    done = project.command("lenet5", "deploy")
    assert done.returncode == 2
    assert "There is no server to deploy to." in done.stderr
    done = project.command("lenet5", "deploy", environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert done.returncode == 6
    assert "Prefect at http://127.0.0.1:9/api" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (Unavailable("The source does not answer."), True),
        (StageFailed("ingest", "The source does not answer.", Unavailable.exit_code), True),
        (remote.EveryWorkerDied("Stage train was sent to 3 workers, and each one died."), False),
        (StageFailed("train", "It was killed.", 1), False),
    ],
)
def test_only_what_a_second_try_can_mend_is_retried(error: Lenet5Error, retried: bool) -> None:
    """`retries` would multiply the workers that `replacements` allows."""
    assert remote.is_transient(error) is retried


def test_a_second_flow_in_one_process_is_not_cancelled_at_birth() -> None:
    first = RemoteRuns()
    first.cancel()
    assert first.cancelled_while_waiting()
    assert not RemoteRuns().cancelled_while_waiting()
