"""What is said in one place holds in the others: the graph, the rooms, the parameters, the imports."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lenet5 import environment, settings
from lenet5.paths import Paths
from pipelines import graph
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src/lenet5"
ROOMS = sorted(door.parent.name for door in PACKAGE.glob("*/stage.py"))
HEAVY = {"tensorflow", "keras", "mlflow", "prefect", "great_expectations", "pandas", "sklearn", "dvc"}
HEAVY |= {"onnx", "onnxruntime", "tf2onnx"}


def stages_as_written() -> dict[str, dict[str, list[str]]]:
    return dict(YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"])


def imported(file: Path) -> set[str]:
    """Every module of ours that a file imports, anywhere in it, as a dotted name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "lenet5"}


def dependency(name: str) -> str | None:
    """The path that a stage must depend on to see a change of this module: a shared file, or a room."""
    parts = name.split(".")[1:]
    if not parts:
        return None
    if (PACKAGE / parts[0]).is_dir():
        return f"src/lenet5/{parts[0]}"
    return f"src/lenet5/{parts[0]}.py" if (PACKAGE / f"{parts[0]}.py").exists() else None


def closure(start: str) -> set[str]:
    """A room's folder and all modules of ours that it imports, directly or not."""
    found, waiting = set(), {start}
    while waiting:
        path = waiting.pop()
        found.add(path)
        place = REPOSITORY / path
        for file in [place] if place.is_file() else place.glob("*.py"):
            waiting |= {d for name in imported(file) if (d := dependency(name))} - found
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_stage_depends_on_the_code_it_imports_and_on_no_other(room: str) -> None:
    written = {dep for dep in stages_as_written()[room]["deps"] if dep.startswith("src/")}
    assert written == closure(f"src/lenet5/{room}")


def test_rooms_stages_sections_and_tasks_have_one_name() -> None:
    sections = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    assert sorted(stages_as_written()) == sorted(sections) == ROOMS
    assert sorted(stage.name for stage in graph.stages(REPOSITORY)) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_a_stage_watches_its_own_section(room: str) -> None:
    assert stages_as_written()[room]["params"] == [room]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_import_each_other(room: str) -> None:
    others = {f"src/lenet5/{other}" for other in ROOMS if other != room}
    direct = {dependency(name) for file in (PACKAGE / room).glob("*.py") for name in imported(file)}
    assert not direct & others


def test_every_output_is_cached_so_that_the_run_cache_keeps_the_stage() -> None:
    assert "cache: false" not in (REPOSITORY / "dvc.yaml").read_text()


def test_only_tracking_knows_mlflow() -> None:
    for file in [*PACKAGE.rglob("*.py"), *(REPOSITORY / "pipelines").rglob("*.py")]:
        if file.parent.name != "tracking":
            assert "import mlflow" not in file.read_text(), file
            assert "from mlflow" not in file.read_text(), file


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("lenet5.cli", set()),
        ("lenet5.inference", set()),
        ("lenet5.ingest.stage", set()),
        ("lenet5.preprocess.stage", {"sklearn", "pandas"}),
        ("lenet5.register.stage", {"mlflow", "pandas"}),
        ("lenet5.promotion", {"mlflow", "pandas"}),
        ("pipelines.local", {"dvc"}),
    ],
)
def test_nothing_heavy_is_imported_where_it_is_not_needed(module: str, allowed: set[str]) -> None:
    script = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not (HEAVY - allowed) & set(loaded.stdout.split())


def test_training_imports_nothing_that_keras_can_do_without() -> None:
    script = (
        "import sys; from lenet5 import settings\n"
        "with settings.lean_keras(for_training=True): import lenet5.train.member\n"
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
