"""Define the parameters of the stage ``register``: the name of the model and the promotion gate."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from lenet5.core.params import Positive, Section, Seed, Share


class Floors(Section):
    """Smallest values of metrics that the gate accepts, 0 to 1."""

    accuracy: Share
    worst_class_recall: Share
    mean_corruption_accuracy: Share


class Ceilings(Section):
    """Largest values of metrics that the gate accepts, 0 to 1."""

    calibration_error: Share


class Gate(Section):
    """How the gate compares a candidate with the champion; ``params.yaml`` describes each value."""

    margin: Annotated[float, Field(gt=0, lt=1)]
    corruption_margin: Annotated[float, Field(gt=0, lt=1)]
    slice_margin: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    tie: Literal["keep", "promote"]
    max_drop: Annotated[float, Field(gt=0, lt=1)]
    resamples: Positive
    seed: Seed


class Register(Section):
    """The section ``register``."""

    model_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")]
    floors: Floors
    ceilings: Ceilings
    gate: Gate
