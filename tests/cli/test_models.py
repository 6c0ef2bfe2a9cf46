"""The commands about model versions, on a registry with two real versions."""

import json
import re
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.core import dataset, files
from lenet5.core.results import Lineage
from lenet5.registry import model_versions, reproduction
from lenet5.registry.lineage import select
from lenet5.stages.params import load
from lenet5.system import settings
from lenet5.tracking import tags
from tests.conftest import Arrays, Project
from tests.orchestration.test_reproduce import IDENTITY
from tests.stages.evaluate.test_report import Page

MODEL = "lenet5-mnist"

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("models")]


@pytest.fixture(scope="module")
def two(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 1 is champion; version 2 is of a later commit, with fewer epochs and another package."""
    project = finished.copy(tmp_path_factory.mktemp("two"))
    project.set_params(**{"train.epochs": 1, "evaluate.mistakes": 20})
    (project.root / "requirements.lock").write_text(
        (project.root / "requirements.lock").read_text().replace("absl-py==", "absl-py==0.")
    )
    project.git("add", "params.yaml", "requirements.lock")
    project.git(*IDENTITY, "commit", "--quiet", "--message", "Fewer epochs")
    project.run("dvc", "repro")
    return project


@pytest.fixture
def project(two: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy that a test may change."""
    return two.copy(tmp_path_factory.mktemp("changed"))


def commits(project: Project) -> list[str]:
    return project.git("log", "--format=%H", "--reverse").split()


def test_lineage_shows_the_whole_origin_of_a_version(two: Project) -> None:
    facts = json.loads(two.run("lenet5", "lineage", "2", "--json"))
    lineage, params = Lineage.read(two.paths.lineage), load(two.paths.params)
    assert (facts["name"], facts["version"], facts["aliases"]) == (MODEL, 2, ["challenger"])
    assert facts["code"]["commit"] == commits(two)[1]
    assert facts["code"]["patch"] is None
    assert re.fullmatch("[0-9a-f]{64}", facts["code"]["dvc.lock"])
    manifest = dataset.load_manifest(two.paths.raw)
    assert facts["data"]["raw"] == lineage.raw_data == manifest.digest
    assert facts["data"]["processed"] == lineage.processed_data
    assert facts["data"]["test"] == manifest.splits["test"].digest
    assert facts["data"]["files"] == params.ingest.sha256.model_dump()
    assert (facts["data"]["name"], facts["data"]["licence"]) == ("MNIST", "CC-BY-SA-3.0")
    assert json.loads(facts["data"]["classes"]) == list("0123456789")
    assert (facts["data"]["image shape"], facts["data"]["conversion of pictures"]) == ("28x28", "digit")
    [train, test] = json.loads(facts["data"]["sources"])
    assert (train["split"], train["count"], test["split"], test["count"]) == ("train", 3000, "test", 1000)
    assert facts["model"] == {"weights": lineage.weights, "file": lineage.model_file}
    assert facts["validation"]["result"] == "26 of 26 checks passed"
    assert facts["environment"]["device"] == "CPU"
    assert facts["environment"]["threads"] == "1"
    assert facts["environment"]["requirements"] == lineage.environment.requirements
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in facts["environment"]["switches"]
    assert {"processor", "instruction_set", "cores", "host", "python"} <= facts["environment"].keys()
    assert facts["parent champion"] == 1
    first = json.loads(two.run("lenet5", "lineage", "@champion", "--json"))
    assert first["version"] == 1
    assert first["run"]["prefect"]
    assert first["parent champion"] is None
    assert first["gate"]["decision"].startswith("promote: every limit is kept")
    assert re.search(r"champion none → 1, promote by \S+@\S+: ", first["history"][0])
    shown = two.run("lenet5", "lineage", "2")
    for text in (f"{MODEL} version 2 (challenger)", f"weights: {lineage.weights}", "parent champion: 1"):
        assert text in shown


def test_the_registry_shows_the_same_in_its_own_ui(two: Project) -> None:
    client = MlflowClient(settings.embedded(two.paths)["MLFLOW_TRACKING_URI"])
    version = client.get_model_version(MODEL, "2")
    assert f"| Git commit | `{commits(two)[1]}` |" in version.description
    assert "| Great Expectations (Data Docs: `validation/` in the run) | `26 of 26 checks passed` |" in (
        version.description
    )
    assert version.tags["lenet5.processed_data"] in version.description


def test_versions_are_found_by_their_data_and_their_commit(two: Project) -> None:
    known = model_versions.versions(MlflowClient(settings.embedded(two.paths)["MLFLOW_TRACKING_URI"]), MODEL)

    def found(**wanted: str) -> list[int]:
        return [version.number for version in select(known, **wanted)]

    facts = json.loads(two.run("lenet5", "lineage", "1", "--json"))
    assert found() == [2, 1]
    for digest in (facts["data"]["raw"], facts["data"]["test"][:8], facts["data"]["files"]["train_labels"]):
        assert found(data=digest) == [2, 1]
    assert found(data="0123456789") == []
    assert found(commit=commits(two)[0][:10]) == [1]
    words = ("--commit", commits(two)[1], "--data", facts["data"]["raw"])
    assert [v["version"] for v in json.loads(two.run("lenet5", "versions", "--json", *words))] == [2]
    assert "None of the 2 versions" in two.run("lenet5", "versions", "--data", "0123456789")
    short = two.command("lenet5", "versions", "--commit", "abc")
    assert short.returncode == 2
    assert "too short" in short.stderr


def test_diff_separates_params_metrics_packages_outputs_and_code(two: Project) -> None:
    found = json.loads(two.run("lenet5", "diff", "1", "@challenger", "--json"))
    differ = found["differences"]
    assert found["versions"] == [1, 2]
    assert differ["params"] == {"train.epochs": ["2", "1"], "evaluate.mistakes": ["25", "20"]}
    assert differ["data"] == {}
    assert "evaluate.accuracy" in differ["metrics"]
    [(name, (then, now))] = differ["packages"].items()
    assert (name, now) == ("absl-py", f"0.{then}")
    assert "train out models/lenet5.keras" in differ["dvc.lock"]
    assert not any(name.startswith("ingest out") for name in differ["dvc.lock"])
    assert differ["code"]["commit"] == commits(two)
    assert set(differ["code"]) == {"commit", "params.yaml", "requirements.lock"}
    shown = two.run("lenet5", "diff", "1", "2")
    assert re.search(r"params +│ train.epochs +│ 2 +│ 1 ", shown)
    assert "do not differ" in two.run("lenet5", "diff", "2", "2")


def test_diff_starts_with_the_answer(two: Project) -> None:
    answer = json.loads(two.run("lenet5", "diff", "1", "2", "--json"))["answer"]
    assert answer["comparison"]["images"] == 1000
    shown = two.run("lenet5", "diff", "1", "2")
    assert shown.startswith(answer["sentence"])
    verdict = json.loads(two.command("lenet5", "promote", "2", "--json").stdout)
    for name in ("gained", "lost", "p_value"):
        assert answer["comparison"][name] == verdict["comparison"][name]


def test_versions_say_what_changed_against_the_champion(two: Project) -> None:
    later, champion = json.loads(two.run("lenet5", "versions", "--json"))
    assert (later["version"], champion["version"]) == (2, 1)
    assert later["changed"] == ["epochs 1", "mistakes 20", "packages"]
    assert champion["changed"] == []
    assert "epochs 1, mistakes 20, packages" in two.run("lenet5", "versions")


def test_champion_of_an_earlier_release_is_compared_and_judged(project: Project) -> None:
    """Its metrics were in one file with the digests; its tags lack its parameters and its code."""
    client = MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])
    version = client.get_model_version(MODEL, "1")
    old = {"accuracy": 0.9, "model": "m" * 16, "splits": {"train": {"accuracy": 0.9, "images": 1}}}
    file = project.root / "evaluation.json"
    file.write_text(json.dumps(old))
    client.log_artifact(version.run_id, str(file), "results")
    artifacts = json.loads(version.tags[tags.ARTIFACTS])
    del artifacts["results/evaluation_details.json"]
    artifacts["results/evaluation.json"] = files.sha256(file)
    client.set_model_version_tag(MODEL, "1", tags.ARTIFACTS, json.dumps(artifacts))
    for name in (tags.PARAMS, tags.CODE, "evaluate.train_accuracy", "evaluate.val_accuracy"):
        client.delete_model_version_tag(MODEL, "1", name)

    later, champion = json.loads(project.run("lenet5", "versions", "--json"))
    assert later["changed"] == ["epochs 1", "mistakes 20", "commit", "packages"]
    found = json.loads(project.run("lenet5", "diff", "1", "2", "--json"))
    assert found["answer"]["comparison"]["images"] == 1000
    assert found["differences"]["params"] == {"train.epochs": ["2", "1"], "evaluate.mistakes": ["25", "20"]}
    assert found["differences"]["metrics"]["evaluate.val_accuracy"][0] is None
    assert json.loads(project.run("lenet5", "lineage", "1", "--json"))["version"] == champion["version"]
    verdict = json.loads(project.command("lenet5", "promote", "2", "--json").stdout)
    assert verdict["comparison"]["images"] == 1000

    known = model_versions.find(client, MODEL, "1")
    lock = project.paths.lock.read_text()
    rows = [row.what for row in reproduction.compare_digests(known, project.paths, lock, ["train"])]
    assert "metrics" in rows
    assert "metrics in detail" not in rows
    of_later = model_versions.find(client, MODEL, "2")
    rows_of_later = reproduction.compare_digests(of_later, project.paths, lock, ["train", "evaluate"])
    assert {row.what: row.same for row in rows_of_later}["metrics in detail"]


