"""A sweep whose trial workers are on two machines, of which one dies in the middle."""

import json
import subprocess
from typing import Any

import pytest

from lenet5.tracking import tags
from tests.conftest import BIN, until
from tests.stack.conftest import Employ, Stack

pytestmark = [pytest.mark.stack, pytest.mark.long]

SPACE = """
trials: 6
seed: 1
pruner: {kind: none}
space:
  train.learning_rate: {low: 0.001, high: 0.02, log: true}
"""


def test_two_machines_share_a_sweep_and_one_of_them_dies(stack: Stack, employ: Employ) -> None:
    machines = employ("cpu", "--limit", "1"), employ("cpu", "--limit", "1")
    stack.developer.paths.sweep.write_text(SPACE)
    stack.developer.set_params(**{"train.epochs": 8})  # not committed: it travels as a patch
    stack.developer.run("dvc", "repro", "preprocess", environment=stack.environment)
    sweeping = subprocess.Popen(
        [str(BIN / "lenet5"), "sweep", "--pool", "cpu", "--workers", "2", "--json"],
        cwd=stack.developer.root,
        env=stack.developer.environment() | stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def trials(**wanted: str) -> list[dict[str, Any]]:
        runs = [run for run in stack.mlflow_runs() if tags.TRIAL in run["tags"]]
        return [run for run in runs if all(run[name] == value for name, value in wanted.items())]

    until(lambda: len(trials(status="RUNNING")) == 2, 240, "a trial on each machine")
    machines[0].kill()
    said, told = sweeping.communicate(timeout=400)
    assert sweeping.returncode == 0, told
    found = json.loads(said)
    assert found["trials"] >= 6
    assert not trials(status="RUNNING"), "the run of the trial that was lost is closed"
    assert len(trials(status="KILLED")) == 1
    assert {run["tags"][tags.TRIAL_STATE] for run in trials(status="FINISHED")} == {"complete"}
    [parent] = [
        run for run in stack.mlflow_runs() if tags.SWEEP in run["tags"] and tags.TRIAL not in run["tags"]
    ]
    assert parent["status"] == "FINISHED"
    assert {run["tags"]["mlflow.parentRunId"] for run in trials()} == {parent["id"]}
