"""The model card: what a version is, in Markdown. Equal models give equal cards."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lenet5.params import Params
from lenet5.register.gate import Check
from lenet5.results import Evaluation, Lineage, Training
from lenet5.tracking import tags


def build(
    params: Params,
    lineage: Lineage,
    training: Training,
    evaluation: Evaluation,
    per_class: pd.DataFrame,
    limits: Sequence[Check],
) -> str:
    """Write the card of one model."""
    classes = "\n".join(
        f"| {c.digit} | {c.precision:.4f} | {c.recall:.4f} | {c.f1:.4f} | {c.images:,} |"
        for c in per_class.itertuples()
    )
    recipe = "\n".join(f"| {name} | {value} |" for name, value in params.train.model_dump().items())
    return f"""\
# {params.section("register").model_name}

Accuracy {evaluation.accuracy:.4f} on {evaluation.images:,} test images with {training.parameters:,} weights.

LeNet-5 for handwritten digits. Takes raw pixels, uint8 (N, 28, 28) with 0 for paper and 255 for ink;
answers with ten probabilities, float32 (N, 10). It rescales and pads by itself.

| | |
|---|---|
| Accuracy | {evaluation.accuracy:.4f} |
| Worst class recall | {evaluation.worst_class_recall:.4f} |
| Cross-entropy (nats) | {evaluation.loss:.4f} |
| Expected calibration error | {evaluation.calibration_error:.4f} |
| Validation accuracy | {training.val_accuracy:.4f} (epoch {training.best_epoch} of {training.epochs}) |

Limits of the promotion gate: {"; ".join(map(str, limits))}

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
| preprocess.padding | {params.preprocess.padding} |
| preprocess.validation_images | {params.preprocess.validation_images} |
{recipe}

## By class
| Digit | Precision | Recall | F1 | Images |
|---|---|---|---|---|
{classes}

Trained on MNIST (Y. LeCun, C. Cortes; CC BY-SA 3.0): centred, grey, upright digits. Other handwriting, and
anything that is not a digit, gets a confident answer all the same.
"""


def origin(has: Mapping[str, str]) -> str:
    """The rest of a version's lineage, from its tags: equal models may differ in it, so the card does not."""
    rows = "\n".join(f"| {said} | `{has[name]}` |" for name, said in _ORIGIN.items() if has.get(name))
    return f"""
## Where it was made
| | |
|---|---|
{rows}

`lenet5 lineage` prints all of it; `lenet5 reproduce` makes it again.
"""


_ORIGIN = {
    tags.COMMIT: "Git commit",
    tags.PATCH: "Patch on top of it (SHA-256; `code/uncommitted.patch` in the run)",
    tags.DVC_LOCK: "dvc.lock (SHA-256)",
    tags.VALIDATION: "Great Expectations (Data Docs: `validation/` in the run)",
    tags.FLOW_RUN: "Prefect flow run",
    f"{tags.ENVIRONMENT}packages": "Packages",
    f"{tags.ENVIRONMENT}requirements": "requirements.lock (SHA-256)",
    f"{tags.ENVIRONMENT}switches": "Engine",
    f"{tags.ENVIRONMENT}device": "Device",
    f"{tags.ENVIRONMENT}threads": "Threads",
    f"{tags.MACHINE}processor": "Processor",
    f"{tags.MACHINE}instruction_set": "Instruction set",
    f"{tags.MACHINE}host": "Host",
    f"{tags.MACHINE}python": "Python",
}