def test_promote_history_and_rollback_from_the_command_line(project: Project) -> None:
    refused = project.command("lenet5", "promote", "2", "--json")
    assert refused.returncode == 3
    verdict = json.loads(refused.stdout)
    assert verdict["decision"] in ("keep", "reject")
    assert verdict["comparison"]["images"] == 1000
    assert "Version 2 was not promoted to champion" in refused.stderr
    assert project.command("lenet5", "promote", "2", "--force").returncode == 2

    promoted = project.run("lenet5", "promote", "2", "--force", "--reason", "to try it")
    assert "version 2 is champion now" in promoted
    back = project.run("lenet5", "rollback", "--reason", "it was [no/] good [ops-12]")
    assert "version 1 is champion again; version 2 is withdrawn" in back
    lines = json.loads(project.run("lenet5", "history", "--json"))
    assert [(m["before"], m["to"], m["kind"], m["happened"]) for m in lines] == [
        (2, 1, "rollback", True),
        (1, 2, "force", True),
        (None, 1, "promote", True),
    ]
    table = project.run("lenet5", "history")
    assert "it was [no/] good [ops-12]" in table
    assert "to try it" in table
    assert project.command("lenet5", "rollback").returncode == 2

    assert json.loads(project.run("lenet5", "status", "--json"))["champion"]["version"] == 1


