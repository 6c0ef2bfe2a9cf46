"""Write the model card of a version in Markdown; equal models give equal cards.

The card is the twin of ``reports/report.html``: the same numbers, for the registry and for model hubs. What
it says about the data comes from ``data/card.yaml`` and from the data itself.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from lenet5.core.results import Evaluation, EvaluationDetails, Lineage, Training
from lenet5.core.text import mask_urls
from lenet5.stages.register.params import Register
from lenet5.tracking import tags
from lenet5.tracking.data_set import DataSet

CLASSES = 25
"""Classes in the table; of more, the ones with the lowest recall."""
PAIRS = 5
LABEL_ERRORS = 10
SLICES = 10
"""Rows of the other tables."""
LONGEST = 4400
"""Characters of a description. MLflow's database takes 5,000; the gate's answer is added to them."""
_LEFT_OUT = "`model_card.md` in the run has more sections: {}.\n"


@dataclass(frozen=True)
class Results:
    """What the stages found out about a model."""

    lineage: Lineage
    """What the model was made from."""
    training: Training
    """Metrics of the training."""
    evaluation: Evaluation
    """The main metrics."""
    details: EvaluationDetails
    """The other metrics, and digests of what was scored."""
    per_class: pd.DataFrame
    """One row for each class: ``class``, ``precision``, ``recall``, ``f1``, ``images``."""
    slices: pd.DataFrame
    """One row for each bin of a slice: ``slice``, ``bin``, ``images``, ``accuracy``, ``low``, ``high``."""
    label_errors: pd.DataFrame
    """One row for each likely label error, the likeliest first: ``split``, ``index``, ``label``, ``likely``,
    ``margin``."""
    predictions: pd.DataFrame
    """One row for each test image: ``label`` and ``predicted``, positions in the classes."""


def front_matter(params: Register, data: DataSet, results: Results) -> str:
    """Return the metadata of a card as Hugging Face reads it, between two lines of ``---``.

    Source: https://huggingface.co/docs/hub/model-cards.

    Args:
        params: the model's name.
        data: the data set of the model.
        results: what the stages found out about the model.
    """
    shown = {
        "accuracy": ("Accuracy", "accuracy"),
        "worst_class_recall": ("Worst class recall", "recall"),
        "loss": ("Cross-entropy", "cross_entropy"),
        "calibration_error": ("Expected calibration error", "expected_calibration_error"),
        "mean_corruption_accuracy": ("Mean accuracy on corrupted images", "accuracy"),
    }
    values = results.evaluation.metrics() | results.details.metrics()
    evaluations = [
        {
            "task": {"type": "image-classification", "name": _capital(data.card.subject)},
            "dataset": {"type": data.card.hub or data.slug, "name": data.card.name, "split": "test"},
            "metrics": [
                {"type": kind, "value": values[name], "name": title} for name, (title, kind) in shown.items()
            ],
        }
    ]
    metadata = {
        "license": "apache-2.0",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["lenet-5", data.slug, data.card.subject.replace(" ", "-"), "onnx"],
        **({"datasets": [data.card.hub]} if data.card.hub else {}),
        "metrics": ["accuracy", "recall"],
        "model-index": [{"name": params.model_name, "results": evaluations}],
    }
    yaml = YAML()
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(metadata, text)
    return f"---\n{text.getvalue()}---\n"


def of_registered_model(data: DataSet) -> str:
    """Return the description of a registered model, which is about all of its versions."""
    return (
        f"Classifies {data.card.subject} ({data.card.name}; licence: {data.card.stated_licence}). "
        f"Takes {data.takes}."
    )


def build(params: Register, all_params: Mapping[str, Any], data: DataSet, results: Results) -> str:
    """Return the card of one model.

    Args:
        params: the model's name and the limits of the promotion gate.
        all_params: every parameter by its dotted name; the card shows those of preprocess and train.
        data: the data set of the model.
        results: what the stages found out about the model.
    """
    lineage, training = results.lineage, results.training
    evaluation, details = results.evaluation, results.details
    accuracies = {
        "test": evaluation.accuracy,
        "train": evaluation.train_accuracy,
        "validation": evaluation.val_accuracy,
    }
    shown = ("preprocess.padding", "preprocess.validation_images", "train.")
    splits = "\n".join(
        f"| Accuracy on {each.images:,} {name} images | "
        f"{accuracies[name]:.4f} ({each.low:.4f} to {each.high:.4f}) |"
        for name, each in details.splits.items()
    )
    recipe = _rows((name, value) for name, value in all_params.items() if name.startswith(shown))
    corruptions = _rows((name, f"{value:.4f}") for name, value in details.corruption_accuracy.items())
    architecture = _ARCHITECTURES[all_params["train.architecture"]]
    calibration_error = f"{details.calibration_error_low:.4f} to {details.calibration_error_high:.4f}"
    return f"""\
