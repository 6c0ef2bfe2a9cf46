"""Define the parameters of the stage ``evaluate``."""

from typing import Annotated

from pydantic import Field

from lenet5.core.params import Positive, Section


class Evaluate(Section):
    """The section ``evaluate``; the comments in ``params.yaml`` describe each value."""

    calibration_bins: Positive
    mistakes: Annotated[int, Field(gt=0, le=100)]  # more pictures do not fit into the figure
