"""One run per trained model, in a real store."""

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
from lenet5.system import settings
from lenet5.tracking import runs, store, tags

TRAINING = "a" * 64
PARAMS = {"learning_rate": 0.1, "epochs": 2}


def all_runs(client: MlflowClient, paths: Paths) -> list[Any]:
    return list(client.search_runs([store.experiment(client, paths)]))


def train(paths: Paths, training: str = TRAINING, params: dict[str, Any] = PARAMS) -> None:
    with runs.training_run(paths, training, params) as on_epoch:
        on_epoch(1, {"loss": 0.5})


def test_a_training_is_recorded_with_its_parameters_and_epochs(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.learning_rate": "0.1", "train.epochs": "2"}
    assert run.data.metrics["train.loss"] == 0.5


def test_the_same_training_again_goes_on_with_its_run(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    train(paths)
    assert len(all_runs(client, paths)) == 1


def test_another_training_gets_its_own_run(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    train(paths, training="b" * 64)
    assert len(all_runs(client, paths)) == 2


def test_a_complete_run_is_left_alone(client: MlflowClient, paths: Paths) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    client.set_tag(run.info.run_id, tags.WEIGHTS, "c" * 64)
    train(paths)
    [still] = all_runs(client, paths)
    assert len(client.get_metric_history(still.info.run_id, "train.loss")) == 1


def test_a_failed_training_leaves_a_failed_run_that_the_next_one_takes_over(
    client: MlflowClient, paths: Paths
) -> None:
    with pytest.raises(ValueError, match="diverged"), runs.training_run(paths, TRAINING, PARAMS):
        raise ValueError("diverged")
    [run] = all_runs(client, paths)
    assert run.info.status == "FAILED"
    train(paths)
    [run] = all_runs(client, paths)
    assert run.info.status == "FINISHED"


def test_an_interrupted_training_is_a_killed_run(client: MlflowClient, paths: Paths) -> None:
    with pytest.raises(KeyboardInterrupt), runs.training_run(paths, TRAINING, PARAMS):
        raise KeyboardInterrupt
    [run] = all_runs(client, paths)
    assert run.info.status == "KILLED"


def test_after_kill_9_the_next_training_takes_the_run_over(client: MlflowClient, paths: Paths) -> None:
    script = f"""
        from pathlib import Path
        from lenet5.core.paths import Paths
        from lenet5.tracking import runs
        with runs.training_run(Paths(Path({str(paths.root)!r})), {TRAINING!r}, {PARAMS!r}) as on_epoch:
            on_epoch(1, {{"loss": 0.5}})
            print("one epoch", flush=True)
            input()
    """
    victim = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"one epoch\n"
        os.kill(victim.pid, signal.SIGKILL)
    [run] = all_runs(client, paths)
    assert run.info.status == "RUNNING"
    train(paths)
    [run] = all_runs(client, paths)
    assert run.info.status == "FINISHED"


def test_four_processes_may_find_a_store_that_is_not_there_yet(bare_paths: Paths) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from lenet5.core.paths import Paths; from lenet5.tracking import store\n"
        "paths = Paths(Path(sys.argv[1])); print(store.experiment(store.connect(paths), paths))"
    )
    together = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(bare_paths.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    answers = [process.communicate() for process in together]
    assert [process.returncode for process in together] == [0] * 4, answers
    assert {out for out, _ in answers} == {b"1\n"}


def test_the_experiment_can_be_named_from_outside(
    client: MlflowClient, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    train(paths)
    assert client.get_experiment_by_name("mine") is not None
    assert client.get_experiment_by_name(settings.EXPERIMENT) is None


def test_a_parameter_that_was_changed_and_changed_back_is_as_it_is_now(
    client: MlflowClient, paths: Paths
) -> None:
    train(paths)
    [run] = all_runs(client, paths)
    for epochs in (3, 2, 2):
        runs.log_params(client, client.get_run(run.info.run_id), {"train.epochs": epochs})
        assert runs.params(client, run.info.run_id)["train.epochs"] == str(epochs)


def test_orphans_are_closed_and_what_is_alive_is_not(client: MlflowClient, paths: Paths) -> None:
    experiment = store.experiment(client, paths)

    def begun(minutes_ago: float, **tag: str) -> str:
        start = int((time.time() - 60 * minutes_ago) * 1000)
        return str(client.create_run(experiment, start_time=start, tags=tag).info.run_id)

    over, going = begun(90, **{tags.FLOW_RUN: "over"}), begun(600, **{tags.FLOW_RUN: "going"})
    just_over = begun(1, **{tags.FLOW_RUN: "over"})
    silent, young = begun(90), begun(30)
    fed = begun(90)
    client.log_metric(fed, "system/cpu_utilization_percentage", 50.0)
    hour = timedelta(hours=1)
    closed = runs.close_orphans(client, paths, is_over=lambda flow_run: flow_run == "over", silent=hour)
    status = {run: client.get_run(run).info.status for run in (over, just_over, going, silent, young, fed)}
    assert {run for run, said in status.items() if said == "KILLED"} == {over, silent}
    assert closed == 2
    assert client.get_run(over).data.tags[tags.CLOSED]
    assert runs.close_orphans(client, paths, is_over=lambda flow_run: flow_run == "over", silent=hour) == 0
