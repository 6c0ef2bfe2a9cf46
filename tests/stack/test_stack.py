"""The graph on other machines, from a night to a power cut: see conftest.py for which machines.

The tests go in this order, since one stack serves all of them; a worker that is killed early is looked at
late, because a dead one is noticed by its silence.
"""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.system.state import LocalState
from tests.conftest import BIN, TRAIN, Arrays, decode, until
from tests.stack.conftest import Employ, Stack, Worker, upload

pytestmark = [pytest.mark.stack]

EPOCHS = 60
"""Of a training that is cut off: half a minute, with its checkpoints."""


@pytest.fixture(scope="module")
def gpu(employ: Employ) -> Worker:
    return employ("gpu")


@pytest.fixture(scope="module")
def second_gpu(employ: Employ) -> Worker:
    return employ("gpu")


@pytest.fixture(scope="module")
def night(stack: Stack, employ: Employ, gpu: Worker) -> dict[str, Any]:
    """The first nightly run, on two machines that have nothing but addresses."""
    employ("cpu")
    stack.lenet5("deploy", "--activate", "nightly")
    [run] = until(lambda: stack.flow_runs("lenet5/nightly"), 120, "the scheduled run")
    stack.lenet5("deploy", "--pause", "nightly")
    return stack.wait(run["id"])


def test_a_scheduled_run_ends_with_a_champion(stack: Stack, night: dict[str, Any]) -> None:
    assert night["state"]["message"] == "version 1: promoted to champion"
    [version] = stack.versions()
    assert version["aliases"] == ["champion"]
    assert version["commit"] == stack.git("rev-parse", "HEAD").strip()
    assert not version["dirty"]


def test_training_ran_on_the_gpu_pool_and_nothing_ran_twice(
    stack: Stack, night: dict[str, Any], gpu: Worker
) -> None:
    [sent] = stack.flow_runs("lenet5-stage/stage-on-gpu")
    assert sent["state_type"] == "COMPLETED"
    assert sent["work_pool_name"] == "gpu"
    assert "Running stage 'train'" in stack.log(sent["id"])
    log = stack.log(night["id"])
    for stage in ("ingest", "validate", "preprocess", "train", "evaluate", "register"):
        assert log.count(f"Running stage '{stage}'") == 1, stage
    assert f"train is sent to work pool gpu: flow run {sent['name']}" in log
    # TensorBoard's files lie where it trained
    assert (LocalState(gpu.project.paths.root).tensorboard).exists()
    assert not (stack.folder / "cpu-2/project/.lenet5/tensorboard").exists()
    [run] = stack.mlflow_runs()
    assert run["status"] == "FINISHED"
    assert run["tags"]["prefect.flow_run_id"] == night["id"]


def test_nothing_is_left_in_the_workspaces(stack: Stack, night: dict[str, Any], gpu: Worker) -> None:
    for machine in (gpu.project.root, stack.folder / "cpu-2/project"):
        assert list((machine / ".lenet5/workspaces").iterdir()) == []


def test_lock_and_data_of_a_scheduled_run_can_be_had_elsewhere(
    stack: Stack, night: dict[str, Any], s3: Any
) -> None:
    """``dvc.lock`` is kept with the version, and what it names is in the remote."""
    [version] = stack.versions()
    elsewhere = stack.machine("elsewhere")
    MlflowClient(stack.mlflow).download_artifacts(version["run_id"], "code/dvc.lock", str(elsewhere.root))
    elsewhere.run("dvc", "remote", "modify", "--local", "storage", "url", "s3://dvc/data")
    # all but the model card, which is written when the version is there
    elsewhere.run("dvc", "pull", "--with-deps", "evaluate", environment=stack.environment)
    assert elsewhere.run("dvc", "status", "--with-deps", "evaluate").startswith("Data and pipelines are up")
    kept = s3.list_objects_v2(Bucket="mlflow")
    assert any(
        item["Key"].endswith("lenet5.keras") or "model.keras" in item["Key"] for item in kept["Contents"]
    )


@dataclass(frozen=True)
class Cut:
    """A training whose machine lost its power."""

    flow_run: str
    sent: dict[str, Any]
    at: datetime


@pytest.fixture(scope="module")
def cut(stack: Stack, night: dict[str, Any], gpu: Worker, request: pytest.FixtureRequest) -> Cut:
    """Kill the machine in the middle of its training, with another one at hand."""
    long_training(stack, "long")
    flow_run = stack.start("lenet5/train", ref="long")
    sent = at_epoch_ten(stack, flow_run)
    gpu.kill()
    at = datetime.now(UTC)
    request.getfixturevalue("second_gpu")
    return Cut(flow_run, sent, at)


