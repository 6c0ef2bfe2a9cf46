"""kill -9, SIGTERM and Ctrl-C at a random moment of each stage, of DVC and of the flow.

After each of them, the same command gives the same bytes, one version, and no run that is left RUNNING.
"""

import random
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import Project, clone
from tests.reliability import harness
from tests.reliability.harness import SIGNALS, Target

pytestmark = pytest.mark.integration

STAGES = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
FORCE = ("dvc", "repro", "--force", "--single-item")


def require_recovery(
    project: Project,
    words: Sequence[str],
    chance: random.Random,
    how: signal.Signals,
    target: Target,
    *,
    moments: int = 1,
) -> None:
    """Run a command undisturbed, interrupt it at random moments, and require that it recovers after each."""
    before = harness.state(project)
    undisturbed = harness.complete(project, *words)
    assert undisturbed.code == 0, undisturbed.output
    assert harness.state(project) == before, "the command alone must change nothing"
    for _ in range(moments):
        interrupt_and_repeat(project, words, chance.uniform(0, undisturbed.seconds), how, target)
        completed = harness.complete(project, "dvc", "repro")
        assert completed.code == 0, completed.output
        assert harness.state(project) == before


def interrupt_and_repeat(
    project: Project, words: Sequence[str], after: float, how: signal.Signals, target: Target
) -> None:
    """Interrupt a command after some seconds, and require that it succeeds when it is repeated."""
    print(f"{how.name} to the {target} of {' '.join(words)} after {after:.3f} s")
    killed = harness.interrupt(project, words, after=after, how=how, target=target)
    harness.require_no_trace(killed.output)
    again = harness.complete(project, *words)
    assert again.code == 0, f"interrupted:\n{killed.output}\nagain:\n{again.output}"
    harness.require_no_trace(again.output)


@pytest.mark.long
def test_a_stage_recovers(copy: Project, chance: random.Random) -> None:
    """The short form: one stage, one signal."""
    stage, how = chance.choice(STAGES), chance.choice(SIGNALS)
    require_recovery(copy, (*FORCE, stage), chance, how, chance.choice(("process", "group")))


@pytest.mark.long
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_recovers_from_every_signal(
    copy: Project, chance: random.Random, stage: str, how: signal.Signals
) -> None:
    target: Target = chance.choice(("process", "group"))
    require_recovery(copy, (*FORCE, stage), chance, how, target, moments=2)


@pytest.mark.long
@pytest.mark.parametrize("target", ["process", "group"])
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("words", [("dvc", "repro"), ("lenet5", "run")], ids=["dvc", "flow"])
def test_the_whole_graph_recovers(
    finished: Project,
    tmp_path: Path,
    chance: random.Random,
    words: Sequence[str],
    how: signal.Signals,
    target: Target,
) -> None:
    """Interrupt the first run of a clone; the second one ends as an undisturbed run does."""
    project = clone(finished, tmp_path / "clone")
    interrupt_and_repeat(project, words, chance.uniform(0, 60), how, target)
    assert harness.state(project) == harness.state(finished)
