"""The gate on corrupted images and slices, with versions in a real registry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.registry import model_versions, promotion, promotion_history
from lenet5.registry.promotion import Promotion
from lenet5.tracking import tags
from tests.registry.factory import CORRUPTED, LABELS, add, add_model, params

NAME = "digits"
GOOD, FAIR = range(10), range(40)
"""Images of 1000 that a version misclassifies."""

Promote = Callable[..., Promotion]


@pytest.fixture
def promote(client: MlflowClient, paths: Paths) -> Promote:
    """Return a function that registers a version with these mistakes and asks the gate about it."""

    def ask(wrong: range = FAIR, *, force: bool = False, **mistakes: Any) -> Promotion:
        add(client, paths, NAME, wrong=wrong, **mistakes)
        return promotion.promote(paths, params(NAME), force=force, reason="a test" if force else "")

    return ask


def test_better_version_that_lost_on_one_corruption_is_held_back(
    client: MlflowClient, paths: Paths, promote: Promote, tmp_path: Path
) -> None:
    assert promote().moved
    done = promote(GOOD, wrong_in_fog=range(60))
    assert not done.moved
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert done.verdict.why == (
        "it is worse than the champion by more than the margin on corruption fog: accuracy 0.7000 against "
        "1.0000, difference -0.3000, margin 0.05, corrected p <1e-09"
    )
    version = model_versions.find(client, NAME, "2")
    assert version.tags[tags.DECISION] == f"reject against version 1: {done.verdict.why}"
    table = pd.read_csv(
        client.download_artifacts(version.run_id, "gate/against-version-1.csv", str(tmp_path))
    )
    assert table["name"].tolist() == [
        *(f"class {digit}" for digit in range(10)),
        *(f"slant bin {number}" for number in range(4)),
        *("brightness", "fog"),
    ]
    assert table.loc[table["worse"], "name"].tolist() == ["fog"]
    forced = promotion.promote(paths, params(NAME), "2", force=True, reason="fog does not matter here")
    assert forced.moved
    figures = promotion_history.history(paths, params(NAME))[0].entry.figures
    assert (figures["groups"], figures["worse_groups"]) == (16, 1)
    assert figures["mean_corruption_accuracy"] == 0.85


def test_better_version_that_lost_on_one_slice_is_held_back(promote: Promote) -> None:
    assert promote(range(600, 690)).moved
    done = promote(range(60))
    assert done.verdict
    assert done.verdict.comparison
    assert done.verdict.comparison.difference == pytest.approx(0.03)
    assert done.verdict.decision == "reject"
    assert (
        "slice slant bin 0: accuracy 0.7600 against 1.0000, difference -0.2400, margin 0.1"
        in done.verdict.why
    )
    assert "class" not in done.verdict.why


def test_first_version_below_the_floor_of_corruptions_is_rejected(promote: Promote) -> None:
    done = promote(wrong_in_fog=range(CORRUPTED))
    assert not done.moved
    assert done.verdict
    assert done.verdict.why == "it fails the floor of mean_corruption_accuracy"
    assert promote(wrong_in_fog=range(CORRUPTED // 2)).moved


def test_other_mistakes_of_an_equal_version_are_no_loss(promote: Promote) -> None:
    assert promote(range(600, 640), wrong_in_fog=range(40)).moved
    done = promote(range(100, 120), wrong_in_fog=range(100, 145))
    assert done.moved
    assert done.verdict
    assert done.verdict.groups is not None
    assert done.verdict.groups["difference"].min() < 0


def test_version_of_an_earlier_release_that_cannot_be_scored_is_promoted_by_force_only(
    client: MlflowClient, paths: Paths, promote: Promote
) -> None:
    assert promote().moved
    predictions = pd.read_parquet(
        model_versions.artifact(
            client, model_versions.find(client, NAME, "1"), model_versions.PREDICTIONS, paths.root / "stored"
        )
    )
    assert len(predictions) == len(LABELS)
    add_model(client, paths, NAME, predictions, test_data="d" * 64)
    done = promotion.promote(paths, params(NAME))
    assert not done.moved
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert "cannot be compared on corrupted images" in done.verdict.why
    assert "fix:" in str(done.verdict)
    assert promotion.promote(paths, params(NAME), "2", force=True, reason="a test").moved
    assert promotion.rollback(paths, params(NAME), reason="a test").version.number == 1