def long_training(stack: Stack, branch: str, **params: Any) -> str:
    return stack.push(branch, branch, **{"train.epochs": EPOCHS, "train.patience": EPOCHS}, **params)


def at_epoch_ten(stack: Stack, flow_run: str) -> dict[str, Any]:
    """Wait for a training in the midst of it: the flow run that a worker has of it."""

    def trains() -> dict[str, Any] | None:
        sent = stack.sent_for(flow_run)
        return sent[0] if sent and f"epoch 10/{EPOCHS}" in stack.log(sent[0]["id"]) else None

    return dict(until(trains, 400, "the tenth epoch"))


def test_a_night_without_changes_ends_early(stack: Stack, cut: Cut) -> None:
    again = stack.wait(stack.start("lenet5/nightly"))
    assert again["state"]["message"] == "up to date: version 1 was made of this code and data"
    assert "Running stage" not in stack.log(again["id"])


def test_deploying_again_changes_nothing_and_leaves_schedules_as_they_are(stack: Stack, cut: Cut) -> None:
    def again(*words: str) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(stack.lenet5("deploy", "--json", *words))}

    again("--activate", "watch")
    deployed = stack.deployed()
    found = again()
    assert stack.deployed() == deployed
    assert len(deployed[1]) == 2
    assert {name for name, each in found.items() if each["active"]} == {"lenet5-watch/watch"}
    assert set(found) == {
        "lenet5/nightly",
        "lenet5/train",
        "lenet5-stage/stage-on-gpu",
        "lenet5-search/trials-on-cpu",
        "lenet5-search/trials-on-gpu",
        "lenet5-watch/watch",
        "lenet5-cleanup/cleanup-on-cpu",
        "lenet5-cleanup/cleanup-on-gpu",
    }
    assert found["lenet5/nightly"]["schedule"] == "* * * * * Europe/Paris"
    limits = {
        queue["name"]: queue["concurrency_limit"] for queue in stack.api("work_pools/gpu/queues/filter")
    }
    assert limits == {"default": None, "stages": 2, "upkeep": 1}
    wrong = stack.developer.command("lenet5", "deploy", "--activate", "daily", environment=stack.environment)
    assert wrong.returncode == 2
    assert "There is no schedule daily." in wrong.stderr


def test_status_tells_of_every_service_and_of_no_secret(stack: Stack, night: dict[str, Any]) -> None:
    status = json.loads(stack.lenet5("status", "--json"))
    assert status["prefect"] == {"address": f"{stack.prefect}/api", "answers": True}
    assert status["tracking"]["answers"]
    assert status["work pools"]["cpu"] == "1 live workers"
    for service in ("object store", "data remote", "repository"):
        assert status[service]["answers"], service
    told = stack.lenet5("status", "--settings")
    for secret in ("of-the-tests", "not-a-secret"):
        assert secret not in told
    assert told.count("********") == 3
    [zone] = [line for line in told.splitlines() if "LENET5_TIMEZONE" in line]
    assert "Europe/Paris" in zone
    assert "environment" in zone


def test_a_laptop_sends_its_training_with_what_is_not_committed(stack: Stack, cut: Cut) -> None:
    """`lenet5 run`, as ever; only the training is elsewhere."""
    earlier = {version["version"] for version in stack.versions()}
    stack.developer.set_params(**{"train.seed": 7})
    words = ("lenet5", "-v", "run", "--placement", "strict")
    done = stack.developer.command(*words, environment=stack.environment)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "train is sent to work pool gpu" in told
    assert "train is done, and its outputs are here" in told
    assert not LocalState(stack.developer.paths.root).tensorboard.exists()
    assert stack.developer.run("dvc", "status").startswith("Data and pipelines are up to date")
    # the flow run of `cut` may register its version meanwhile, on a clean checkout
    assert [each["dirty"] for each in stack.versions() if each["version"] not in earlier].count(True) == 1
    stack.git("checkout", "--quiet", "params.yaml")


def test_a_commit_that_was_not_pushed_is_an_error_and_no_other_commit(stack: Stack, cut: Cut) -> None:
    stack.developer.set_params(**{"train.seed": 8})
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")
    stack.git(*identity, "commit", "--quiet", "--all", "--message", "Not pushed")
    refused = stack.developer.command("lenet5", "run", environment=stack.environment)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "The repository has no " in refused.stderr
    assert "git push" in refused.stderr
    stack.git("reset", "--quiet", "--hard", "origin/main")


