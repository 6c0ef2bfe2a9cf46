"""Parameters of the stage ``preprocess``."""

from typing import Annotated

from pydantic import Field

from lenet5.core.params import Positive, Section, Seed


class Preprocess(Section):
    seed: Seed
    validation_images: Positive
    padding: Annotated[int, Field(ge=0, le=14)]
