"""The pages of registered versions: the gate's verdict, and two versions side by side."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from lenet5.core import files
from lenet5.system import settings
from lenet5.tracking import tags
from tests.conftest import Project
from tests.stages.evaluate.test_report import Page

MODEL = "lenet5-mnist"

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("models")]


def test_report_of_the_champion_is_its_page_with_the_verdict(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path)
    said = project.run("lenet5", "report")
    written = project.root / f".lenet5/reports/{MODEL}-1.html"
    assert str(written) in said.replace("\n", "")
    text, logged = written.read_text(encoding="utf-8"), finished.paths.report.read_text(encoding="utf-8")
    assert text.split("<!-- verdict -->")[0] == logged.split("<!-- verdict -->")[0]
    assert text.split("<!-- /verdict -->")[1] == logged.split("<!-- /verdict -->")[1]
    page = Page(text)
    assert "version 1 (champion)" in page.text
    assert "Without a champion to compare with, the gate decides: promote" in page.text
    assert "No heat map compares the corruptions, because there is no champion." in page.text
    assert "floor of accuracy" in page.text
    assert finished.git("rev-parse", "HEAD").strip() in page.text
    assert "train.learning_rate" in page.text


def test_recipe_without_convolutions_is_held_back_and_the_message_has_the_numbers(
    rejected: tuple[Project, str],
) -> None:
    project, said = rejected
    assert "Version 2 is not promoted. Version 1 stays champion." in said
    assert "lowest likely difference in accuracy:" in said
    [why] = re.findall(r"^reject: .*", said, re.MULTILINE)
    by_name = _corruptions(project)
    named = re.findall(r"corruption (\w+): accuracy ([\d.]+) against ([\d.]+), difference", why)
    assert named, why
    for name, candidate, champion in named:
        assert by_name.loc[name].round(4).tolist() == [float(champion), float(candidate)]
    versions = json.loads(project.run("lenet5", "versions", "--json"))
    assert [str(each["version"]) for each in versions if "champion" in each["aliases"]] == ["1"]


@pytest.mark.parametrize("words", [("report", "2"), ("compare", "1", "2")])
def test_heat_map_has_the_difference_to_the_champion_for_each_severity(
    rejected: tuple[Project, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    project, _ = rejected
    output = tmp_path / "page.html"
    project.run("lenet5", *words, "--output", str(output))
    text = output.read_text(encoding="utf-8")
    assert "Corruptions by severity: version 2 against version 1 (champion)" in Page(text).text
    accuracy = _accuracies(project, ["corruption", "severity"])
    points = (100 * (accuracy["candidate"] - accuracy["champion"])).unstack("severity")
    assert points.to_numpy().min() < -10 < 0 < points.to_numpy().max()
    rows = re.findall(r'<tr><th scope="row">([\w ]+)</th>(<td class="count heat".*)</tr>', text)
    shown = {name: re.findall(r">([+−][\d.]+)<", cells) for name, cells in rows}
    assert list(shown) == [
        name.replace("_", " ") for name in points.mean(axis=1).sort_values(kind="stable").index
    ]
    for name, row in points.iterrows():
        expected = [f"{value:+.1f}".replace("-", "−") for value in (*row, row.mean())]
        assert shown[str(name).replace("_", " ")] == expected


def _corruptions(project: Project) -> pd.DataFrame:
    return _accuracies(project, ["corruption"])


def _accuracies(project: Project, keys: list[str]) -> pd.DataFrame:
    """The accuracies of version 1 and of version 2, from the files that their evaluations wrote."""
    client = MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])
    accuracies = {}
    for column, number in (("champion", "1"), ("candidate", "2")):
        run = client.get_model_version(MODEL, number).run_id
        [file] = (project.root / ".lenet5").rglob(f"{run}/artifacts/results/robustness.parquet")
        table = pd.read_parquet(file)
        accuracies[column] = (
            (table["label"] == table["predicted"]).groupby([table[key] for key in keys]).mean()
        )
    return pd.DataFrame(accuracies)


def test_page_that_was_changed_in_the_store_is_refused(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copy(tmp_path)
    [page] = (project.root / ".lenet5").rglob("results/report.html")
    page.write_text(page.read_text(encoding="utf-8").replace("Accuracy", "Perfection"), encoding="utf-8")
    done = project.command("lenet5", "report", "1")
    assert done.returncode == 4
    assert "is not the one that was registered" in done.stderr
    # a version of an earlier release has no page
    client = MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])
    digests = json.loads(client.get_model_version(MODEL, "1").tags[tags.ARTIFACTS])
    assert digests.pop("results/report.html") == files.sha256(finished.paths.report)
    client.set_model_version_tag(MODEL, "1", tags.ARTIFACTS, json.dumps(digests))
    done = project.command("lenet5", "report", "1")
    assert done.returncode == 4
    assert re.search("Version 1 has no report page(.|\n)*fix:", done.stderr)
