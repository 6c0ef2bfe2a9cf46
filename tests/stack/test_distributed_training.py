"""One training on two machines: a flow run of the pool each, and what becomes of it when one of them dies."""

from typing import Any

import pytest

from tests.conftest import until
from tests.stack.conftest import Employ, Stack, Worker

pytestmark = [pytest.mark.stack, pytest.mark.long]

EPOCHS = 20


@pytest.fixture(scope="module")
def machines(stack: Stack, employ: Employ) -> list[Worker]:
    employ("cpu")
    return [employ("gpu", "--limit", "1"), employ("gpu", "--limit", "1")]


def version_of(stack: Stack, commit: str) -> dict[str, Any]:
    return next(version for version in stack.versions() if version["commit"] == commit)


def test_each_process_is_a_flow_run_of_the_pool(stack: Stack, machines: list[Worker]) -> None:
    commit = stack.push("spread", "two processes", **{"train.workers": 2})
    ended = stack.wait(stack.start("lenet5/train", ref="spread"))
    [primary] = stack.sent_for(ended["id"])
    assert primary["state_type"] == "COMPLETED"
    assert primary["parameters"].get("rendezvous") is None
    [other] = stack.sent_for(primary["id"])
    assert other["state_type"] == "COMPLETED"
    assert other["parameters"]["rendezvous"].startswith("1@")
    log = stack.log(ended["id"])
    assert "the 2 processes of train run as a flow run each" in log
    assert "epoch 2/2" in log
    assert "process 1 of 2, counted from 0" in stack.log(other["id"])
    assert version_of(stack, commit)["accuracy"] > 0.85


def test_when_one_dies_the_training_goes_on(stack: Stack, machines: list[Worker]) -> None:
    """On the machine that is left, with both processes there, from the last epoch that was finished."""
    stack.push("mortal", "mortal", **{"train.workers": 2, "train.epochs": EPOCHS, "train.patience": EPOCHS})
    flow_run = stack.start("lenet5/train", ref="mortal")

    def trains() -> dict[str, Any] | None:
        for primary in stack.sent_for(flow_run):
            others = stack.sent_for(primary["id"])
            if others and f"epoch 3/{EPOCHS}" in stack.log(primary["id"]):
                return others[0]
        return None

    other = until(trains, 180, "the third epoch")
    joined = next(
        machine
        for machine in machines
        if any(other["id"] in str(child.environ()) for child in machine.descendants())
    )
    joined.kill()
    stack.wait(flow_run, seconds=300)
    log = stack.log(flow_run)
    assert "Another process of this training died" in log
    assert "the 2 processes of train run on one machine now: one of them died" in log
    assert "resuming an interrupted training" in log
