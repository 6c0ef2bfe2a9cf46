"""The page of ``lenet5 explain``: what a model sees in pictures, and what its answers rest on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.text import printable
from lenet5.serving import predictor
from lenet5.stages.evaluate import report
from lenet5.stages.evaluate.inspection import Inspector


def explain(
    paths: Paths, model_name: str, version: str, images: Sequence[Path]
) -> tuple[list[dict[str, Any]], str]:
    """Explain the answers for pictures of digits.

    Args:
        paths: the checkout, for its settings and downloaded files.
        model_name: the name of the registered model.
        version: a number or an alias.
        images: the files of the pictures.

    Returns:
        The answers, as :func:`lenet5.serving.predictor.predict` gives them, and the page as HTML.

    Raises:
        DataError: a picture cannot be read or holds no digit, or the model file is not the registered one,
            or the version has no ONNX file.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    pixels = np.stack([predictor.read(image) for image in images])  # uint8 (N, 28, 28)
    number, content = predictor.onnx_file(paths, model_name, version)
    if content is None:
        raise DataError(
            f"Version {number} has no ONNX file, from which the inner values are read.",
            expected="a version of this release",
            found="a version of an earlier release",
            fix="choose another version: `lenet5 versions` lists them; `lenet5 predict` needs no such file",
        )
    inspector = Inspector(content)
    answers = [
        predictor.to_json(image, row, number)
        for image, row in zip(images, inspector.probabilities(pixels), strict=True)
    ]
    page = (
        report.environment(Path(__file__).parent)
        .get_template("explanation.html.j2")
        .render(
            model=model_name,
            version=number,
            layers=report.shapes(inspector, pixels),
            items=[
                report.walk(inspector, image)
                | {"name": printable(file.name), "probability": answer["probability"]}
                | {"next_digit": answer["next_digit"], "next_probability": answer["next_probability"]}
                for image, file, answer in zip(pixels, images, answers, strict=True)
            ],
        )
    )
    return answers, page