# {params.model_name}

Accuracy {evaluation.accuracy:.4f} on {details.images:,} test images with {training.parameters:,} weights.

{architecture} for {data.card.subject}. The input is raw pixels, {data.takes}.
The output is {data.gives}. The model rescales and pads the pixels itself.{_use(data)}

| | |
|---|---|
| Accuracy | {evaluation.accuracy:.4f} |
{splits}
| Worst class recall | {evaluation.worst_class_recall:.4f} |
| Cross-entropy (nats) | {details.loss:.4f} |
| Expected calibration error | {evaluation.calibration_error:.4f} ({calibration_error}) |
| Temperature | {training.temperature:.4f} |
| Mean accuracy on corrupted images | {evaluation.mean_corruption_accuracy:.4f} |
| Share of the accuracy retained there | {details.retained_accuracy:.4f} |
| Validation accuracy | {evaluation.val_accuracy:.4f} (epoch {training.best_epoch} of {training.epochs}) |

Intervals have a confidence of 95 %. The weights contain the temperature.

Limits of the promotion gate: {_limits(params, evaluation.metrics())}

## Data
{_data(data)}

## Lineage (SHA-256)
| | |
|---|---|
| Raw data | `{lineage.raw_data}` |
| Processed data | `{lineage.processed_data}` |
| Test data | `{details.test_data}` |
| Training (data, parameters, code) | `{lineage.training}` |
| Weights | `{lineage.weights}` |

## By class
{_by_class(results.per_class)}

{_failures(data.classes, results)}

## On corrupted images
| Corruption | Accuracy |
|---|---|
{corruptions}

