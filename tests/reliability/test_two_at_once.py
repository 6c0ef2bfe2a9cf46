"""Two commands at once in one checkout: both end with an answer, and the result is that of one of them."""

import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence

import pytest

from lenet5.core.errors import Unavailable
from lenet5.system.state import LocalState
from tests.conftest import BIN, Project
from tests.reliability import harness

pytestmark = pytest.mark.integration


def together(
    project: Project, *commands: Sequence[str], delay: float = 0.0
) -> list[subprocess.CompletedProcess[str]]:
    """Start commands one after another, wait for all of them, and require that none prints a stack trace."""
    running = []
    for words in commands:
        running.append(
            subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                cwd=project.root,
                env=project.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        time.sleep(delay)
    ended = []
    for words, process in zip(commands, running, strict=True):
        output, errors = process.communicate(timeout=400)
        harness.require_no_trace(output + errors)
        ended.append(subprocess.CompletedProcess(list(words), process.returncode, output, errors))
    return ended


@pytest.mark.long  # tests/registry/test_promotion.py has several promoters at once
def test_of_two_promotions_one_counts(copy: Project) -> None:
    shutil.rmtree(LocalState(copy.paths.root).mlflow)
    copy.run("lenet5", "register")
    ended = together(copy, ("lenet5", "promote"), ("lenet5", "promote"))
    # the other one finds the champion, or was overtaken while it decided
    assert sorted(each.returncode for each in ended) in ([0, 0], [0, 3]), [each.stderr for each in ended]
    [version] = json.loads(copy.run("lenet5", "versions", "--json"))
    assert version["aliases"] == ["champion"]
    [change] = json.loads(copy.run("lenet5", "history", "--json"))
    assert change["happened"]


@pytest.mark.long
@pytest.mark.parametrize("stage", ["train", "register"])
def test_the_doctor_examines_a_checkout_at_work(copy: Project, chance: random.Random, stage: str) -> None:
    before = harness.state(copy)
    repro, doctor = together(
        copy,
        ("dvc", "repro", "--force", "--single-item", stage),
        ("lenet5", "doctor"),
        delay=chance.uniform(0, 10),
    )
    assert repro.returncode == 0, repro.stderr
    assert doctor.returncode in {0, 4}, doctor.stderr
    assert harness.state(copy) == before


@pytest.mark.long
def test_of_two_flows_one_runs_and_the_other_one_is_refused(copy: Project) -> None:
    before = harness.state(copy)
    ended = together(copy, ("lenet5", "run", "--force"), ("lenet5", "run", "--force"), delay=1)
    codes = sorted(each.returncode for each in ended)
    assert codes == [0, Unavailable.exit_code], [each.stderr for each in ended]
    assert harness.state(copy) == before


@pytest.mark.long
def test_the_flow_waits_for_dvc_which_waits_or_refuses(copy: Project, chance: random.Random) -> None:
    """DVC itself does not wait for a command that works on the files of its stage."""
    before = harness.state(copy)
    flow, repro = together(
        copy, ("lenet5", "run", "--force"), ("dvc", "--wait-for-lock", "repro"), delay=chance.uniform(0, 30)
    )
    assert flow.returncode == 0, flow.stderr
    assert repro.returncode == 0 or "is busy, it is being blocked by" in repro.stderr, repro.stderr
    assert harness.state(copy) == before