@pytest.mark.long
def test_new_data_is_noticed_once_and_trained_on(stack: Stack, cut: Cut, digits: Arrays, s3: Any) -> None:
    watched = stack.wait(stack.start("lenet5-watch/watch"))
    assert watched["state"]["message"] == "up to date: s3://source/mnist holds what it held"

    before = {run["id"] for run in stack.flow_runs("lenet5/train")}
    upload(s3, other(digits))
    watched = stack.wait(stack.start("lenet5-watch/watch"))
    assert watched["state"]["message"] == "new data at s3://source/mnist: train_images, train_labels"

    def told() -> list[dict[str, Any]]:
        return [run for run in stack.flow_runs("lenet5/train") if run["id"] not in before]

    [run] = until(told, 60, "the training on new data")
    assert run["parameters"]["new_data"] is True
    again = stack.wait(stack.start("lenet5-watch/watch"))
    assert again["state"]["message"].startswith("up to date")
    stack.wait(run["id"])
    newest = stack.versions()[0]
    assert newest["dirty"], "the run's own params.yaml pins the new data"
    assert newest["data"] != stack.versions()[-1]["data"]

    # the event once more, with the same data: nothing to do
    once_more = stack.wait(stack.start("lenet5/train", new_data=True))
    assert once_more["state"]["message"].startswith(f"up to date: version {newest['version']}")
    upload(s3, digits)  # main pins it, and others ingest from there


def other(digits: Arrays) -> Arrays:
    """Other training images; the test set stays."""
    images, labels = (decode(item) for item in MNIST_FILES if item.key.startswith("train"))
    some = np.sort(np.random.default_rng(1).permutation(len(labels))[:TRAIN])
    return digits | {"train_images": images[some], "train_labels": labels[some]}


@pytest.mark.long
def test_two_runs_at_a_time_on_one_worker_do_not_disturb_each_other(stack: Stack, cut: Cut) -> None:
    seeds = {"one": 11, "two": 12}
    commits = {name: stack.push(name, name, **{"train.seed": seed}) for name, seed in seeds.items()}
    more: dict[str, Any] = {"branch": True, "force": ["evaluate"]}
    runs = {
        name: stack.start("lenet5/train", ref=name, experiment=f"tests-{name}", **more) for name in commits
    }
    ended = {name: stack.wait(number) for name, number in runs.items()}
    starts, ends = ([run[when] for run in ended.values()] for when in ("start_time", "end_time"))
    assert max(starts) < min(ends), "they ran at the same time"
    by_commit = {version["commit"]: version for version in stack.versions()}
    client = MlflowClient(stack.mlflow)
    for name, commit in commits.items():
        run = client.get_run(by_commit[commit]["run_id"])
        assert run.data.params["train.seed"] == str(seeds[name])
        assert client.get_experiment(run.info.experiment_id).name == f"tests-{name}"
        # and dvc.lock is in a branch of its own, on top of what was run
        stack.git("fetch", "--quiet", "origin", f"runs/{runs[name]}")
        assert stack.git("rev-parse", "FETCH_HEAD^").strip() == commit
        assert stack.git("show", "--name-only", "--format=%an", "FETCH_HEAD").split() == [
            "lenet5",
            "dvc.lock",
        ]


def test_a_dead_worker_is_noticed_and_another_one_ends_its_training(stack: Stack, cut: Cut) -> None:
    ended = stack.wait(cut.flow_run, seconds=300)
    assert ended["state"]["message"].startswith("version ")
    dead = stack.run(cut.sent["id"])
    assert dead["state_type"] == "CRASHED"
    assert "no heartbeat for 90 seconds" in dead["state"]["message"]
    noticed = datetime.fromisoformat(dead["state"]["timestamp"]) - cut.at
    assert noticed.total_seconds() < 150

    first, second = (
        run
        for run in stack.flow_runs("lenet5-stage/stage-on-gpu")
        if run["parameters"]["for_flow_run"] == cut.flow_run
    )
    assert first["id"] == cut.sent["id"]
    log = stack.log(second["id"])
    assert "resuming an interrupted training after epoch " in log
    assert f"epoch 5/{EPOCHS} " not in log, "what was trained is not trained again"
    assert f"epoch {EPOCHS}/{EPOCHS} " in log


