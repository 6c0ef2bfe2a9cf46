"""One training on two machines: a flow run of the pool each, and what becomes of it when one of them dies."""

from typing import Any

import pytest

from tests.conftest import until
from tests.stack.conftest import Employ, Stack, Worker

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(600)]

EPOCHS = 20


@pytest.fixture(scope="module")
def machines(stack: Stack, employ: Employ) -> list[Worker]:
    employ("cpu")
    return [employ("gpu", "--limit", "1"), employ("gpu", "--limit", "1")]


def version_of(stack: Stack, commit: str) -> dict[str, Any]:
    return next(version for version in stack.versions() if version["commit"] == commit)


def test_each_worker_is_a_flow_run_of_the_pool(stack: Stack, machines: list[Worker]) -> None:
    commit = stack.push("gang", "two workers", **{"train.workers": 2})
    ended = stack.wait(stack.start("lenet5/train", ref="gang"))
    sent = stack.sent_for(ended["id"])
    assert [run["state_type"] for run in sent] == ["COMPLETED", "COMPLETED"]
    assert sent[0]["parameters"]["gang"] == "lead"
    assert sent[1]["parameters"]["gang"].startswith("1@")
    log = stack.log(ended["id"])
    assert "the 2 workers of train come as a flow run each" in log
    assert "epoch 2/2" in log
    assert "worker 1 of 2, counted from 0" in stack.log(sent[1]["id"])
    assert version_of(stack, commit)["accuracy"] > 0.85


def test_when_one_dies_the_others_end_and_the_training_goes_on(stack: Stack, machines: list[Worker]) -> None:
    """On the one machine that is left, with both workers there, from the last epoch that was finished."""
    stack.push("mortal", "mortal", **{"train.workers": 2, "train.epochs": EPOCHS, "train.patience": EPOCHS})
    flow_run = stack.start("lenet5/train", ref="mortal")

    def trains() -> list[dict[str, Any]] | None:
        sent = stack.sent_for(flow_run)
        return sent if len(sent) == 2 and f"epoch 3/{EPOCHS}" in stack.log(sent[0]["id"]) else None

    sent = until(trains, 180, "the third epoch")
    joined = next(
        machine
        for machine in machines
        if any(sent[1]["id"] in str(child.environ()) for child in machine.descendants())
    )
    joined.kill()
    until(lambda: stack.run(sent[0]["id"])["state_type"] == "FAILED", 90, "the end of the other one")
    assert "Another worker of this training died" in stack.run(sent[0]["id"])["state"]["message"]
    stack.wait(flow_run, seconds=300)
    log = stack.log(flow_run)
    assert "the 2 workers of train come on one machine: one died" in log
    assert "going on from there" in log
