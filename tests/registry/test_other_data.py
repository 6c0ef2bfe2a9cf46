"""The gate when candidate and champion have different test data, with real models, real images and DVC."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from mlflow import MlflowClient

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.images.corruptions import scoring
from lenet5.model import keras_file, metrics, network, onnx_export, onnx_session
from lenet5.registry import model_versions, promotion, promotion_history
from lenet5.stages.preprocess.stage import encode
from lenet5.stages.register.params import Ceilings
from lenet5.system import dvc
from lenet5.tracking import tags
from tests.conftest import Arrays, flip_a_bit
from tests.registry.factory import CORRUPTED_IMAGES, add_model, log_evaluation, params, robustness
from tests.training_fixtures import Fit

pytestmark = pytest.mark.xdist_group("other-data")

NAME = "digits"
IMAGES = 500
"""Images in each test set."""
ROBUSTNESS = {model_versions.ROBUSTNESS: robustness()}
FITTED, VALIDATION = slice(2600), slice(2600, 3000)

Change = Callable[[Split], Split]


def same(split: Split) -> Split:
    return split


def transposed(split: Split) -> Split:
    return Split(np.ascontiguousarray(split.images.transpose(0, 2, 1)), split.labels)


def swapped(split: Split) -> Split:
    """Give each 4 the label 9, and each 9 the label 4."""
    mapping = np.arange(10, dtype=np.uint8)
    mapping[[4, 9]] = [9, 4]
    return Split(split.images, mapping[split.labels])


def shifted(split: Split) -> Split:
    return Split(np.roll(split.images, 2, axis=2), split.labels)


def enlarged(split: Split) -> Split:
    return Split(np.pad(split.images, ((0, 0), (2, 2), (2, 2))), split.labels)


@dataclass(frozen=True)
class Trained:
    """A model, its data, and its predictions on its own test images."""

    data: Mapping[str, Split]
    """``test``; the gate reads no other split."""
    predictions: pd.DataFrame
    files: Mapping[str, bytes]


MakeModel = Callable[..., Trained]


@pytest.fixture(scope="module")
def model(digits: Arrays, fitted: Fit, tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Return a function that trains on changed data: ``model(transposed)``, ``model(same, epochs=1)``.

    With ``tested_on`` only the test images are changed in this way, and the training images are as they were.

    The test images are the first half of the test sample; with ``sample=1``, the second half.
    """
    networks: dict[tuple[Change, int], tuple[keras.Model, Mapping[str, bytes]]] = {}

    def network_of(change: Change, epochs: int) -> tuple[keras.Model, Mapping[str, bytes]]:
        if (change, epochs) not in networks:
            images = change(Split(digits["train_images"], digits["train_labels"]))
            parts = (Split(images.images[rows], images.labels[rows]) for rows in (FITTED, VALIDATION))
            trained = fitted(*(encode(part, padding=0, classes=10) for part in parts), epochs=epochs)
            complete = network.with_preprocessing(trained.model, padding=0)
            file = tmp_path_factory.mktemp("model") / "model.keras"
            keras_file.save(complete, file)
            onnx_file = onnx_export.export(complete)
            networks[change, epochs] = (
                complete,
                {tags.KERAS_FILE: file.read_bytes(), tags.ONNX_FILE: onnx_file},
            )
        return networks[change, epochs]

    def make(change: Change, *, tested_on: Change | None = None, sample: int = 0, epochs: int = 3) -> Trained:
        rows = slice(sample * IMAGES, (sample + 1) * IMAGES)
        test = (tested_on or change)(Split(digits["test_images"][rows], digits["test_labels"][rows]))
        complete, content = network_of(change, epochs)
        predictions = metrics.predictions(test.labels, metrics.probabilities(complete, test.images, 100))
        return Trained({"test": test}, predictions, content)

    return make


