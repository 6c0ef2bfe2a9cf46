"""With --json, standard output holds the answer alone, and an error is one line of JSON on standard error."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import BIN, REPOSITORY, Arrays, Project


def error_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    answer = json.loads(line)
    assert set(answer) == {"error"}
    error: dict[str, Any] = answer["error"]
    assert set(error) == {"what", "expected", "found", "fix", "exit_code"}
    assert error["exit_code"] == done.returncode
    return error


def test_a_wrong_name_has_all_parts(project: Project) -> None:
    shutil.copytree(REPOSITORY / "recipes", project.paths.recipes)
    error = error_of(project.command("lenet5", "recipe", "fats", "--json"))
    assert error["exit_code"] == 2
    assert error["what"] == "There is no recipe 'fats'."
    assert "fast" in error["expected"]
    assert error["found"] == "fats"
    assert error["fix"] == "did you mean fast?"


def test_an_error_without_a_part_has_null(project: Project) -> None:
    error = error_of(project.command("lenet5", "versions", "--data", "abc", "--json"))
    assert error["fix"] is None


def test_wrong_usage_is_json_too(project: Project) -> None:
    error = error_of(project.command("lenet5", "recipe", "--jsn", "--json"))
    assert "No such option: --jsn" in error["what"]
    assert error["fix"] == "`lenet5 recipe --help` describes the command"


def test_outside_a_checkout(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "lenet5"), "status", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert error_of(done)["found"] == str(tmp_path)


def test_credentials_are_masked(project: Project) -> None:
    uri = "foo://me:hidden@one.example"
    done = project.command("lenet5", "versions", "--json", environment={"MLFLOW_TRACKING_URI": uri})
    assert "hidden" not in json.dumps(error_of(done))


@pytest.fixture
def pictures(digits: Arrays, tmp_path: Path) -> list[Path]:
    """A digit, a text, a blank picture, a missing file and another digit."""
    names = ("first.png", "text.png", "blank.png", "missing.png", "last.png")
    first, text, blank, missing, last = files = [tmp_path / name for name in names]
    assert not missing.exists()
    for file, index in ((first, 0), (last, 1)):
        Image.fromarray(digits["test_images"][index]).save(file)
    text.write_text("no picture")
    Image.new("L", (28, 28)).save(blank)
    return files


@pytest.mark.integration
def test_predict_answers_what_it_can(finished: Project, pictures: list[Path]) -> None:
    done = finished.command("lenet5", "predict", *map(str, pictures), "--json")
    assert done.returncode == 4
    answers = json.loads(done.stdout)
    assert [answer["image"] for answer in answers] == list(map(str, pictures)), "in the order of the pictures"
    assert ["error" in answer for answer in answers] == [False, True, True, True, False]
    assert answers[0]["class"] in set("0123456789")
    assert all(answer["error"]["exit_code"] == 4 for answer in answers[1:4])
    assert answers[3]["error"]["found"] == "no file of this name"
    [last] = done.stderr.splitlines()
    assert json.loads(last)["error"]["what"].startswith("3 of 5 pictures cannot be used")


@pytest.mark.integration
def test_predict_prints_its_answers_and_an_error_for_each_bad_picture(
    finished: Project, pictures: list[Path]
) -> None:
    done = finished.command("lenet5", "predict", *map(str, pictures))
    assert done.returncode == 4
    assert "first.png" in done.stdout
    assert "last.png" in done.stdout
    for picture in pictures[1:4]:
        assert picture.name not in done.stdout
        assert f"error: {picture}" in done.stderr
    assert done.stderr.count("error: ") == 4
    assert finished.command("lenet5", "predict", str(pictures[0]), str(pictures[4])).returncode == 0


@pytest.mark.integration
def test_a_version_that_does_not_exist_is_an_error_of_the_command(
    finished: Project, pictures: list[Path]
) -> None:
    done = finished.command("lenet5", "predict", str(pictures[0]), "--version", "champoin", "--json")
    assert error_of(done)["fix"] == "did you mean @champion?"
