"""MLflow runs of trainings, in a real store."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from typing import Any

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.tracking import runs, store, tags

TRAINING = "a" * 64
PARAMS = {"learning_rate": 0.1, "epochs": 2}


def all_runs(client: MlflowClient, paths: Paths) -> list[Any]:
    return list(client.search_runs([store.experiment(client, paths)]))


def train(paths: Paths, training: str = TRAINING, params: dict[str, Any] = PARAMS) -> None:
    with runs.training_run(paths, training, params) as on_epoch:
        on_epoch(1, {"loss": 0.5})


def test_training_is_logged_with_parameters_and_epochs(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.learning_rate": "0.1", "train.epochs": "2"}
    assert run.data.metrics["train.loss"] == 0.5


def test_training_has_system_metrics_after_those_of_an_epoch(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    [run] = all_runs(client, paths)  # the training ended before the first sample was due
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    with pytest.raises(ValueError, match="diverged"), runs.training_run(paths, "other", PARAMS):
        raise ValueError("diverged")
    [without, _] = sorted(
        all_runs(client, paths), key=lambda run: run.data.tags["lenet5.training"] == TRAINING
    )
    assert not without.data.metrics


def test_same_training_continues_its_run(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    train(paths)
    assert len(all_runs(client, paths)) == 1


def test_another_training_gets_its_own_run(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    train(paths, training="b" * 64)
    assert len(all_runs(client, paths)) == 2


def test_complete_run_is_not_changed(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    client.set_tag(run.info.run_id, tags.WEIGHTS, "c" * 64)
    train(paths)
    [unchanged] = all_runs(client, paths)
    assert len(client.get_metric_history(unchanged.info.run_id, "train.loss")) == 1


def test_failed_training_leaves_a_failed_run_that_the_next_training_continues(
    client: MlflowClient, paths: Paths
) -> None:
    with pytest.raises(ValueError, match="diverged"), runs.training_run(paths, TRAINING, PARAMS):
        raise ValueError("diverged")
    [run] = all_runs(client, paths)
    assert run.info.status == "FAILED"
    train(paths)
    [run] = all_runs(client, paths)
    assert run.info.status == "FINISHED"


def test_interrupted_training_leaves_a_killed_run(client: MlflowClient, paths: Paths) -> None:
    with pytest.raises(KeyboardInterrupt), runs.training_run(paths, TRAINING, PARAMS):
        raise KeyboardInterrupt
    [run] = all_runs(client, paths)
    assert run.info.status == "KILLED"


def test_training_after_sigkill_continues_the_run(client: MlflowClient, paths: Paths) -> None:
    script = f"""
        from pathlib import Path
        from lenet5.core.paths import Paths
        from lenet5.tracking import runs
        with runs.training_run(Paths(Path({str(paths.root)!r})), {TRAINING!r}, {PARAMS!r}) as on_epoch:
            on_epoch(1, {{"loss": 0.5}})
            print("one epoch", flush=True)
            input()
    """
    training = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with training:
        assert training.stdout is not None
        assert training.stdout.readline() == b"one epoch\n"
        os.kill(training.pid, signal.SIGKILL)
    [run] = all_runs(client, paths)
    assert run.info.status == "RUNNING"
    train(paths)
    [run] = all_runs(client, paths)
    assert run.info.status == "FINISHED"


@pytest.mark.integration
def test_two_processes_can_create_the_store_at_once(bare_paths: Paths) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from lenet5.core.paths import Paths; from lenet5.tracking import store\n"
        "paths = Paths(Path(sys.argv[1])); print(store.experiment(store.connect(paths), paths))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(bare_paths.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert {out for out, _ in outputs} == {b"1\n"}


def test_environment_variable_names_the_experiment(
    client: MlflowClient, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    train(paths)
    assert client.get_experiment_by_name("mine") is not None
    assert client.get_experiment_by_name(store.DEFAULT_EXPERIMENT) is None


def test_experiment_has_the_name_of_the_registered_model(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    assert client.get_experiment_by_name(store.DEFAULT_EXPERIMENT) is not None
    paths.params.write_text("register:\n  model_name: shoes\n")
    train(paths)
    assert client.get_experiment_by_name("shoes") is not None


def test_more_parameters_and_metrics_than_one_request_takes_and_a_long_value(
    client: MlflowClient, paths: Paths
) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    classes = [f"a class with a long name, number {number}" for number in range(1000)]
    values = {f"section.name{number}": number for number in range(250)} | {"ingest.classes": classes}
    for _ in range(2):  # the second time, nothing has changed
        runs.log_params(client, client.get_run(run.info.run_id), values)
        logged = client.get_run(run.info.run_id).data
        assert len(logged.params) >= 251
        assert "ingest.classes" not in logged.tags
    assert len(logged.params["ingest.classes"]) <= 6000
    training = run.data.tags[tags.TRAINING]
    assert runs.find_unfinished(client, paths, training, values) is not None
    changed = {**values, "ingest.classes": [*classes[:-1], "another"]}
    assert runs.find_unfinished(client, paths, training, changed) is None
    metrics = {f"evaluate.recall.class {number}": 0.5 for number in range(2500)}
    runs.log_metrics(client, run.info.run_id, metrics)
    assert len(client.get_run(run.info.run_id).data.metrics) >= 2500


def test_parameter_that_changed_and_changed_back_has_its_current_value(
    client: MlflowClient, paths: Paths
) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    for epochs in (3, 2, 2):
        runs.log_params(client, client.get_run(run.info.run_id), {"train.epochs": epochs})
        assert runs.params(client, run.info.run_id)["train.epochs"] == str(epochs)


def test_only_orphan_runs_are_closed(client: MlflowClient, paths: Paths) -> None:
    experiment = store.experiment(client, paths)

    def start(minutes_ago: float, **tag: str) -> str:
        start_time = int((time.time() - 60 * minutes_ago) * 1000)
        return str(client.create_run(experiment, start_time=start_time, tags=tag).info.run_id)

    over, going = start(90, **{tags.FLOW_RUN: "over"}), start(600, **{tags.FLOW_RUN: "going"})
    just_over = start(1, **{tags.FLOW_RUN: "over"})
    silent, young = start(90), start(30)
    active = start(90)
    client.log_metric(active, "system/cpu_utilization_percentage", 50.0)
    hour = timedelta(hours=1)
    closed = runs.close_orphans(client, paths, is_over=lambda flow_run: flow_run == "over", silent=hour)
    status = {run: client.get_run(run).info.status for run in (over, just_over, going, silent, young, active)}
    assert {run for run, value in status.items() if value == "KILLED"} == {over, silent}
    assert closed == 2
    assert client.get_run(over).data.tags[tags.CLOSED]
    assert runs.close_orphans(client, paths, is_over=lambda flow_run: flow_run == "over", silent=hour) == 0
