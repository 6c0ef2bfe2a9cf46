"""Messages of commands on standard error, apart from answers on standard output."""

import json
import shutil

import pytest

from tests.conftest import REPOSITORY, Project

RECIPES = {file.stem for file in (REPOSITORY / "recipes").glob("*.yaml")}


@pytest.fixture
def project(project: Project) -> Project:
    """A checkout for `lenet5 recipe`, the fastest command that reads settings and parameters."""
    shutil.copytree(REPOSITORY / "recipes", project.paths.recipes)
    return project


def test_verbose_shows_progress_and_the_default_does_not(project: Project) -> None:
    quiet = project.command("lenet5", "recipe")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    verbose = project.command("lenet5", "--verbose", "recipe")
    assert verbose.stderr == f"info: checkout: {project.root}\n"
    assert verbose.stdout == quiet.stdout
    assert all(recipe in quiet.stdout for recipe in RECIPES)


def test_twice_verbose_shows_the_settings_without_secrets(project: Project) -> None:
    (project.root / ".env").write_text("LENET5_RUNS=3\nAWS_SECRET_ACCESS_KEY=hidden\n")
    shown = project.command("lenet5", "-vv", "recipe").stderr.splitlines()
    assert "debug: setting from .env: LENET5_RUNS=3" in shown
    assert "debug: setting from .env: AWS_SECRET_ACCESS_KEY=********" in shown


def test_json_messages_are_one_object_per_line(project: Project) -> None:
    project.set_params(**{"ingest.source": "no/such/folder"})
    done = project.command("lenet5", "--log-format", "json", "-v", "ingest")
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 4
    assert entries[0]["message"] == f"checkout: {project.root}"
    assert entries[0]["level"] == "INFO"
    assert entries[-1]["level"] == "ERROR"
    assert "no/such/folder" in entries[-1]["message"]
    assert "  fix:      " in entries[-1]["message"]


@pytest.mark.parametrize(
    ("words", "exit_code"), [(("worker",), 2), (("ui", "--mlflow-port", "0"), 2), (("versions", "x"), 2)]
)
def test_json_covers_errors_of_every_command(
    project: Project, words: tuple[str, ...], exit_code: int
) -> None:
    done = project.command("lenet5", "--log-format", "json", *words)
    assert done.returncode == exit_code
    [entry] = [json.loads(line) for line in done.stderr.splitlines()]
    assert entry["level"] == "ERROR"
    assert done.stdout == ""


def test_an_answer_stays_on_standard_output_with_json_messages(project: Project) -> None:
    done = project.command("lenet5", "--log-format", "json", "-v", "recipe", "--json")
    assert set(json.loads(done.stdout)) == RECIPES
    assert json.loads(done.stderr)["level"] == "INFO"
