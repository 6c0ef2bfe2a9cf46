"""``lenet5 doctor`` finds what is wrong, says how to mend it, and repairs what is safe."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.cli import doctor
from lenet5.system import dvc, settings
from lenet5.system.state import LocalState
from tests.conftest import Project

MODEL = "lenet5-mnist"

pytestmark = pytest.mark.xdist_group("doctor")


@pytest.fixture
def checkout(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the finished project, in which a test may break things."""
    copied = finished.copy(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name, value in (copied.environment() | settings.embedded(copied.paths)).items():
        monkeypatch.setenv(name, value)
    return copied


def test_a_finished_project_is_well(checkout: Project) -> None:
    done = checkout.command("lenet5", "doctor", "--json")
    findings = json.loads(done.stdout)
    assert [finding for finding in findings if not finding["ok"]] == []
    assert done.returncode == 0
    subjects = {finding["subject"] for finding in findings}
    machine = {"python", "packages", "git", "folder", "disk", "variables", "ports", "clock"}
    assert subjects == machine | {"databases", "cache", "stages", "registry", "servers"}


def test_a_finding_ends_the_command_with_exit_code_4(checkout: Project) -> None:
    turn_back_the_clock(checkout)
    done = checkout.command("lenet5", "doctor")
    assert done.returncode == 4
    assert "set the clock of this machine" in done.stdout
    assert " checks found something to mend." in done.stdout


@pytest.mark.integration
def test_a_damaged_store_is_moved_away_and_rebuilt_from_the_files(checkout: Project) -> None:
    """In processes of their own: MLflow's client keeps a database open that was moved away."""
    database = LocalState(checkout.root).mlflow_database
    database.write_bytes(b"no database" * 1000)
    problems = {each.subject: each for each in doctor.diagnose(checkout.paths) if not each.ok}
    assert set(problems) == {"databases", "registry"}
    assert "lenet5 doctor --repair" in problems["registry"].found

    repaired = checkout.command("lenet5", "doctor", "--repair", "--json", process=True)
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert "From DVC's files: version 1" in repaired.stdout
    [aside] = database.parent.glob("damaged-*")
    assert (aside / database.name).read_bytes() == b"no database" * 1000
    listed = checkout.command("lenet5", "versions", "--json", process=True)
    assert [version["aliases"] for version in json.loads(listed.stdout)] == [["challenger"]]


def test_a_damaged_object_of_the_cache_is_found_and_removed(checkout: Project) -> None:
    folder = dvc.cache_folder(checkout.root)
    largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = largest.read_bytes()
    largest.chmod(0o600)
    largest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    [finding] = doctor._cache(checkout.paths)
    assert not finding.ok
    assert str(largest) in finding.found
    assert finding.repair is not None
    assert "removed" in finding.repair()
    assert not largest.exists()
    assert next(doctor._cache(checkout.paths)).ok


def damage_registered_file(checkout: Project) -> None:
    [file] = LocalState(checkout.root).mlflow_artifacts.glob("models/*/artifacts/data/model.keras")
    file.write_bytes(file.read_bytes() + b"x")


def move_alias(checkout: Project) -> None:
    client = MlflowClient(settings.embedded(checkout.paths)["MLFLOW_TRACKING_URI"])
    client.delete_registered_model_alias(MODEL, "champion")


def break_git(checkout: Project) -> None:
    (checkout.root / ".git/HEAD").write_text("nonsense")


def turn_back_the_clock(checkout: Project) -> None:
    os.utime(checkout.paths.params, (4e9, 4e9))


@pytest.mark.parametrize(
    ("damage", "subject", "found"),
    [
        (damage_registered_file, "registry", "not the one that was registered"),
        (move_alias, "registry", "moved outside the gate"),
        (break_git, "git", "git"),
        (turn_back_the_clock, "clock", "2096-"),
    ],
)
def test_what_a_person_must_decide_is_found_and_not_repaired(
    checkout: Project, damage: Callable[[Project], None], subject: str, found: str
) -> None:
    damage(checkout)
    problems = {each.subject: each for each in doctor.diagnose(checkout.paths) if not each.ok}
    assert found in problems[subject].found
    assert problems[subject].fix or "fix:" in problems[subject].found
    assert problems[subject].repair is None


def test_other_packages_and_foreign_code_are_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = project.paths.requirements
    lock.write_text(lock.read_text().replace("\nnumpy==", "\nnumpy==0."))
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = {each.subject: each for each in doctor.diagnose(project.paths) if not each.ok}
    assert "numpy" in found["packages"].found
    assert found["variables"].found.startswith("PYTHONPATH=/somewhere: ")
    assert found["variables"].fix == "unset PYTHONPATH"
