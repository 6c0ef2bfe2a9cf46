"""Define the parameters of the stage ``evaluate``."""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from lenet5.core.params import Positive, Section, Seed

# written out, because SciPy would slow down every command; a test compares them with the corruptions
CorruptionName = Literal[
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "shear",
    "scale",
    "rotate",
    "brightness",
    "translate",
    "stripe",
    "fog",
    "spatter",
    "dotted_line",
    "zigzag",
    "canny_edges",
    "occlusion",
    "thick_strokes",
    "thin_strokes",
    "inversion",
    "identity",
    "edges_diagonal",
    "edges_4_neighbours",
    "edges_8_neighbours",
    "sharpen",
    "gaussian_blur",
]
T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise ValueError(f"each value can be there once, found {values!r}")
    return values


class Robustness(Section):
    """The corrupted images."""

    corruptions: Annotated[list[CorruptionName], Field(min_length=1), AfterValidator(_distinct)]
    severities: Annotated[
        list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1), AfterValidator(_distinct)
    ]
    images: Positive
    seed: Seed


class Evaluate(Section):
    """The section ``evaluate``; the comments in ``params.yaml`` describe each value."""

    calibration_bins: Positive
    mistakes: Annotated[int, Field(gt=0, le=100)]  # more pictures do not fit into the figure
    robustness: Robustness
