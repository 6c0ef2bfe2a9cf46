"""What a searcher is told, on this machine or on another one."""

from pydantic import BaseModel, ConfigDict

from lenet5.sweep.space import Sweep


class Order(BaseModel):
    """One searcher's part in a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    """Its name: a searcher on other data, parameters or code makes another digest, and refuses."""
    run: str
    """The study's run in MLflow."""
    searcher: int
    """Its number, from 0."""
    sweep: Sweep
