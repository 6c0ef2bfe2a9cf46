"""What a searcher is told, on this machine or on another one."""

from pydantic import BaseModel, ConfigDict

from lenet5.core.errors import Lenet5Error
from lenet5.sweep.space import Sweep


class TrialWorkerSpec(BaseModel):
    """One searcher's part in a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    """Its name: a searcher on other data, parameters or code makes another digest, and refuses."""
    run: str
    """The study's run in MLflow."""
    searcher: int
    """Its number, from 0."""
    sweep: Sweep


class TrialWorkerFailed(Lenet5Error):
    """A searcher ended with an error, here or on its worker; carries its message and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