class Checkout:
    """A checkout with DVC and a registry."""

    def __init__(self, client: MlflowClient, paths: Paths) -> None:
        self.client, self.paths = client, paths

    def add(self, trained: Trained, *, onnx: bool = True, robustness: bool = True, **extra_tags: str) -> int:
        """Write the data of a model into the checkout, let DVC record them, register the model.

        With ``robustness``, the version has answers on corrupted images, the same for all versions.

        Returns:
            The number of the version.
        """
        test_data, lock = self.save(trained)
        version = add_model(
            self.client,
            self.paths,
            NAME,
            trained.predictions,
            test_data=test_data,
            model_files={k: v for k, v in trained.files.items() if onnx or k != tags.ONNX_FILE},
            lock=lock,
            tables=ROBUSTNESS if robustness else None,
            extra_tags={tags.CORRUPTED_IMAGES: CORRUPTED_IMAGES} | extra_tags if robustness else extra_tags,
        )
        return version.number

    def save(self, trained: Trained) -> tuple[str, str]:
        """Write the data of a model into the checkout; return the digest of the test split and the lock."""
        manifest = dataset.save(self.paths.raw, trained.data)
        with Repo(str(self.paths.root)) as repo:
            [stage] = repo.add(str(self.paths.raw), force=True)
            out = {"path": "data/raw", "hash": "md5", "md5": stage.outs[0].hash_info.value}
        lock = {"schema": "2.0", "stages": {"ingest": {"cmd": "lenet5 ingest", "outs": [out]}}}
        return manifest.splits["test"].digest, json.dumps(lock)

    def evaluate_again(self, version: int, trained: Trained) -> None:
        """Evaluate a registered model on other test data, as the stages evaluate and register do."""
        test_data, lock = self.save(trained)
        registered = model_versions.find(self.client, NAME, str(version))
        artifacts = log_evaluation(self.client, registered.run_id, trained.predictions, lock, ROBUSTNESS)
        model_versions.tag(self.client, registered, tags.TEST_DATA, test_data)
        model_versions.tag(self.client, registered, tags.ARTIFACTS, artifacts)

    def promote(self, version: int, **more: Any) -> promotion.Promotion:
        return promotion.promote(self.paths, self.params(), str(version), **more)

    def params(self) -> Any:
        """Return the limits of the tests, which suit models that were trained for a second."""
        limits = params(NAME, margin=0.04)
        register = limits.register_
        ceilings = Ceilings(calibration_error=0.5)
        return limits.model_copy(update={"register_": register.model_copy(update={"ceilings": ceilings})})

    def history(self) -> list[promotion_history.HistoryEntry]:
        return promotion_history.history(self.paths, self.params())

    def champion(self) -> int:
        return model_versions.aliases(self.client, NAME)["champion"]

    def forget(self) -> None:
        """Delete all objects from DVC's cache."""
        shutil.rmtree(dvc.cache_folder(self.paths.root))


