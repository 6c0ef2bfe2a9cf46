"""The page of ``lenet5 explain``: what a model sees in pictures, and what its answers rest on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet5.core import html
from lenet5.core.dataset import Pictures
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.text import printable
from lenet5.serving import predictor
from lenet5.stages.evaluate import report
from lenet5.stages.evaluate.inspection import Inspector

CONVERSIONS: dict[Pictures, str] = {
    "digit": "cropped to the ink, scaled to a box of 20/28 of the side, with its centre of mass in the "
    "middle, light on black",
    "object": "cropped to what differs from the background, scaled to the whole side, on black",
    "whole": "resized",
}
"""How a picture is converted, in words."""


def explain(
    paths: Paths, model_name: str, version: str, images: Sequence[Path]
) -> tuple[list[dict[str, Any]], str]:
    """Explain the answers for pictures.

    Args:
        paths: the checkout, for its settings and downloaded files.
        model_name: the name of the registered model.
        version: a number or an alias.
        images: the files of the pictures.

    Returns:
        The answers, as :func:`lenet5.serving.predictor.predict` gives them, and the page as HTML.

    Raises:
        DataError: a picture cannot be read or shows nothing, or the model file is not the registered one,
            or the version has no ONNX file.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    number, content = predictor.onnx_file(paths, model_name, version)
    if content is None:
        raise DataError(
            f"Version {number} has no ONNX file, from which the inner values are read.",
            expected="a version of this release",
            found="a version of an earlier release",
            fix="choose another version: `lenet5 versions` lists them; `lenet5 predict` needs no such file",
        )
    model = predictor.of_onnx(number, content)
    pixels = model.read(images)
    inspector = Inspector(content)
    answers = predictor.to_json(images, model.probabilities(pixels), model)
    page = html.render(
        "explanation.html.j2",
        [Path(__file__).parent, report.TEMPLATES],
        model=model_name,
        version=number,
        conversion=CONVERSIONS[model.description.pictures],
        size="x".join(map(str, model.shape[:2])),
        places=model.shape[0] * model.shape[1],
        layers=report.shapes(inspector, pixels),
        items=[
            report.walk(inspector, image)
            | {"name": printable(file.name), "class": answer["class"]}
            | {key: answer[key] for key in ("probability", "next_class", "next_probability")}
            for image, file, answer in zip(pixels, images, answers, strict=True)
        ],
    )
    return answers, page
