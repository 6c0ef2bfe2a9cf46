"""Parameters of the stage ``register``: the model's name, its limits, the promotion gate."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from lenet5.core.params import Positive, Section, Seed, Share


class Floors(Section):
    accuracy: Share
    worst_class_recall: Share


class Ceilings(Section):
    calibration_error: Share


class Gate(Section):
    margin: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    tie: Literal["keep", "promote"]
    resamples: Positive
    seed: Seed


class Register(Section):
    model_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")]
    floors: Floors
    ceilings: Ceilings
    gate: Gate
