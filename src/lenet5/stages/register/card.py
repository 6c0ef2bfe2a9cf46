"""Write the model card of a version in Markdown; equal models give equal cards.

The card is the twin of ``reports/report.html``: the same numbers, for the registry and for model hubs.
"""

import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from lenet5.core.results import Evaluation, Lineage, Training
from lenet5.stages.register.params import Register
from lenet5.tracking import tags


def front_matter(params: Register, evaluation: Evaluation) -> str:
    """Return the metadata of a card as Hugging Face reads it, between two lines of ``---``.

    Source: https://huggingface.co/docs/hub/model-cards.

    Args:
        params: the model's name.
        evaluation: metrics on the test images.
    """
    shown = {
        "accuracy": ("Accuracy", "accuracy"),
        "worst_class_recall": ("Worst class recall", "recall"),
        "loss": ("Cross-entropy", "cross_entropy"),
        "calibration_error": ("Expected calibration error", "expected_calibration_error"),
        "mean_corruption_accuracy": ("Mean accuracy on corrupted images", "accuracy"),
    }
    values = evaluation.metrics()
    results = [
        {
            "task": {"type": "image-classification", "name": "Handwritten digits"},
            "dataset": {"type": "ylecun/mnist", "name": "MNIST", "split": "test"},
            "metrics": [
                {"type": kind, "value": values[name], "name": title} for name, (title, kind) in shown.items()
            ],
        }
    ]
    metadata = {
        "license": "apache-2.0",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["lenet-5", "mnist", "handwritten-digits", "onnx"],
        "datasets": ["ylecun/mnist"],
        "metrics": ["accuracy", "recall"],
        "model-index": [{"name": params.model_name, "results": results}],
    }
    yaml = YAML()
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(metadata, text)
    return f"---\n{text.getvalue()}---\n"


def build(
    params: Register,
    all_params: Mapping[str, Any],
    lineage: Lineage,
    training: Training,
    evaluation: Evaluation,
    per_class: pd.DataFrame,
) -> str:
    """Return the card of one model.

    Args:
        params: the model's name and the limits of the promotion gate.
        all_params: every parameter by its dotted name; the card shows those of preprocess and train.
        lineage: what the model was made from.
        training: metrics at the best epoch.
        evaluation: metrics on the test images.
        per_class: one row for each class: ``class``, ``precision``, ``recall``, ``f1``, ``images``.
    """
    classes = "\n".join(
        f"| {c['class']} | {c['precision']:.4f} | {c['recall']:.4f} | {c['f1']:.4f} | {c['images']:,} |"
        for c in per_class.to_dict("records")
    )
    shown = ("preprocess.padding", "preprocess.validation_images", "train.")
    splits = "\n".join(
        f"| Accuracy on {on.images:,} {name} images | {on.accuracy:.4f} ({on.low:.4f} to {on.high:.4f}) |"
        for name, on in evaluation.splits.items()
    )
    recipe = "\n".join(
        f"| {name} | {value} |" for name, value in all_params.items() if name.startswith(shown)
    )
    corruptions = "\n".join(
        f"| {name} | {accuracy:.4f} |" for name, accuracy in evaluation.corruption_accuracy.items()
    )
    architecture = _ARCHITECTURES[all_params["train.architecture"]]
    calibration_error = f"{evaluation.calibration_error_low:.4f} to {evaluation.calibration_error_high:.4f}"
    return f"""\
# {params.model_name}

Accuracy {evaluation.accuracy:.4f} on {evaluation.images:,} test images with {training.parameters:,} weights.

{architecture} for handwritten digits. The input is raw pixels, uint8 (N, 28, 28), 0 for paper and 255 for
ink. The output is ten probabilities for each image, float32 (N, 10). The model rescales and pads the pixels
itself.

| | |
|---|---|
| Accuracy | {evaluation.accuracy:.4f} |
{splits}
| Worst class recall | {evaluation.worst_class_recall:.4f} |
| Cross-entropy (nats) | {evaluation.loss:.4f} |
| Expected calibration error | {evaluation.calibration_error:.4f} ({calibration_error}) |
| Temperature | {training.temperature:.4f} |
| Mean accuracy on corrupted images | {evaluation.mean_corruption_accuracy:.4f} |
| Share of the accuracy retained there | {evaluation.retained_accuracy:.4f} |
| Validation accuracy | {training.val_accuracy:.4f} (epoch {training.best_epoch} of {training.epochs}) |

Intervals have a confidence of 95 %. The weights contain the temperature.

Limits of the promotion gate: {_limits(params, evaluation.metrics())}

## Lineage (SHA-256)
| | |
|---|---|
| Raw data | `{lineage.raw_data}` |
| Processed data | `{lineage.processed_data}` |
| Test data | `{evaluation.test_data}` |
| Training (data, parameters, code) | `{lineage.training}` |
| Weights | `{lineage.weights}` |

## Recipe
| Parameter | Value |
|---|---|
{recipe}

## By class
| Digit | Precision | Recall | F1 | Images |
|---|---|---|---|---|
{classes}

## On corrupted images
| Corruption | Accuracy |
|---|---|
{corruptions}

Trained on MNIST (Y. LeCun, C. Cortes; CC BY-SA 3.0): centred, grey, upright digits. The model also gives
confident answers for other handwriting and for pictures that show no digit.
"""


_ARCHITECTURES = {"lenet5": "LeNet-5", "mlp": "A network of dense layers (MLP)"}


def _limits(params: Register, metrics: Mapping[str, float]) -> str:
    floors = [
        f"floor of {name}: {metrics[name]:.4f}, at least {limit:.4f} {_mark(metrics[name] >= limit)}"
        for name, limit in params.floors.model_dump().items()
    ]
    ceilings = [
        f"ceiling of {name}: {metrics[name]:.4f}, at most {limit:.4f} {_mark(metrics[name] <= limit)}"
        for name, limit in params.ceilings.model_dump().items()
    ]
    return "; ".join([*floors, *ceilings])


def _mark(passed: bool) -> str:
    return "✓" if passed else "✗"


def origin(version_tags: Mapping[str, str]) -> str:
    """Return a table of where a version was made. Equal models can differ in it, so the card lacks it.

    Args:
        version_tags: the tags of the version; rows of missing tags are left out.
    """
    rows = "\n".join(
        f"| {title} | `{version_tags[name]}` |" for name, title in _ORIGIN.items() if version_tags.get(name)
    )
    return f"""
## Where it was made
| | |
|---|---|
{rows}

`lenet5 lineage` prints the complete lineage; `lenet5 reproduce` makes the version again.
"""


_ORIGIN = {
    tags.COMMIT: "Git commit",
    tags.PATCH: "Uncommitted changes (SHA-256 of `code/uncommitted.patch` in the run)",
    tags.DVC_LOCK: "dvc.lock (SHA-256)",
    tags.VALIDATION: "Great Expectations (Data Docs: `validation/` in the run)",
    tags.FLOW_RUN: "Prefect flow run",
    f"{tags.ENVIRONMENT}packages": "Packages",
    f"{tags.ENVIRONMENT}requirements": "requirements.lock (SHA-256)",
    f"{tags.ENVIRONMENT}switches": "Engine variables",
    f"{tags.ENVIRONMENT}device": "Device",
    f"{tags.ENVIRONMENT}threads": "Threads",
    f"{tags.MACHINE}processor": "Processor",
    f"{tags.MACHINE}instruction_set": "Instruction set",
    f"{tags.MACHINE}host": "Host",
    f"{tags.MACHINE}python": "Python",
}