## Recipe
| Parameter | Value |
|---|---|
{recipe}
"""


_ARCHITECTURES = {"lenet5": "LeNet-5", "mlp": "A network of dense layers (MLP)"}


def _use(data: DataSet) -> str:
    """Return the intended use and the known limits, as the data card has them."""
    use = f"\n\nIntended use: {_one_line(data.card.intended_use)}." if data.card.intended_use else ""
    limits = "".join(f"\n- {_one_line(limit)}" for limit in data.card.limits)
    return use + (f"\n\nLimits:\n{limits}" if limits else "")


def _data(data: DataSet) -> str:
    """Return what the model was trained on, and where its images come from."""
    card = data.card
    names = ", ".join(data.classes[:CLASSES])
    if len(data.classes) > CLASSES:
        names += f" and {len(data.classes) - CLASSES} more"
    splits = data.manifest.splits
    images = ", ".join(f"{splits[name].images.shape[0]:,} {name}" for name in ("train", "test"))
    rows = {
        "Name": card.name,
        "Licence": card.stated_licence,
        "Creators": ", ".join(card.creators),
        "Citation": card.citation,
        "Address": card.url,
        "Images": f"{images}; {'x'.join(map(str, data.shape))}",
        f"{len(data.classes)} classes": names,
        "Sources": "; ".join(_sources(data)),
        "Conversion of pictures": data.manifest.description.pictures,
    }
    described = _one_line(card.description)
    return f"{described}\n\n| | |\n|---|---|\n" + _rows(
        (name, value) for name, value in rows.items() if value
    )


def _sources(data: DataSet) -> Iterable[str]:
    origins = data.manifest.origins
    if len({rows.source for rows in origins}) > 1:
        for rows in origins:
            yield f"{rows.count:,} {rows.split} images from {mask_urls(rows.source)}"


def _by_class(per_class: pd.DataFrame) -> str:
    """Return a table of the classes; of many, those with the lowest recall."""
    selected = per_class
    note = ""
    if len(per_class) > CLASSES:
        selected = per_class.sort_values("recall", kind="stable").head(CLASSES)
        note = f"\n\nThe {CLASSES} of {len(per_class)} classes with the lowest recall."
    rows = [
        (
            each["class"],
            *(f"{each[name]:.4f}" for name in ("precision", "recall", "f1")),
            f"{each['images']:,}",
        )
        for each in selected.to_dict("records")
    ]
    return "| Class | Precision | Recall | F1 | Images |\n|---|---|---|---|---|\n" + _rows(rows) + note


def _failures(classes: Sequence[str], results: Results) -> str:
    """Return where the model fails: slices, confused pairs, likely label errors."""
    weakest = results.slices[results.slices["slice"] != "hardest"].sort_values("accuracy", kind="stable")
    slices = [
        (
            each["slice"],
            each["bin"],
            f"{each['images']:,}",
            f"{each['accuracy']:.4f} ({each['low']:.4f} to {each['high']:.4f})",
        )
        for each in weakest.head(SLICES).to_dict("records")
    ]
    pairs = [
        (classes[row["label"]], classes[row["predicted"]], row["images"])
        for row in confused_pairs(results.predictions).head(PAIRS).to_dict("records")
    ]
    errors = [
        (each["split"], f"{each['index']:,}", each["label"], each["likely"], f"{each['margin']:.4f}")
        for each in results.label_errors.head(LABEL_ERRORS).to_dict("records")
    ]
    return "\n\n".join(
        [
            "## Weakest slices\n" + _table(("Slice", "Bin", "Images", "Accuracy"), slices),
            "## Most confused pairs\n" + _table(("Class", "Read as", "Images"), pairs),
            "## Likely label errors\n"
            "Images whose label the model contradicts most; the margin is the probability of the label minus "
            "that of the likely class.\n\n"
            + _table(("Split", "Position", "Label", "Likely", "Margin"), errors),
        ]
    )


def confused_pairs(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count the mistakes of each kind.

    Args:
        predictions: one row for each image: ``label``, ``predicted``.

    Returns:
        ``label``, ``predicted`` and ``images`` of each pair that occurs, the most frequent first; of equal
        ones, the lowest classes.
    """
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    counts = wrong.groupby(["label", "predicted"]).size().rename("images").reset_index()
    return counts.sort_values("images", ascending=False, kind="stable")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "None."
    return f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n{_rows(rows)}"


def _rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows of a Markdown table."""
    return "\n".join(f"| {' | '.join(map(_one_line, row))} |" for row in rows)


def _one_line(value: object) -> str:
    """Return a value as a cell of a table, in which a line feed or a bar would end it."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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


def of_version(card: str, where: str, links: str = "") -> str:
    """Return the description of a version: the card without its title, and where the version was made.

    MLflow's list of versions shows the name already. MLflow's database takes 5,000 characters, so the last
    sections of a long card are left out here. The run has the whole card.

    Args:
        card: the model card.
        where: the result of :func:`origin`.
        links: to the pages that belong to the version, in Markdown.
    """
    first, *sections = re.split(r"(?=^## )", card.partition("\n\n")[2], flags=re.MULTILINE)
    text, left_out = f"{links}\n\n{first}" if links else first, list[str]()
    for section in sections:
        if left_out or len(text) + len(section) + len(where) > LONGEST - len(_LEFT_OUT) - 200:
            left_out.append(section.partition("\n")[0].removeprefix("## "))
        else:
            text += section
    note = _LEFT_OUT.format(", ".join(left_out)) if left_out else ""
    return (text + note + where)[:LONGEST]


def origin(version_tags: Mapping[str, str]) -> str:
    """Return a table of where a version was made. Equal models can differ in it, so the card lacks it.

    Args:
        version_tags: the tags of the version; rows of missing tags are left out.
    """
    rows = "\n".join(
        f"| {title} | `{version_tags[name]}` |"
        for name, title in tags.ORIGIN.items()
        if version_tags.get(name)
    )
    return f"""
## Where it was made
| | |
|---|---|
{rows}

`lenet5 lineage` prints the complete lineage; `lenet5 reproduce` makes the version again.
"""
