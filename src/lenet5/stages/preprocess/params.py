"""Define the parameters of the stage ``preprocess``."""

from typing import Annotated

from pydantic import Field

from lenet5.core.params import Positive, Section, Seed


class Preprocess(Section):
    """The section ``preprocess``; the comments in ``params.yaml`` describe each value."""

    seed: Seed
    validation_images: Positive
    padding: Annotated[int, Field(ge=0, le=14)]
