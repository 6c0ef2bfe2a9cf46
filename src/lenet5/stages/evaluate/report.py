"""Build the report page of a model from the files of the stages; equal files give equal bytes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core import card, files, html
from lenet5.core.dataset import Array, Split
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, EvaluationDetails, Lineage, Training, Validation
from lenet5.images.kernels import KERNELS
from lenet5.stages.evaluate import inspection, pictures, slices
from lenet5.stages.evaluate.inspection import Embedding, Inspector, Layer

TEMPLATES = Path(__file__).parent
"""Folder of the templates that all pages about models share."""
EMBEDDED = 1500
"""Images in the picture of the embedding."""
PLOT = (640, 480)
"""Width and height of the picture of the embedding, in its own units."""
MOST_ROWS = 100
"""Largest number of confused pairs on the page."""
MOST_CLASSES = 20
"""Largest number of classes that a table lists openly, or that have their name in the embedding."""
MOST_SCORES = 10
"""Largest number of probabilities that are shown for one image."""
VERDICT = re.compile(r"(?<=<!-- verdict -->\n).*(?=<!-- /verdict -->)", re.DOTALL)
"""The part of the page that ``lenet5 report`` replaces: it depends on the registry."""
EXPLANATIONS = {
    "C1": "first convolution",
    "S2": "first pooling",
    "C3": "second convolution",
    "S4": "second pooling",
    "C5": "first dense layer",
    "F6": "second dense layer",
    "output": "probabilities of the classes",
}


def build(paths: Paths, test: Split) -> str:
    """Return the page as HTML, from the outputs of all stages up to ``evaluate``.

    Args:
        paths: the checkout.
        test: the raw test images: uint8 (N, H, W) or (N, H, W, 3), and their labels.

    Raises:
        DataError: a file is missing or damaged.
        UsageError: the data card is missing or damaged.
    """
    predictions = pd.read_parquet(paths.predictions)
    per_class = files.read_csv(paths.per_class, names=["class"])
    robustness = heat_map(files.read_csv(paths.robustness_plot))
    bins = files.read_csv(paths.slice_accuracy, names=["bin"]).to_dict("records")
    label_errors = files.read_csv(paths.label_errors, names=["label", "likely"])
    inspector = Inspector(files.read_bytes(paths.onnx))
    return html.render(
        "report.html.j2",
        [TEMPLATES],
        network="LeNet-5" if "C1" in (layer.name for layer in inspector.layers) else "A network",
        card=card.load(paths.data_card),
        classes=inspector.description.classes,
        image=_image(test.images),
        validation=Validation.read(paths.validation),
        training=Training.read(paths.training),
        lineage=Lineage.read(paths.lineage),
        evaluation=Evaluation.read(paths.evaluation),
        details=EvaluationDetails.read(paths.evaluation_details),
        per_class=per_class.to_dict("records"),
        worst_classes=per_class.nsmallest(MOST_CLASSES, "recall").to_dict("records"),
        calibration=files.read_csv(paths.calibration).to_dict("records"),
        history=files.read_csv(paths.history).to_dict("records"),
        figures={
            file.stem: pictures.data_uri(file.read_bytes()) for file in sorted(paths.figures.glob("*.png"))
        },
        pairs=_pairs(predictions, inspector.description.classes),
        robustness=robustness,
        weakest_corruptions=weakest(robustness["rows"], 3),
        bins=bins,
        weakest_bins=weakest([row for row in bins if row["slice"] not in ("class", "hardest")], 3),
        label_errors=label_errors.to_dict("records"),
        inside=inside(inspector, test, (predictions["label"] == predictions["predicted"]).to_numpy()),
    )


def with_verdict(page: str, section: str) -> str:
    """Return the page with another section in the place of the verdict."""
    return VERDICT.sub(lambda _: section, page, count=1)


def weakest(rows: Sequence[Mapping[Any, Any]], count: int) -> list[Mapping[Any, Any]]:
    """Return the rows with the lowest ``accuracy``, the lowest first; of equal ones, the first rows."""
    return sorted(rows, key=lambda row: row["accuracy"])[:count]


def heat_map(table: pd.DataFrame) -> dict[str, Any]:
    """Arrange accuracies on corrupted images as rows and columns.

    Args:
        table: one row for each corruption and severity: ``corruption``, ``severity``, ``images``,
            ``accuracy``, ``low``, ``high``, ``retained``.

    Returns:
        ``severities``, ``images``, and ``rows``: for each corruption its ``name``, ``accuracy`` and
        ``retained`` (means over the severities), and ``cells``, one for each severity.
    """
    severities = sorted({int(severity) for severity in table["severity"]})
    rows = []
    for name, cells in table.groupby("corruption", sort=False):
        by_severity = {cell["severity"]: cell for cell in cells.to_dict("records")}
        rows.append(
            {
                "name": name,
                "accuracy": float(cells["accuracy"].mean()),
                "retained": float(cells["retained"].mean()),
                "cells": [by_severity.get(severity) for severity in severities],
            }
        )
    return {"severities": severities, "images": int(table["images"].max()), "rows": rows}


def inside(inspector: Inspector, test: Split, correct: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what the page shows of the inside of a model.

    Args:
        inspector: the model.
        test: images, uint8 (N, H, W) or (N, H, W, 3), and labels.
        correct: (N,), whether the model reads an image correctly.
    """
    chosen = inspection.one_of_each(test.labels, correct)
    classes = inspector.description.classes
    walks = [
        walk(inspector, test.images[index]) | {"class": classes[code], "index": index}
        for code, index in chosen.items()
    ]
    *_, features, _ = inspector.layers
    some = test.images[:EMBEDDED]
    embedding = inspection.embed(inspector.activations(some, [features.name])[features.name])
    return {
        "layers": shapes(inspector, test.images[:1]),
        "kernels": [kernels(layer) for layer in inspector.layers if layer.kind == "convolution"],
        "classical": [
            {"name": name, "uri": pictures.signed_sheet(kernel[..., None], columns=1)}
            for name, kernel in KERNELS.items()
        ],
        "walks": walks,
        "embedding": plot(embedding, test.labels[: len(some)], classes),
        "features": features.name,
    }


