"""The gauges of drift: what is usual stays below the limit, another world does not."""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.serving import predictor, reference
from lenet5.serving.drift import Drift
from lenet5.serving.log_queue import VersionAnswers
from lenet5.serving.model_watch import ServedModel
from lenet5.serving.reference import WINDOW, Reference
from lenet5.serving.service_metrics import ServiceMetrics
from lenet5.system import settings
from lenet5.system.state import LocalState
from tests.conftest import Project

CLASSES = tuple("0123456789")
USUAL = Reference(
    accuracy=0.99,
    confidence=0.98,
    classes=dict.fromkeys(CLASSES, 1000),
    confidences=[30, 80, 60, 70, 60, 80, 60, 400, 9160],
    limits={"classes": 0.015, "confidence": 0.015},
)


def served(number: int, digest: str = "d") -> ServedModel:
    return ServedModel("digits", digest, cast(predictor.Model, type("Model", (), {"number": number})()), b"")


def answers(version: int, best: np.ndarray, confidence: float | np.ndarray) -> VersionAnswers:
    values = np.full(len(best), confidence, np.float32)
    return VersionAnswers(version, "d", CLASSES, best, values, np.zeros((len(best), 10), np.float32))


def usual(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes and confidences as in ``USUAL``."""
    chooser = np.random.default_rng(seed)
    middle = np.array([0.4, 0.6, 0.75, 0.85, 0.92, 0.97, 0.985, 0.995, 0.9995], np.float32)
    shares = np.array(USUAL.confidences) / USUAL.images
    return chooser.integers(0, 10, images), chooser.choice(middle, images, p=shares)


def gauges(metrics: ServiceMetrics) -> dict[str, float]:
    lines = metrics.exposition().decode().splitlines()
    return {
        line.rpartition(" ")[0].removeprefix("lenet5_"): float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(("lenet5_drift", "lenet5_estimated"))
    }


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A checkout that knows the reference of version 1, and that version 2 has none."""
    paths = Paths(tmp_path)
    for number, content in ((1, USUAL.__dict__), (2, None)):
        file = reference.file(paths, "digits", number, "d")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return paths


def test_gauges_need_a_full_window_and_a_reference(paths: Paths) -> None:
    metrics = ServiceMetrics(None)
    watched = Drift(paths, metrics)
    watched.follow(served(1))
    classes, confidence = usual(WINDOW)
    watched.observe(answers(1, classes[:-1], confidence[:-1]))
    assert all(map(math.isnan, gauges(metrics).values()))
    watched.observe(answers(1, classes[-1:], confidence[-1:]))
    values = gauges(metrics)
    assert values["estimated_accuracy"] == pytest.approx(confidence.mean())
    for what in ("classes", "confidence"):
        assert 0 <= values[f'drift{{what="{what}"}}'] < values[f'drift_limit{{what="{what}"}}'] == 0.015
    watched.follow(served(2))
    assert all(map(math.isnan, gauges(metrics).values()))
    watched.observe(answers(1, classes, confidence))  # of the version before
    assert all(map(math.isnan, gauges(metrics).values()))
    watched.observe(answers(2, classes, confidence))
    values = gauges(metrics)
    assert values.pop("estimated_accuracy") == pytest.approx(confidence.mean())
    assert all(map(math.isnan, values.values()))


@pytest.mark.parametrize("what", ["classes", "confidence"])
def test_a_change_rises_above_the_limit_and_leaves_with_the_window(paths: Paths, what: str) -> None:
    metrics = ServiceMetrics(None)
    watched = Drift(paths, metrics)
    watched.follow(served(1))
    classes, confidence = usual(WINDOW)

    def above() -> dict[str, bool]:
        values = gauges(metrics)
        return {
            each: values[f'drift{{what="{each}"}}'] > values[f'drift_limit{{what="{each}"}}']
            for each in ("classes", "confidence")
        }

    other = answers(1, classes // 2, confidence) if what == "classes" else answers(1, classes, 0.7)
    watched.observe(other)
    assert above() == {each: each == what for each in ("classes", "confidence")}
    for some in np.split(np.arange(WINDOW), 8):
        watched.observe(answers(1, classes[some], confidence[some]))
    assert not any(above().values())


@pytest.mark.parametrize(
    "shares",
    [np.ones(10) / 10, np.array(USUAL.confidences) / USUAL.images, np.ones(47) / 47],
    ids=["classes", "confidence", "many classes"],
)
def test_chance_alone_seldom_exceeds_the_limit(shares: np.ndarray) -> None:
    chooser = np.random.default_rng(7)
    exceeded = tried = 0
    for _ in range(5):
        counts = chooser.multinomial(10_000, shares).tolist()
        found = reference.divergence(chooser.multinomial(WINDOW, shares, size=2000), counts)
        exceeded += int((found > reference.limit(counts)).sum())
        tried += len(found)
    assert 0 < exceeded / tried < 0.004


def test_bins_hold_their_lower_edge() -> None:
    values = np.array([0.1, 0.5, 0.699, 0.7, 0.999, 1.0], np.float32)
    assert reference.count_confidences(values) == [1, 2, 1, 0, 0, 0, 0, 0, 2]


def test_reference_is_what_the_version_predicts_for_its_test_images(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path / "checkout")
    shutil.copytree(LocalState(finished.root).mlflow, LocalState(paths.root).mlflow)
    for name, value in settings.embedded(paths).items():
        monkeypatch.setenv(name, value)
    number, content = predictor.onnx_file(paths, "lenet5-mnist", "champion")
    assert content
    digest = hashlib.sha256(content).hexdigest()
    known = reference.get(paths, "lenet5-mnist", number, digest)
    assert known
    images = np.load(finished.paths.raw / "test" / "images.npy")
    labels = np.load(finished.paths.raw / "test" / "labels.npy")
    scores = onnx_session.probabilities(onnx_session.load(content), images)
    best = scores.argmax(axis=1)
    assert known.images == len(images)
    assert known.accuracy == pytest.approx((best == labels).mean())
    assert known.confidence == pytest.approx(scores.max(axis=1).mean(), abs=1e-4)
    assert list(known.classes.values()) == np.bincount(best, minlength=10).tolist()
    assert 0 < known.limits["classes"] < 0.1
    assert reference.get(paths, "lenet5-mnist", number, "0" * 64) is None
    LocalState(paths.root).mlflow_database.unlink()
    assert reference.get(paths, "lenet5-mnist", number, digest) == known  # without the registry
