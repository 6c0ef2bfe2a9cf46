"""The page of the experiment: its view, its note, its links, and the page of `lenet5 ui`."""

import json

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.tracking import experiment_page, runs, store, tags

TRAINING = "a" * 64


def tags_of_experiment(client: MlflowClient, paths: Paths) -> dict[str, str]:
    return dict(client.get_experiment(store.experiment(client, paths)).tags)


def test_a_run_brings_the_view_and_the_note_of_its_experiment(client: MlflowClient, paths: Paths) -> None:
    run = runs.create(client, paths, TRAINING, {"train.kernel_size": 5})
    written = tags_of_experiment(client, paths)
    view = json.loads(written[f"mlflow.sharedViewState.{experiment_page.VIEW}"])
    assert view["selectedColumns"][0] == f"tags.`{tags.DECISION}`"
    assert f"metrics.`{experiment_page.ERROR}`" in view["selectedColumns"]
    assert [section["name"] for section in view["compareRunSections"] if not section["display"]] == [
        "Model metrics",
        "System metrics",
    ]
    assert f"`{experiment_page.ERROR}`" in written["mlflow.note.content"]
    assert run.info.run_name == "kernel 5"


def test_a_note_that_a_user_wrote_stays_and_an_older_view_does_not(
    client: MlflowClient, paths: Paths
) -> None:
    experiment = store.experiment(client, paths)
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{experiment_page.VIEW}", "{}")
    assert store.described_experiment(client, paths) == experiment
    written = tags_of_experiment(client, paths)
    assert written["mlflow.note.content"] == "mine"
    assert json.loads(written[f"mlflow.sharedViewState.{experiment_page.VIEW}"])


def test_a_deleted_experiment_is_left_alone(client: MlflowClient, paths: Paths) -> None:
    experiment = store.experiment(client, paths)
    client.delete_experiment(experiment)
    assert store.described_experiment(client, paths) == experiment


def test_changes_and_the_experiment_of_dvc_become_tags(
    client: MlflowClient, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "rough-gale")
    with runs.training_run(paths, TRAINING, {"kernel_size": 5}) as on_epoch:
        on_epoch(1, {"loss": 0.5})
    [run] = client.search_runs([store.experiment(client, paths)])
    assert run.info.run_name == "kernel 5"
    assert run.data.tags[tags.CHANGES] == "train.kernel_size=5"
    assert run.data.tags[tags.DVC_EXPERIMENT] == "rough-gale"
    # MLflow's page that compares runs opens on the first one
    assert next(iter(run.data.metrics)) == "train.loss"


def test_links_name_what_they_open() -> None:
    assert experiment_page.model_link("my model", 3).startswith("/#/models/my%20model/versions/3?")
    assert "/runs/abc/artifacts/results/report.html?" in experiment_page.run_link(
        "1", "abc", "results/report.html"
    )


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow's server")
def test_the_page_of_this_machine_keeps_the_choices_of_the_user() -> None:
    from lenet5.tracking import ui_server  # imports MLflow's server

    page = ui_server.page("<html><head><title>MLflow</title></head></html>")
    script, rest = page.removeprefix("<html><head><script>").split("</script>")
    assert rest == "<title>MLflow</title></head></html>"
    assert '"mlflow.workflowType_v1": "machine_learning"' in script
    assert "localStorage.getItem(key) === null" in script


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow's server")
def test_mlflows_page_has_the_place_for_the_script() -> None:
    from lenet5.tracking import ui_server

    assert "<script>for" in ui_server.page(ui_server._INDEX.read_text(encoding="utf-8"))