@pytest.fixture
def checkout(client: MlflowClient, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(paths.root / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(paths.root / "config"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Repo.init(str(paths.root), no_scm=True).close()
    return Checkout(client, paths)


def flawless(trained: Trained) -> Trained:
    """Return a model whose stored predictions on its own test images have no mistake."""
    predictions = trained.predictions.assign(predicted=trained.predictions["label"])
    return Trained(trained.data, predictions, trained.files)


def accuracy(scores: Any) -> tuple[float, float]:
    return scores.champion, scores.candidate


@pytest.mark.parametrize(
    ("change", "drop"), [(transposed, 0.5), pytest.param(swapped, 0.1, marks=pytest.mark.long)]
)
def test_damage_in_both_splits_is_held_back_until_a_user_accepts_it(
    checkout: Checkout, model: MakeModel, change: Change, drop: float
) -> None:
    checkout.promote(checkout.add(model(same)))
    candidate = checkout.add(model(change))
    held = checkout.promote(candidate)
    assert not held.moved
    assert held.verdict
    assert held.verdict.decision == "other_data"
    assert checkout.champion() == 1
    change_of_data = held.verdict.change
    assert change_of_data
    assert change_of_data.on_champions
    champion_on_new, candidate_on_new = accuracy(change_of_data.on_candidates)
    champion_on_old, candidate_on_old = accuracy(change_of_data.on_champions)
    assert champion_on_old - champion_on_new > drop
    assert candidate_on_new - candidate_on_old > drop
    # the one test set of the candidate would have promoted it
    assert change_of_data.on_candidates.comparison.low > 0.05
    shown = str(held.verdict)
    for name, scores in (
        ("candidate", change_of_data.on_candidates),
        ("champion", change_of_data.on_champions),
    ):
        [row] = [line for line in shown.splitlines() if line.startswith(f"the {name}'s test images")]
        assert row.split()[4:8] == [
            str(IMAGES),
            f"{scores.champion:.4f}",
            f"{scores.candidate:.4f}",
            str(scores.comparison.gained),
        ]
    stored = model_versions.find(checkout.client, NAME, str(candidate)).tags
    assert stored[tags.DECISION].startswith("other_data against version 1: the test data of the two differ")
    assert "; on the champion's test images: " in stored[tags.COMPARISON]

    with pytest.raises(UsageError, match="To accept new test data, give a reason"):
        checkout.promote(candidate, accept_new_data=True, reason=" ")
    accepted = checkout.promote(candidate, accept_new_data=True, reason="another scanner")
    assert accepted.moved
    assert checkout.champion() == candidate
    latest = checkout.history()[0].entry
    assert (latest.before, latest.to, latest.kind) == (1, candidate, "accept_new_data")
    assert latest.reason == "another scanner"
    assert latest.figures["champion_accuracy"] == pytest.approx(champion_on_new)
    assert latest.figures["old_data_champion_accuracy"] == pytest.approx(champion_on_old)
    assert latest.figures["old_data_accuracy"] == pytest.approx(candidate_on_old)


def test_damage_of_the_test_images_alone_is_held_back(checkout: Checkout, model: MakeModel) -> None:
    checkout.promote(checkout.add(model(same)))
    candidate = checkout.add(model(same, tested_on=transposed))
    held = checkout.promote(candidate)
    assert held.verdict
    assert held.verdict.decision == "other_data"
    accepted = checkout.promote(candidate, accept_new_data=True, reason="another scanner")
    assert accepted.verdict
    assert accepted.verdict.decision == "reject"  # the floors hold for accepted data as well
    assert not accepted.moved
    assert checkout.champion() == 1


def test_another_honest_sample_goes_to_the_usual_gate(checkout: Checkout, model: MakeModel) -> None:
    checkout.promote(checkout.add(model(same, epochs=1)), force=True, reason="a weak one to begin with")
    candidate = checkout.add(model(same, sample=1))
    done = checkout.promote(candidate)
    assert done.verdict
    assert done.verdict.decision == "promote", done.verdict
    assert done.verdict.change
    assert done.verdict.change.on_champions
    assert done.verdict.change.on_champions.comparison.images == IMAGES
    assert checkout.champion() == candidate
    assert checkout.history()[0].entry.kind == "promote"
    assert "old_data_accuracy" in checkout.history()[0].entry.figures


def test_the_same_test_data_needs_no_scoring(checkout: Checkout, model: MakeModel) -> None:
    trained = model(same)
    broken = Trained(trained.data, trained.predictions, dict.fromkeys(trained.files, b"no model"))
    checkout.promote(checkout.add(broken))
    candidate = checkout.add(broken)
    shutil.rmtree(checkout.paths.raw)
    checkout.forget()
    for accept in (False, True):
        done = checkout.promote(candidate, accept_new_data=accept, reason="nothing to accept")
        assert done.verdict
        assert done.verdict.decision == "keep"
        assert done.verdict.change is None
        assert not done.verdict.accepted


def test_missing_test_images_of_the_champion_hold_the_candidate_back(
    checkout: Checkout, model: MakeModel
) -> None:
    checkout.promote(checkout.add(model(same, epochs=1)), force=True, reason="a weak one to begin with")
    candidate = checkout.add(model(same, sample=1))
    checkout.forget()
    held = checkout.promote(candidate)
    assert held.verdict
    assert held.verdict.decision == "other_data"
    assert held.verdict.why == "The test images of version 1, the champion, cannot be found"
    shown = str(held.verdict)
    for part in ("expected: test data ", "found:    DVC cannot restore ", ".dir", "`lenet5 reproduce 1`"):
        assert part in shown
    assert "bring the test images" in promotion.how_to_accept(held)
    assert f"`lenet5 promote {candidate} --accept-new-data --reason '…'`" in promotion.how_to_accept(held)
    assert checkout.champion() == 1
    assert checkout.promote(candidate, accept_new_data=True, reason="they are lost").moved
    figures = checkout.history()[0].entry.figures
    assert "champion_accuracy" in figures
    assert "old_data_accuracy" not in figures


@pytest.mark.long
def test_test_images_of_the_champion_come_from_the_remote(
    checkout: Checkout, model: MakeModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    remote = tmp_path_factory.mktemp("remote")
    dvc.use_remote(checkout.paths, checkout.paths, str(remote))
    with Repo(str(checkout.paths.root)) as repo, repo.config.edit("local") as local:
        local["core"] = {"remote": "storage"}
    checkout.promote(checkout.add(model(same)))
    dvc.exchange(checkout.paths.root, "push")
    candidate = checkout.add(model(swapped))
    checkout.forget()
    held = checkout.promote(candidate)
    assert held.verdict
    assert held.verdict.change
    assert held.verdict.change.on_champions
    assert held.verdict.decision == "other_data"


@pytest.mark.long
def test_damaged_test_images_in_the_cache_are_not_used(checkout: Checkout, model: MakeModel) -> None:
    trained = model(same)
    checkout.promote(checkout.add(trained))
    folder = dvc.cache_folder(checkout.paths.root)
    content = (checkout.paths.raw / "test" / "images.npy").read_bytes()
    [cached] = [file for file in folder.rglob("*") if file.is_file() and file.read_bytes() == content]
    candidate = checkout.add(model(swapped))
    cached.chmod(0o644)
    flip_a_bit(cached, len(content) // 2)
    held = checkout.promote(candidate)
    assert held.verdict
    assert held.verdict.decision == "other_data"
    assert held.verdict.why == "The test images of version 1, the champion, cannot be found"


def test_champion_without_a_recorded_test_set_is_not_read_as_the_same_data(
    checkout: Checkout, model: MakeModel
) -> None:
    champion = checkout.add(model(same))
    checkout.client.delete_model_version_tag(NAME, str(champion), tags.TEST_DATA)
    checkout.promote(champion)
    held = checkout.promote(checkout.add(model(same, sample=1)))
    assert held.verdict
    assert held.verdict.decision == "other_data"


def test_version_without_an_onnx_file_is_scored_with_keras(checkout: Checkout, model: MakeModel) -> None:
    checkout.promote(checkout.add(model(same), onnx=False))
    with_keras = checkout.promote(checkout.add(model(transposed), onnx=False)).verdict
    with_onnx = checkout.promote(checkout.add(model(transposed))).verdict
    assert with_keras
    assert with_onnx
    assert with_keras.decision == with_onnx.decision == "other_data"
    assert with_keras.change == with_onnx.change


def test_loss_on_the_champions_test_images_is_a_loss(checkout: Checkout, model: MakeModel) -> None:
    """A champion that still reads the new images well is no collapse, but its own test set counts as well."""
    champion = model(same)
    checkout.promote(checkout.add(champion))
    candidate = checkout.add(flawless(model(same, sample=1, epochs=1)))
    limits = checkout.params().changed({"register.gate.max_drop": 0.9})
    done = promotion.promote(checkout.paths, limits, str(candidate))
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert done.verdict.why.endswith("lowest likely difference in accuracy on the champion's test images")
    assert checkout.champion() == 1


@pytest.mark.long
def test_champion_that_cannot_read_the_new_images_is_wrong_on_all_of_them(
    checkout: Checkout, model: MakeModel
) -> None:
    checkout.promote(checkout.add(model(same)))
    candidate = checkout.add(flawless(model(enlarged, epochs=1)))
    held = checkout.promote(candidate)
    assert held.verdict
    assert held.verdict.change
    assert held.verdict.change.on_champions
    assert held.verdict.decision == "other_data"
    assert held.verdict.change.on_candidates.champion == held.verdict.change.on_champions.candidate == 0
    assert checkout.promote(candidate, accept_new_data=True, reason="larger images").moved


def test_images_of_the_candidate_must_be_in_the_checkout(checkout: Checkout, model: MakeModel) -> None:
    checkout.promote(checkout.add(model(same)))
    candidate = checkout.add(model(transposed))
    dataset.save(checkout.paths.raw, model(same, sample=1).data)
    with pytest.raises(DataError, match="its test images are not in this checkout"):
        checkout.promote(candidate)


@pytest.mark.long
def test_champion_that_is_evaluated_again_keeps_the_test_data_that_it_was_judged_on(
    checkout: Checkout, model: MakeModel
) -> None:
    """Two steps: first the test images are damaged, then the training images as well."""
    checkout.promote(checkout.add(model(same)))
    checkout.evaluate_again(1, model(same, tested_on=transposed))
    held = checkout.promote(1)
    assert held.verdict
    assert held.verdict.decision == "other_data"
    rejected = checkout.promote(1, accept_new_data=True, reason="another scanner")
    assert rejected.verdict
    assert rejected.verdict.decision == "reject"

    candidate = checkout.add(model(transposed))
    # the tags of both name the same test data now
    test_data = [
        model_versions.find(checkout.client, NAME, str(number)).tags[tags.TEST_DATA] for number in (1, 2)
    ]
    assert test_data[0] == test_data[1]
    held = checkout.promote(candidate)
    assert held.verdict
    assert held.verdict.decision == "other_data"
    assert held.verdict.change
    assert held.verdict.change.on_champions
    assert held.verdict.change.on_champions.champion > 0.85
    assert checkout.champion() == 1


def test_champion_can_be_judged_on_new_data_that_a_user_accepts(checkout: Checkout, model: MakeModel) -> None:
    checkout.promote(checkout.add(flawless(model(same))))
    again = model(same, tested_on=shifted)
    checkout.evaluate_again(1, again)
    strict = checkout.params().changed({"register.gate.max_drop": 0.001, "register.floors.accuracy": 0.5})
    strict = strict.changed({"register.floors.worst_class_recall": 0.1})

    def promote(**more: Any) -> promotion.Promotion:
        return promotion.promote(checkout.paths, strict, "1", **more)

    held = promote()
    assert held.verdict
    assert held.verdict.decision == "other_data"
    assert promote(accept_new_data=True, reason="another scanner").moved
    latest = checkout.history()[0].entry
    assert (latest.before, latest.to, latest.kind) == (1, 1, "accept_new_data")
    settled = promote()  # the new data are those of the champion now
    assert settled.verdict is None
    assert not settled.moved


@pytest.mark.long
def test_champion_that_is_evaluated_on_another_honest_sample_stays_champion(
    checkout: Checkout, model: MakeModel
) -> None:
    checkout.promote(checkout.add(model(same)))
    checkout.evaluate_again(1, model(same, sample=1))
    done = checkout.promote(1)
    assert done.verdict is None
    assert [change.entry.kind for change in checkout.history()] == ["promote"]


@pytest.mark.parametrize("onnx", [True, pytest.param(False, marks=pytest.mark.long)])
def test_champion_of_an_earlier_release_is_scored_on_the_corrupted_images_of_the_candidate(
    checkout: Checkout, model: MakeModel, onnx: bool, caplog: pytest.LogCaptureFixture
) -> None:
    weak, good = model(same, epochs=1), model(same)
    old = checkout.add(weak, onnx=onnx, robustness=False)
    assert checkout.promote(old, force=True, reason="the first one").moved
    candidate = checkout.add(good)
    caplog.clear()
    done = checkout.promote(candidate)
    assert done.verdict
    assert done.verdict.groups is not None
    corruptions = done.verdict.groups[done.verdict.groups["kind"] == "corruption"].set_index("name")
    wanted = checkout.params().evaluate.robustness
    assert set(corruptions.index) == set(wanted.corruptions)
    assert set(corruptions["images"]) == {wanted.images}
    # both were scored, because the stored answers of the candidate are about other images
    assert [message for message in caplog.messages if "corrupted images" in message] == [
        f"version {number} is scored on the corrupted images that params.yaml describes"
        for number in (old, candidate)
    ]
    assert corruptions["difference"].mean() > 0
    test = good.data["test"]
    session = onnx_session.load(good.files[tags.ONNX_FILE])
    answers = scoring.score(partial(onnx_session.probabilities, session), test.images, test.labels, wanted)
    for name in wanted.corruptions:
        rows = answers.columns["corruption"] == name
        correct = answers.columns["predicted"][rows] == answers.columns["label"][rows]
        assert corruptions.loc[name, "candidate"] == pytest.approx(correct.mean())
    assert done.moved
