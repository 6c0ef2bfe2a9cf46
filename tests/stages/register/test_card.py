"""The model card describes the model, and equal models have equal cards."""

import pandas as pd
import pytest
from ruamel.yaml import YAML

from lenet5.core.results import Environment, Evaluation, Lineage, SplitAccuracy, Training
from lenet5.stages.params import Params, load
from lenet5.stages.register import card
from tests.conftest import REPOSITORY

PARAMS = load(REPOSITORY / "params.yaml")
LINEAGE = Lineage(
    training="t" * 64,
    raw_data="r" * 64,
    processed_data="p" * 64,
    weights="w" * 64,
    model_file="m" * 64,
    onnx_file="o" * 64,
    environment=Environment(
        requirements="q" * 64,
        packages={"keras": "3.15.1"},
        switches=[],
        device="CPU",
    ),
)
TRAINING = Training(
    epochs=4,
    best_epoch=3,
    parameters=60074,
    loss=0.5,
    accuracy=0.98,
    val_loss=0.6,
    val_accuracy=0.9871,
    temperature=0.5277,
)
EVALUATION = Evaluation(
    model="m" * 16,
    test_data="d" * 64,
    predictions="s" * 64,
    onnx_file="o" * 64,
    images=10000,
    accuracy=0.9912,
    loss=0.1234,
    worst_class_recall=0.9634,
    calibration_error=0.0923,
    calibration_error_low=0.0871,
    calibration_error_high=0.0975,
    splits={
        "train": SplitAccuracy(images=55000, accuracy=0.9951, low=0.9945, high=0.9957),
        "validation": SplitAccuracy(images=5000, accuracy=0.9871, low=0.9836, high=0.9898),
        "test": SplitAccuracy(images=10000, accuracy=0.9912, low=0.9892, high=0.9928),
    },
    corruption_accuracy={"fog": 0.61, "rotate": 0.93},
    mean_corruption_accuracy=0.77,
    retained_accuracy=0.7768,
    corrupted_images="c" * 64,
)


def build(evaluation: Evaluation = EVALUATION, params: Params = PARAMS) -> str:
    per_class = pd.DataFrame(
        {
            "digit": range(10),
            "precision": [0.9 + digit / 1000 for digit in range(10)],
            "recall": [0.8 + digit / 1000 for digit in range(10)],
            "f1": [0.7 + digit / 1000 for digit in range(10)],
            "images": [1000 + digit for digit in range(10)],
        }
    )
    return card.build(params.register_, params.flat(), LINEAGE, TRAINING, evaluation, per_class)


def test_equal_models_have_equal_cards_and_others_do_not() -> None:
    assert build() == build()
    assert build() != build(EVALUATION.model_copy(update={"accuracy": 0.9913}))


def test_card_names_the_architecture() -> None:
    assert "LeNet-5 for handwritten digits." in build()
    card_of_mlp = build(params=PARAMS.changed({"train.architecture": "mlp"}))
    assert "A network of dense layers (MLP) for handwritten digits." in card_of_mlp
    assert "LeNet-5" not in card_of_mlp


@pytest.mark.parametrize(
    "line",
    [
        "# lenet5-mnist",
        "Accuracy 0.9912 on 10,000 test images with 60,074 weights.",
        "| Accuracy | 0.9912 |",
        "| Accuracy on 55,000 train images | 0.9951 (0.9945 to 0.9957) |",
        "| Accuracy on 5,000 validation images | 0.9871 (0.9836 to 0.9898) |",
        "| Accuracy on 10,000 test images | 0.9912 (0.9892 to 0.9928) |",
        "| Temperature | 0.5277 |",
        "| Worst class recall | 0.9634 |",
        "| Cross-entropy (nats) | 0.1234 |",
        "| Expected calibration error | 0.0923 (0.0871 to 0.0975) |",
        "| Validation accuracy | 0.9871 (epoch 3 of 4) |",
        "| 7 | 0.9070 | 0.8070 | 0.7070 | 1,007 |",
    ],
)
def test_card_has_the_metrics(line: str) -> None:
    assert line in build().splitlines()


def test_card_has_the_limits_of_the_gate() -> None:
    text = build()
    assert "floor of accuracy: 0.9912, at least 0.9872 ✓" in text
    assert "floor of worst_class_recall: 0.9634, at least 0.9700 ✗" in text


def test_card_has_the_digests_of_the_lineage() -> None:
    text = build()
    for digest in (LINEAGE.training, LINEAGE.raw_data, LINEAGE.processed_data, LINEAGE.weights):
        assert f"`{digest}`" in text


def test_card_has_the_parameters() -> None:
    lines = build().splitlines()
    for name, value in PARAMS.flat().items():
        if name.startswith("train."):
            assert f"| {name} | {value} |" in lines
    assert "| preprocess.padding | 0 |" in lines
    assert "| preprocess.validation_images | 5000 |" in lines


def test_origin_has_rows_for_existing_tags_only() -> None:
    text = card.origin({"mlflow.source.git.commit": "c" * 40, "git.patch": "", "some": "tag"})
    assert f"| Git commit | `{'c' * 40}` |" in text
    assert "Patch" not in text
    assert "tag" not in text


def test_front_matter_is_that_of_a_model_hub() -> None:
    text = card.front_matter(PARAMS.register_, EVALUATION)
    start, content, end = text.split("---\n")
    assert (start, end) == ("", "")
    metadata = YAML(typ="safe").load(content)
    assert metadata["license"] == "apache-2.0"
    assert {"mnist", "onnx"} <= set(metadata["tags"])
    [entry] = metadata["model-index"]
    assert entry["name"] == "lenet5-mnist"
    [result] = entry["results"]
    assert (result["task"]["type"], result["dataset"]["split"]) == ("image-classification", "test")
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "Accuracy": 0.9912,
        "Worst class recall": 0.9634,
        "Cross-entropy": 0.1234,
        "Expected calibration error": 0.0923,
        "Mean accuracy on corrupted images": 0.7700,
    }


def test_card_has_the_accuracy_on_each_corruption() -> None:
    lines = build().splitlines()
    assert {"| fog | 0.6100 |", "| rotate | 0.9300 |"} <= set(lines)
    assert "| Mean accuracy on corrupted images | 0.7700 |" in lines
