"""What is exchanged with a real Prefect server: results of stages, logs of runs, what the source held."""

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.states import Running
from prefect.variables import Variable

from lenet5.core.paths import Paths
from lenet5.orchestration import cleanup, placement, remote_runs, source_watch
from lenet5.orchestration.remote_runs import StageResult, poll
from tests.conftest import Arrays, make_project

pytestmark = [pytest.mark.xdist_group("prefect")]


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness  # this import takes seconds

    with prefect_test_harness(server_startup_timeout=120):
        yield


@flow(name="of-a-test")
def one_flow() -> None:
    pass


def new_run() -> str:
    with get_client(sync_client=True) as client:
        return str(client.create_flow_run(one_flow, state=Running()).id)


def test_a_result_comes_back_as_it_was_published() -> None:
    entry = "cmd: lenet5 train\nouts:\n- b\n- a\n"
    sent = StageResult(exit_code=4, message="no: it's\nbroken", lock_entry=entry)
    run = new_run()
    with get_client(sync_client=True) as client:
        run_id = client.read_flow_run(run).id  # type: ignore[arg-type]
        assert remote_runs.read_result(client, run_id) is None
        remote_runs.publish_result(client, run, sent)
        assert remote_runs.read_result(client, run_id) == sent
        assert remote_runs.read_result(client, uuid4()) is None


def test_lines_are_polled_once() -> None:
    run = new_run()
    with get_client(sync_client=True) as client:
        run_id = client.read_flow_run(run).id  # type: ignore[arg-type]
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
        assert len(found) == 1
        seen, lines = poll(client, run_id, 0)
        assert seen.state is not None
        assert seen.state.is_running()
        assert lines == []


def test_a_run_that_the_server_does_not_know_is_over() -> None:
    assert not cleanup._is_over(new_run())
    assert cleanup._is_over(str(uuid4()))
    assert cleanup._is_over("no id at all")


def test_a_pool_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # the client uses that of the harness
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("LENET5_DVC_REMOTE", str(tmp_path))
    reason = placement.unavailable_reason(Paths(tmp_path), placement.deployment("gpu"))
    assert reason == "there is no work pool gpu (`lenet5 deploy` makes it)"


def test_new_data_is_reported_once(tmp_path: Path, digits: Arrays, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    project = make_project(tmp_path, digits)
    assert source_watch.check(project.paths).startswith("up to date: ")
    changed = {name: array.copy() for name, array in digits.items()}
    changed["test_labels"][0] ^= 1
    project.put_source(changed, pin=False)
    assert source_watch.check(project.paths) == "new data at data/mnist: test_labels"
    assert source_watch.check(project.paths).startswith("up to date: ")
    seen = Variable.get(source_watch.SEEN)
    assert isinstance(seen, dict)
    assert set(seen) == {"train_images", "train_labels", "test_images", "test_labels"}
    with get_client(sync_client=True) as client, pytest.raises(ObjectNotFound):
        client.read_deployment_by_name("lenet5/train")
