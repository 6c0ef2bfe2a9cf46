from pathlib import Path

import pytest

from lenet5.core.errors import UsageError
from lenet5.orchestration import graph
from tests.conftest import REPOSITORY, Project


def test_every_stage_comes_after_those_it_depends_on() -> None:
    stages = graph.stages(REPOSITORY)
    for position, stage in enumerate(stages):
        assert stage.after <= {earlier.name for earlier in stages[:position]}
    assert stages[0].name == "ingest"
    assert stages[-1].name == "register"


def test_a_stage_that_is_added_to_the_graph_is_a_task_of_the_flow(project: Project) -> None:
    stage = "  export:\n    cmd: echo\n    deps: [models/lenet5.keras]\n    meta: {retries: 7}\n"
    text = project.paths.graph.read_text()
    project.paths.graph.write_text(text.replace("stages:\n", f"stages:\n{stage}", 1))
    [added] = [stage for stage in graph.stages(project.root) if stage.name == "export"]
    assert added.after == {"train"}
    assert added.meta.retries == 7


def test_only_stages_that_depend_on_other_machines_are_tried_again() -> None:
    retried = {stage.name for stage in graph.stages(REPOSITORY) if stage.meta.retries}
    assert retried == {"ingest", "train", "register"}


def test_a_misspelt_placement_is_refused(project: Project) -> None:
    text = project.paths.graph.read_text().replace("timeout_seconds: 7200", "timeout_secs: 7200")
    project.paths.graph.write_text(text)
    with pytest.raises(UsageError, match=r"`meta` of stage train(.|\n)*timeout_secs"):
        graph.stages(project.root)


def test_a_graph_that_dvc_cannot_read_is_a_clear_error(project: Project, tmp_path: Path) -> None:
    project.paths.graph.write_text("stages: [")
    with pytest.raises(UsageError, match=r"dvc\.yaml is not YAML"):
        graph.stages(project.root)