def test_one_run_is_left_of_two_attempts_and_the_same_bytes(stack: Stack, cut: Cut) -> None:
    stack.wait(cut.flow_run, seconds=300)
    [run] = [run for run in stack.mlflow_runs() if run["tags"]["prefect.flow_run_id"] == cut.flow_run]
    assert run["status"] == "FINISHED"
    history = MlflowClient(stack.mlflow).get_metric_history(run["id"], "train.loss")
    assert sorted(metric.step for metric in history) == list(range(1, EPOCHS + 1))
    [version] = [version for version in stack.versions() if version["run_id"] == run["id"]]
    stack.git("fetch", "--quiet", "origin")
    told = stack.lenet5("reproduce", str(version["version"]))
    assert f"version {version['version']} is bit-identical" in told


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_says_so_and_another_one_goes_on(
    stack: Stack, cut: Cut, second_gpu: Worker, employ: Employ
) -> None:
    """SIGTERM, as a machine that is shut down or a container that is replaced gets it."""
    stack.wait(cut.flow_run, seconds=300)
    long_training(stack, "drained", **{"train.seed": 13})
    flow_run = stack.start("lenet5/train", ref="drained")
    sent = at_epoch_ten(stack, flow_run)
    second_gpu.process.send_signal(signal.SIGTERM)
    assert second_gpu.process.wait(timeout=60) == 0
    assert stack.run(sent["id"])["state_type"] == "CRASHED", "it said so itself, before it went"
    assert second_gpu.project.processes() == []
    employ("gpu")

    def goes_on() -> bool:
        again = stack.sent_for(flow_run)[1:]
        return bool(again) and "resuming an interrupted training after epoch " in stack.log(again[0]["id"])

    until(goes_on, 120, "the training on another worker")
    # and a flow run that is cancelled takes along what it sent
    stack.cancel(flow_run)
    for number in (flow_run, stack.sent_for(flow_run)[1]["id"]):
        stack.wait(number, state="CANCELLED", seconds=60)


@pytest.mark.long
def test_an_interrupted_laptop_recalls_what_it_sent(stack: Stack, cut: Cut) -> None:
    epochs = 5 * EPOCHS  # it must not come to its end meanwhile
    stack.developer.set_params(**{"train.seed": 9, "train.epochs": epochs, "train.patience": epochs})
    said = stack.folder / "laptop.log"
    with said.open("wb") as log:
        flow = subprocess.Popen(
            [str(BIN / "lenet5"), "run"],
            cwd=stack.developer.root,
            env=stack.developer.environment() | stack.environment,
            stdout=log,
            stderr=log,
        )
    try:
        known = {run["id"] for run in stack.flow_runs("lenet5-stage/stage-on-gpu")}

        def trains() -> dict[str, Any] | None:
            assert flow.poll() is None, said.read_text()
            new = [run for run in stack.flow_runs("lenet5-stage/stage-on-gpu") if run["id"] not in known]
            return new[0] if new and f"epoch 10/{epochs}" in stack.log(new[0]["id"]) else None

        sent = until(trains, 400, "the tenth epoch")
        flow.send_signal(signal.SIGINT)
        assert flow.wait(timeout=60) == 130
    finally:
        flow.kill()
    stack.wait(sent["id"], state="CANCELLED", seconds=60)
    assert len(stack.flow_runs("lenet5-stage/stage-on-gpu")) == len(known) + 1, "it was not sent again"
    stack.git("checkout", "--quiet", "params.yaml")


def test_clean_up_closes_orphans_and_removes_what_is_old(stack: Stack, cut: Cut, gpu: Worker) -> None:
    stack.wait(cut.flow_run, seconds=300)
    client = MlflowClient(stack.mlflow)
    experiment = client.get_experiment_by_name("lenet5-mnist").experiment_id
    tags = {"prefect.flow_run_id": "00000000-0000-0000-0000-000000000000"}
    long_ago = int((time.time() - 2 * 3600) * 1000)
    orphan = client.create_run(experiment, start_time=long_ago, tags=tags).info.run_id
    mine = client.create_run(experiment).info.run_id
    left = stack.folder / "cpu-2/project/.lenet5/workspaces/left"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    cleaned = stack.wait(stack.start("lenet5-cleanup/cleanup-on-cpu", keep_days=0))
    assert "1 workspaces" in cleaned["state"]["message"]
    assert "1 orphan runs" in cleaned["state"]["message"]
    assert not left.exists()
    assert client.get_run(orphan).info.status == "KILLED"
    assert client.get_run(orphan).data.tags["lenet5.closed"]
    assert client.get_run(mine).info.status == "RUNNING", "it began just now, and may be somebody's"
