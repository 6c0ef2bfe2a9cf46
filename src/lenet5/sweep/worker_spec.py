"""Define the arguments and the error of a trial worker."""

from pydantic import BaseModel, ConfigDict

from lenet5.core.errors import Lenet5Error
from lenet5.sweep.space import Sweep


class TrialWorkerSpec(BaseModel):
    """The arguments of one trial worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    """Name of the study. It is a digest, which the worker compares with its own data, parameters and code."""
    run: str
    """Id of the study's MLflow run."""
    worker: int
    """Number of the worker, from 0."""
    sweep: Sweep


class TrialWorkerFailed(Lenet5Error):
    """A trial worker failed, on this machine or on another one.

    Args:
        message: the message of the worker.
        exit_code: the exit code of the worker.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