def test_status_shows_an_alias_that_another_program_moved(project: Project) -> None:
    uri = settings.embedded(project.paths)["MLFLOW_TRACKING_URI"]
    assert "problem" not in json.loads(project.run("lenet5", "status", "--json"))["champion"]
    MlflowClient(uri).set_registered_model_alias(MODEL, "champion", "2")
    assert "champion was moved outside the gate: to version 2" in project.run("lenet5", "status")


@pytest.mark.long
def test_on_another_test_set_the_champion_is_scored_again(project: Project, digits: Arrays) -> None:
    project.put_source({name: a[:900] if name.startswith("test") else a for name, a in digits.items()})
    project.run("dvc", "repro")
    done = project.command("lenet5", "promote", "--json")
    verdict = json.loads(done.stdout)
    assert verdict["version"] == 2  # the same model, evaluated again
    assert verdict["comparison"]["images"] == 900
    assert "version 1 is scored on the test images of this checkout" in done.stdout + done.stderr
    assert "version 2 is scored" not in done.stdout + done.stderr

    shutil.rmtree(project.paths.raw)
    without_data = project.command("lenet5", "promote", "2")
    assert without_data.returncode == 4
    assert "There is no dataset" in without_data.stderr


def test_bill_of_materials_names_the_files_that_are_registered(two: Project) -> None:
    document = json.loads(two.run("lenet5", "bom", "2"))
    lineage = Lineage.read(two.paths.lineage)
    this = document["metadata"]["component"]
    assert (this["name"], this["version"]) == (MODEL, "2")
    assert this["hashes"] == [{"alg": "SHA-256", "content": lineage.model_file}]
    packages = json.loads(two.run("lenet5", "bom", "2", "--packages"))
    assert "0.2" in next(each["version"] for each in packages["components"] if each["name"] == "absl-py")
    assert packages["serialNumber"] != json.loads(two.run("lenet5", "bom", "1", "--packages"))["serialNumber"]


def test_data_card_is_exported_with_the_digests_of_the_files(two: Project, tmp_path: Path) -> None:
    document = json.loads(two.run("lenet5", "data", "card"))
    assert (document["name"], document["license"]) == (
        "MNIST",
        "https://spdx.org/licenses/CC-BY-SA-3.0.html",
    )
    [images, *_] = (each for each in document["distribution"] if each["name"] == "data/raw/test/images.npy")
    assert images["sha256"] == files.sha256(two.paths.raw / "test/images.npy")
    output = tmp_path / "croissant.json"
    two.run("lenet5", "data", "card", "--output", str(output))
    assert json.loads(output.read_text(encoding="utf-8")) == document


def test_report_of_a_candidate_has_the_reasons_of_the_gate(two: Project, tmp_path: Path) -> None:
    before = json.loads(two.run("lenet5", "versions", "--json"))
    two.run("lenet5", "report", "2", "--output", str(tmp_path / "page.html"))
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    decided = json.loads(two.command("lenet5", "promote", "2", "--json").stdout)
    assert (
        f"Against version 1, the gate decides: {decided['decision']}, because {decided['why']}" in page.text
    )
    for name in decided["limits"]:
        assert name in page.text
    assert "Corruptions: version 2 against version 1" in page.text
    assert "Slices: version 2 against version 1" in page.text
    after = json.loads(two.run("lenet5", "versions", "--json"))
    assert [version["aliases"] for version in before] == [version["aliases"] for version in after]


def test_comparison_shows_both_pages_and_what_differs(two: Project, tmp_path: Path) -> None:
    two.run("lenet5", "compare", "1", "2", "--output", str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "Version 2 as a candidate against version 1" in page.text
    assert "train.epochs" in page.text
    ids = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"v1-calibration", "v2-calibration", "v1-robustness", "v2-inside"} <= set(ids)
    assert {str(link["href"])[1:] for link in page.all("a")} <= set(ids)
    for _, attributes in page.elements:
        assert set(str(attributes.get("aria-labelledby") or "").split()) <= set(ids)
    assert len(text.encode()) < 3_000_000
