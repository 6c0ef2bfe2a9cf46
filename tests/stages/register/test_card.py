"""The model card describes the model, and equal models have equal cards."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from lenet5.core.dataset import Description
from lenet5.core.results import (
    Environment,
    Evaluation,
    EvaluationDetails,
    Lineage,
    SplitInterval,
    Training,
)
from lenet5.registry import model_versions
from lenet5.stages.params import Params, load
from lenet5.stages.register import card
from lenet5.tracking.data_set import DataSet
from tests.conftest import REPOSITORY
from tests.data_sets import MNIST, SHOES

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
    val_loss=0.6,
    temperature=0.5277,
)
EVALUATION = Evaluation(
    accuracy=0.9912,
    train_accuracy=0.9951,
    val_accuracy=0.9871,
    mean_corruption_accuracy=0.77,
    calibration_error=0.0923,
    worst_class_recall=0.9634,
)
DETAILS = EvaluationDetails(
    model="m" * 16,
    test_data="d" * 64,
    predictions="s" * 64,
    onnx_file="o" * 64,
    images=10000,
    loss=0.1234,
    calibration_error_low=0.0871,
    calibration_error_high=0.0975,
    splits={
        "train": SplitInterval(images=55000, low=0.9945, high=0.9957),
        "validation": SplitInterval(images=5000, low=0.9836, high=0.9898),
        "test": SplitInterval(images=10000, low=0.9892, high=0.9928),
    },
    corruption_accuracy={"fog": 0.61, "rotate": 0.93},
    retained_accuracy=0.7768,
    corrupted_images="c" * 64,
)


SLICES = pd.DataFrame(
    {
        "slice": ["slant", "slant", "hardest"],
        "bin": ["left", "right", "hardest 5 %"],
        "images": [1200, 80, 500],
        "accuracy": [0.99, 0.91, 0.5],
        "low": [0.98, 0.85, 0.4],
        "high": [1.0, 0.95, 0.6],
    }
)
LABEL_ERRORS = pd.DataFrame(
    {"split": ["train"], "index": [2676], "label": ["9"], "likely": ["4"], "margin": [-0.987654]}
)


def found(**results: Any) -> card.Results:
    per_class = pd.DataFrame(
        {
            "class": [str(digit) for digit in range(10)],
            "precision": [0.9 + digit / 1000 for digit in range(10)],
            "recall": [0.8 + digit / 1000 for digit in range(10)],
            "f1": [0.7 + digit / 1000 for digit in range(10)],
            "images": [1000 + digit for digit in range(10)],
        }
    )
    default = card.Results(
        lineage=LINEAGE,
        training=TRAINING,
        evaluation=EVALUATION,
        details=DETAILS,
        per_class=per_class,
        slices=SLICES,
        label_errors=LABEL_ERRORS,
        predictions=pd.DataFrame({"label": [0, 1, 1, 2, 2], "predicted": [0, 2, 2, 1, 2]}),
    )
    return replace(default, **results)


def build(
    evaluation: Evaluation = EVALUATION,
    params: Params = PARAMS,
    data: DataSet = MNIST,
    **results: Any,
) -> str:
    return card.build(params.register_, params.flat(), data, found(evaluation=evaluation, **results))


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
    text = card.front_matter(PARAMS.register_, MNIST, found())
    start, content, end = text.split("---\n")
    assert (start, end) == ("", "")
    metadata = YAML(typ="safe").load(content)
    assert metadata["license"] == "apache-2.0"
    assert {"mnist", "handwritten-digits", "onnx"} <= set(metadata["tags"])
    assert metadata["datasets"] == ["ylecun/mnist"]
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


def test_card_says_where_the_model_fails() -> None:
    text = build()
    assert "| slant | right | 80 | 0.9100 (0.8500 to 0.9500) |\n| slant | left |" in text
    assert "hardest" not in text
    assert "| Class | Read as | Images |\n|---|---|---|\n| 1 | 2 | 2 |\n| 2 | 1 | 1 |" in text
    assert "| train | 2,676 | 9 | 4 | -0.9877 |" in text
    assert "## Most confused pairs\nNone." in build(
        predictions=pd.DataFrame({"label": [1], "predicted": [1]})
    )


def test_card_of_the_default_data_has_its_licence_and_its_citation() -> None:
    lines = build().splitlines()
    assert "| Licence | CC-BY-SA-3.0 |" in lines
    assert "| Creators | Yann LeCun, Corinna Cortes |" in lines
    assert "Intended use: read single digits in centred, upright pictures." in lines
    assert "| 10 classes | 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |" in lines


def test_card_of_other_data_says_nothing_of_the_default_data() -> None:
    params = PARAMS.changed({"register.model_name": "shoes"})
    per_class = pd.DataFrame(
        {"class": SHOES.classes, "precision": 0.9, "recall": 0.8, "f1": 0.85, "images": 30}
    )
    text = build(params=params, data=SHOES, per_class=per_class, label_errors=LABEL_ERRORS.head(0))
    text += card.front_matter(params.register_, SHOES, found()) + card.of_registered_model(SHOES)
    assert not re.search(r"digit|mnist|LeCun|\bink\b|\b28\b|28x28", text, re.IGNORECASE)
    lines = text.splitlines()
    assert "| Licence | not stated |" in lines
    assert "| 3 classes | ankle boot, sandal \\| open, T-shirt/top |" in lines
    assert "| Images | 900 train, 90 test; 16x16x3 |" in lines
    assert "| sandal \\| open | T-shirt/top | 2 |" in lines
    assert "The input is raw pixels, uint8 (N, 16, 16, 3), RGB, 0 for black and 255 for white." in text
    metadata = YAML(typ="safe").load(card.front_matter(params.register_, SHOES, found()).split("---\n")[1])
    assert "datasets" not in metadata
    assert metadata["model-index"][0]["results"][0]["dataset"]["type"] == "shop-shoes"


def test_card_of_many_classes_shows_the_weakest() -> None:
    classes = [f"class {number}" for number in range(1000)]
    recall = [1 - number / 10_000 for number in range(1000)]
    per_class = pd.DataFrame({"class": classes, "precision": 0.9, "recall": recall, "f1": 0.9, "images": 7})
    description = Description(classes=tuple(classes), pictures="object")
    data = replace(MNIST, manifest=MNIST.manifest.model_copy(update={"description": description}))
    text = build(data=data, per_class=per_class)
    assert f"The {card.CLASSES} of 1000 classes with the lowest recall." in text
    assert "| class 999 | 0.9000 | 0.9001 |" in text
    assert "| class 900 | 0.9000 |" not in text
    assert "class 24 and 975 more |" in text
    assert len(text) < 10_000


def test_description_of_a_version_fits_into_the_database_of_the_registry() -> None:
    where = card.origin({"mlflow.source.git.commit": "c" * 40})
    short = card.of_version("# name\n\nAccuracy 0.9\n\n## One\ntext\n", where)
    assert short == f"Accuracy 0.9\n\n## One\ntext\n{where}"
    many = {f"corruption {number}": 0.5 for number in range(50)}
    long_card = build(details=DETAILS.model_copy(update={"corruption_accuracy": many}))
    assert len(long_card) + len(where) > 5000
    text = card.of_version(long_card, where)
    assert text.startswith("Accuracy 0.9912 on")
    assert text.endswith(where)
    assert "`model_card.md` in the run has more sections: " in text
    assert "Recipe" in text
    assert "| train.learning_rate |" not in text
    assert LINEAGE.processed_data in text
    assert len(text) <= 5000
    huge = card.of_version("# name\n\n" + "long " * 2000, where)
    assert len(huge) == card.LONGEST
    # the gate's answer is added later
    assert len(model_versions.with_verdict(huge, "reject: " + "because " * 200)) <= 5000