def shapes(inspector: Inspector, images: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return the layers with the shapes of their outputs, as the paper's figure 2 writes them.

    Args:
        inspector: the model.
        images: at least one image, uint8 (N, H, W) or (N, H, W, 3).
    """
    outputs = inspector.activations(images[:1])
    return [
        {
            "name": layer.name,
            "what": EXPLANATIONS.get(layer.name, layer.kind),
            "shape": shape(outputs[layer.name]),
            "parameters": layer.parameters,
        }
        for layer in inspector.layers
    ]


def shape(output: NDArray[np.float32]) -> str:
    """Return a shape as the paper writes it: ``6@28x28`` for maps, ``84`` for units."""
    if output.ndim == 2:
        return str(output.shape[1])
    _, height, width, maps = output.shape
    return f"{maps}@{height}x{width}"


def kernels(layer: Layer) -> dict[str, Any]:
    """Return the kernels of a convolution as a picture: a row for each input map, a column for each map."""
    assert layer.weights is not None
    maps, inputs, height, width = layer.weights.shape
    tiles = layer.weights.transpose(2, 3, 1, 0).reshape(height, width, inputs * maps)
    return {
        "name": layer.name,
        "maps": maps,
        "inputs": inputs,
        "size": f"{height}x{width}",
        "uri": pictures.signed_sheet(tiles, columns=maps),
    }


def walk(inspector: Inspector, image: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what the layers make of one image, uint8 (H, W), or (H, W, 3) for RGB.

    Returns:
        ``picture``, ``maps`` and ``occlusion`` with PNG files as URIs; ``shape`` of the image, such as
        ``28x28``, and ``places``, its number of pixels; ``answer``, the name of a class; ``scores``, the
        probabilities of all classes, or of the most likely ones where there are many, each with ``class``,
        ``value`` and ``answer`` (whether it is the answer); ``largest_drop``; ``flips``, the places of the
        patch that change the answer; ``patch``, its colour.
    """
    outputs = inspector.activations(image[None])
    occlusion = inspection.occlude(inspector, image)
    maps = []
    for layer in inspector.layers[:-1]:
        output = outputs[layer.name]
        if output.ndim == 2:  # a strip of units
            output = output[:, None, :, None]
        columns = min(output.shape[-1], 8)
        maps.append(
            {
                "name": layer.name,
                "shape": shape(outputs[layer.name]),
                "uri": pictures.sheet(output[0], columns),
                "strip": outputs[layer.name].ndim == 2,
            }
        )
    probabilities = outputs[inspector.layers[-1].name][0]
    limit = float(np.abs(occlusion.drop).max())
    description = inspector.description
    visible = pictures.visible(image, description.pictures)
    return {
        "picture": pictures.picture(visible),
        "shape": _image(image[None]),
        "places": occlusion.drop.size,
        "patch": "paper" if description.pictures == "digit" else "black pixels",
        "maps": maps,
        "answer": description.classes[occlusion.answer],
        "scores": _scores(probabilities, description.classes, occlusion.answer),
        "occlusion": pictures.overlay(visible, occlusion.drop, limit),
        "largest_drop": float(occlusion.drop.max()),
        "flips": int(occlusion.changed.sum()),
    }


def _scores(probabilities: NDArray[np.float32], classes: Sequence[str], answer: int) -> list[dict[str, Any]]:
    """Return the classes with their probabilities: all in their order, or of many the most likely ones."""
    shown = np.arange(len(classes))
    if len(classes) > MOST_SCORES:
        shown = (-probabilities).argsort(kind="stable")[:MOST_SCORES]
    return [
        {"class": classes[code], "value": float(probabilities[code]), "answer": code == answer}
        for code in shown.tolist()
    ]


def _image(images: Array) -> str:
    """Return the shape of the raw images as text: ``28x28``, ``28x28 RGB``."""
    height, width, *channels = images.shape[1:]
    return f"{height}x{width}" + (" RGB" if channels else "")


def _pairs(predictions: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most confused pairs with the names of the classes: ``label``, ``predicted``, ``images``."""
    pairs = slices.confused_pairs(predictions).head(MOST_ROWS)
    return [
        {"label": classes[label], "predicted": classes[predicted], "images": images}
        for label, predicted, images in pairs.to_numpy().tolist()
    ]


def plot(embedding: Embedding, labels: NDArray[np.integer], classes: Sequence[str]) -> dict[str, Any]:
    """Return the points of an embedding in the units of an SVG picture, rounded to tenths.

    Returns:
        ``points``: x, y, colour (0 to 9) and text of each: the name of its class where it is short, else a
        dot. ``centres``: the same of each class, with its name; of many classes, only of the most frequent
        ones. ``explained``: the share of the variance along each axis.
    """
    width, height = PLOT
    margin = 16
    low, high = embedding.points.min(axis=0), embedding.points.max(axis=0)
    share = (embedding.points - low) / np.where(high > low, high - low, 1)
    places = np.round(margin + share * (np.array([width, height]) - 2 * margin), 1)
    places[:, 1] = np.round(height - places[:, 1], 1)  # SVG counts from the top
    short = max(map(len, classes)) <= 2
    codes, counts = np.unique(labels, return_counts=True)
    frequent = np.sort(codes[(-counts).argsort(kind="stable")[:MOST_CLASSES]])
    return {
        "width": width,
        "height": height,
        "points": [
            (x, y, code % 10, classes[code] if short else "•")
            for (x, y), code in zip(places.tolist(), labels.tolist(), strict=True)
        ],
        "centres": [
            (*np.round(places[labels == code].mean(axis=0), 1).tolist(), code % 10, classes[code])
            for code in frequent.tolist()
        ],
        "explained": embedding.explained,
    }
