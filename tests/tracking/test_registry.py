"""Versions, aliases and the gate, in a real store."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5 import files, promotion
from lenet5.errors import DataError, Refused, UsageError
from lenet5.params import Floors, Register
from lenet5.paths import Paths
from lenet5.tracking import registry, store
from lenet5.tracking.registry import Version

NAME = "digits"
PARAMS = Register(model_name=NAME, floors=Floors(accuracy=0.9, worst_class_recall=0.8))


def add(client: MlflowClient, paths: Paths, *, accuracy: float, recall: float = 0.85) -> Version:
    """Register a version whose model file holds its accuracy."""
    run = client.create_run(store.experiment(client, paths))
    model = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
    folder = paths.root / run.info.run_id
    (folder / "data").mkdir(parents=True)
    (folder / "data/model.keras").write_text(str(accuracy))
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    version, new = registry.register(
        client,
        NAME,
        run_id=run.info.run_id,
        model_id=model.model_id,
        tags={
            "evaluate.accuracy": repr(accuracy),
            "evaluate.worst_class_recall": repr(recall),
            "lenet5.model_file": files.sha256(folder / "data/model.keras"),
        },
        description="",
    )
    assert new
    registry.set_alias(client, version, registry.CHALLENGER)
    return version


def aliases(client: MlflowClient) -> dict[str, int]:
    return {alias: v.number for v in registry.versions(client, NAME) for alias in v.aliases}


def test_the_first_version_has_only_the_floors_to_pass(client: MlflowClient, paths: Paths) -> None:
    add(client, paths, accuracy=0.9)
    done = promotion.promote(paths, PARAMS)
    assert done.moved
    assert done.version.aliases == ("champion",)
    assert aliases(client) == {"champion": 1}


@pytest.mark.parametrize(
    ("accuracy", "recall", "reason"),
    [(0.89, 0.85, "floor of accuracy"), (0.95, 0.79, "floor of worst_class_recall")],
)
def test_below_a_floor_the_gate_says_no(
    client: MlflowClient, paths: Paths, accuracy: float, recall: float, reason: str
) -> None:
    add(client, paths, accuracy=accuracy, recall=recall)
    with pytest.raises(Refused, match=reason) as refused:
        promotion.promote(paths, PARAMS)
    assert "There is still no champion" in str(refused.value)
    assert aliases(client) == {"challenger": 1}


def test_worse_than_the_champion_the_gate_says_no(client: MlflowClient, paths: Paths) -> None:
    add(client, paths, accuracy=0.95)
    promotion.promote(paths, PARAMS)
    add(client, paths, accuracy=0.9499)
    with pytest.raises(Refused, match="accuracy of the champion"):
        promotion.promote(paths, PARAMS)
    assert aliases(client) == {"champion": 1, "challenger": 2}


def test_not_worse_than_the_champion_takes_its_place(client: MlflowClient, paths: Paths) -> None:
    add(client, paths, accuracy=0.95)
    promotion.promote(paths, PARAMS)
    add(client, paths, accuracy=0.95)
    assert promotion.promote(paths, PARAMS).version.number == 2
    assert aliases(client) == {"champion": 2, "previous": 1}


def test_promoting_the_champion_again_changes_nothing(client: MlflowClient, paths: Paths) -> None:
    add(client, paths, accuracy=0.95)
    promotion.promote(paths, PARAMS)
    for wanted in (None, "1", "champion", "@champion"):
        assert not promotion.promote(paths, PARAMS, wanted).moved
    assert aliases(client) == {"champion": 1}


def test_a_version_can_be_named(client: MlflowClient, paths: Paths) -> None:
    add(client, paths, accuracy=0.92)
    add(client, paths, accuracy=0.91)
    assert promotion.promote(paths, PARAMS, "1").version.number == 1
    assert aliases(client) == {"champion": 1, "challenger": 2}


def test_an_unknown_version_is_named_with_those_there_are(client: MlflowClient, paths: Paths) -> None:
    add(client, paths, accuracy=0.92)
    with pytest.raises(
        UsageError, match=r"has no version '7'(.|\n)*a version \(1\) or an alias \(@challenger\)"
    ):
        promotion.promote(paths, PARAMS, "7")


def test_before_anything_is_registered_the_next_step_is_told(paths: Paths) -> None:
    with pytest.raises(UsageError, match="`lenet5 run` makes one"):
        promotion.promote(paths, PARAMS)


def test_a_version_from_elsewhere_is_not_judged(client: MlflowClient, paths: Paths) -> None:
    client.create_registered_model(NAME)
    client.create_model_version(NAME, str(paths.root / "somewhere"))
    with pytest.raises(DataError, match="not registered by `lenet5 register`"):
        promotion.promote(paths, PARAMS, "1")


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_harmed_model_file_is_neither_promoted_nor_loaded(
    client: MlflowClient, paths: Paths, tmp_path: Path, harm: str
) -> None:
    version = add(client, paths, accuracy=0.95)
    [stored] = (paths.state / "mlflow").rglob("model.keras")
    stored.write_text("0.96") if harm == "changed" else stored.unlink()
    with pytest.raises(DataError, match="is not the one that was registered"):
        promotion.promote(paths, PARAMS)
    with pytest.raises(DataError, match="is not the one that was registered"):
        registry.download(client, version, tmp_path)
    assert aliases(client) == {"challenger": 1}


def test_versions_are_listed_newest_first_with_their_aliases(client: MlflowClient, paths: Paths) -> None:
    for accuracy in (0.91, 0.92, 0.93):
        add(client, paths, accuracy=accuracy)
    found = registry.versions(client, NAME)
    assert [(v.number, v.aliases) for v in found] == [(3, ("challenger",)), (2, ()), (1, ())]
    assert json.loads(found[0].tags["evaluate.accuracy"]) == 0.93
