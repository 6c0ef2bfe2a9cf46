"""Parameters of the stage ``evaluate``."""

from typing import Annotated

from pydantic import Field

from lenet5.core.params import Positive, Section


class Evaluate(Section):
    batch_size: Positive
    calibration_bins: Positive
    mistakes: Annotated[int, Field(gt=0, le=100)]  # a figure has room for so many
