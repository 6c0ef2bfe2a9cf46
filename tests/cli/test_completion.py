"""Shells complete commands, stages, recipes, versions and aliases through typer's protocol."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BIN, REPOSITORY, Project

HEAVY = ("mlflow", "prefect", "dvc", "tensorflow", "keras", "pandas", "numpy")

pytestmark = pytest.mark.slow  # each test starts a shell, and each question of the shell a process


def bash(folder: Path, *words: str, environment: dict[str, str]) -> list[str]:
    """Ask as bash does: the words so far, and the number of the word under the cursor."""
    variables = {"_LENET5_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("lenet5", *words))}
    return ask(folder, environment | variables | {"COMP_CWORD": str(len(words))}).split()


def ask(folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(BIN / "lenet5")], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": str(BIN), "HOME": str(tmp_path)}


def test_bash_completes_commands(tmp_path: Path, environment: dict[str, str]) -> None:
    assert bash(tmp_path, "prom", environment=environment) == ["promote"]
    assert "--force-stage" in bash(tmp_path, "run", "--for", environment=environment)


def test_bash_completes_stages_in_their_order(environment: dict[str, str]) -> None:
    stages = bash(REPOSITORY, "run", "--force-stage", "", environment=environment)
    assert stages == ["ingest", "validate", "preprocess", "train", "evaluate", "register"]
    assert bash(REPOSITORY, "run", "--force-stage", "t", environment=environment) == ["train"]


def test_bash_completes_recipes_and_formats(environment: dict[str, str]) -> None:
    recipes = sorted(file.stem for file in (REPOSITORY / "recipes").glob("*.yaml"))
    assert bash(REPOSITORY, "recipe", "", environment=environment) == recipes
    init = ("data", "init", "folder", "--format", "par")
    assert bash(REPOSITORY, *init, environment=environment) == ["parquet"]


def test_zsh_and_fish_show_what_a_recipe_is_for(environment: dict[str, str]) -> None:
    typed = {"_TYPER_COMPLETE_ARGS": "lenet5 recipe fa"}
    zsh = ask(REPOSITORY, environment | typed | {"_LENET5_COMPLETE": "complete_zsh"})
    assert zsh.startswith('_arguments \'*: :(("fast":"')
    fish = (
        environment | typed | {"_LENET5_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    name, purpose = ask(REPOSITORY, fish).strip().split("\t")
    assert name == "fast"
    assert len(purpose) > 10


def test_outside_a_checkout_and_without_a_store_nothing_is_offered(
    tmp_path: Path, project: Project, environment: dict[str, str]
) -> None:
    assert bash(tmp_path, "recipe", "", environment=environment) == []
    assert bash(project.root, "lineage", "", environment=environment) == []


@pytest.mark.integration
def test_versions_and_aliases_come_from_the_store(finished: Project) -> None:
    environment = finished.environment()
    assert bash(finished.root, "lineage", "", environment=environment)[-1] == "1"
    assert "champion" in bash(finished.root, "diff", "1", "", environment=environment)
    assert bash(finished.root, "lineage", "@cham", environment=environment) == ["@champion"]
    assert bash(finished.root, "predict", "--version", "cham", environment=environment) == ["champion"]
    assert bash(finished.root, "rollback", "--alias", "cham", environment=environment) == ["champion"]


@pytest.mark.integration
def test_a_completion_imports_nothing_slow(finished: Project) -> None:
    script = (
        "import json, sys\n"
        "from lenet5.cli import completion\n"
        "offered = completion.versions('')\n"
        "print(json.dumps([[word for word, _ in offered], sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=finished.root,
        env=finished.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    words, modules = json.loads(done.stdout)
    assert "champion" in words
    assert not {name.partition(".")[0] for name in modules} & set(HEAVY)


def test_a_shell_is_set_up_by_one_option(tmp_path: Path, environment: dict[str, str]) -> None:
    """A real bash reads the file that the option writes, and asks for completions as after Tab."""
    installed = subprocess.run(
        # the option asks which shell started the command: this bash, and not the `sh` of `make`
        ["/bin/bash", "--norc", "-c", f"'{BIN}/lenet5' --install-completion; exit $?"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert str(tmp_path / ".bash_completions/lenet5.sh") in (tmp_path / ".bashrc").read_text()
    script = (
        "source ~/.bashrc\n"
        "COMP_WORDS=(lenet5 run --force-stage pre)\n"
        "COMP_CWORD=3\n"
        "_lenet5_completion lenet5\n"
        "echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", script],
        cwd=REPOSITORY,
        env=environment | {"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["preprocess"]
