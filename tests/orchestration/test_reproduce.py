"""A registered version made again: bit for bit, and told apart when it is not.

From a server, in a fresh clone: test_servers.py.
"""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.model import engine
from lenet5.system import settings
from lenet5.system.state import LocalState
from tests.conftest import Project, clone

KERNELS = {"TF_DETERMINISTIC_OPS": "1"}
IDENTITY = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")


def store(project: Project) -> dict[str, str]:
    """The registry of a project, for another one."""
    return {"MLFLOW_TRACKING_URI": settings.embedded(project.paths)["MLFLOW_TRACKING_URI"]}


@pytest.fixture
def dirty(finished: Project, tmp_path: Path) -> Project:
    """Version 2 was made from a changed parameter, a changed file, a new one, and with other kernels."""
    project = finished.copy(tmp_path / "dirty")
    project.set_params(**{"train.epochs": 1})
    code = project.root / "src/lenet5/stages/train/optimizer.py"
    code.write_text(code.read_text() + "\n# tried out\n")
    (project.root / "notes.bin").write_bytes(bytes(range(256)))
    project.run("dvc", "repro", environment={"PYTHONPATH": str(project.root / "src"), **KERNELS})
    return project


@pytest.mark.long
def test_what_was_not_committed_is_made_again_too(dirty: Project, tmp_path: Path) -> None:
    elsewhere, folder = clone(dirty, tmp_path / "clone"), tmp_path / "again"
    words = ("lenet5", "reproduce", "2", "--into", str(folder), "--json")
    done = elsewhere.command(*words, environment=store(dirty))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["identical"]
    assert (folder / "notes.bin").read_bytes() == bytes(range(256))
    assert "# tried out" in (folder / "src/lenet5/stages/train/optimizer.py").read_text()
    assert Project(folder, dirty.home).paths.model.read_bytes() == dirty.paths.model.read_bytes()

    taken = elsewhere.command(*words, environment=store(dirty))
    assert taken.returncode == 2
    assert "is in use" in taken.stderr


@pytest.mark.long
def test_another_result_is_explained(finished: Project, tmp_path: Path) -> None:
    """What a record does not tell cannot be made again: here, that the version came of other kernels."""
    project = finished.copy(tmp_path)
    different = shlex.join(
        f"{name}={value}" for name, value in sorted((engine.ENGINE_FLAGS | KERNELS).items())
    )
    client = MlflowClient(store(project)["MLFLOW_TRACKING_URI"])
    client.set_model_version_tag("lenet5-mnist", "1", "environment.switches", different)
    other = project.command("lenet5", "reproduce", "1", "--record")
    assert other.returncode == 3, other.stdout + other.stderr
    assert "The reproduction of version 1 differs." in other.stderr
    assert "weights: at most" in other.stderr
    assert "images have another class" in other.stderr
    assert "unknown: everything that was recorded of the machine is the same here" in other.stderr
    assert "Traceback" not in other.stderr
    kept = LocalState(project.paths.root).folder / "reproduce/lenet5-mnist-1"
    assert (kept / "models/lenet5.keras").exists()
    lineage = json.loads(project.run("lenet5", "lineage", "1", "--json"))
    assert lineage["reproduced"].startswith("no, ")


@pytest.mark.long
def test_lost_source_data_comes_from_the_cache(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path)
    source = tmp_path / "source"
    shutil.move(project.root / "data/mnist", source)
    project.set_params(**{"ingest.source": str(source), "train.epochs": 1})
    edited = project.paths.graph.read_text().splitlines()
    project.paths.graph.write_text("\n".join(line for line in edited if "- data/mnist/" not in line))
    project.run("dvc", "repro")
    shutil.rmtree(source)
    told = project.run("lenet5", "reproduce", "2")
    assert "looking in the cache and the remote for the outputs of ingest" in told
    assert "version 2 is bit-identical" in told

    shutil.rmtree(project.root / ".dvc/cache")
    gone = project.command("lenet5", "reproduce", "2")
    assert gone.returncode == 4
    assert "cannot be found" in gone.stderr


def test_a_commit_that_is_not_there_and_tampered_files_are_told(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path)
    shutil.rmtree(project.root / ".git")
    project.git("init", "--quiet")
    project.git(*IDENTITY, "commit", "--quiet", "--allow-empty", "--message", "Another history")
    lost = project.command("lenet5", "reproduce", "1", environment=store(finished))
    assert lost.returncode == 2, lost.stderr
    assert "The version's commit is not in this clone." in lost.stderr
    assert "git fetch" in lost.stderr
