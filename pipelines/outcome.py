"""What a worker says of a stage that it was given: an artifact of its flow run, for the flow that sent it."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from pydantic import BaseModel, ConfigDict

KEY = "lenet5-stage-outcome"


class Outcome(BaseModel):
    """What became of a stage, or of a workspace that could not be made for it."""

    model_config = ConfigDict(frozen=True)

    exit_code: int = 0
    message: str = ""
    """Why it failed."""
    locked: str = ""
    """The stage's entry in ``dvc.lock``, as YAML: its order counts, and a database forgets an object's."""


def tell(client: SyncPrefectClient, flow_run: UUID | str, outcome: Outcome) -> None:
    """Leave an outcome with a flow run."""
    values: dict[str, Any] = outcome.model_dump(mode="json")
    about = "What the stage ended with, for the flow that sent it"
    told = ArtifactCreate(
        key=KEY, type="json", description=about, data=values, flow_run_id=UUID(str(flow_run))
    )
    client.create_artifact(told)


def read(client: SyncPrefectClient, flow_run: UUID) -> Outcome | None:
    """The outcome that was left with a flow run; None when it ended without a word."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]), key=ArtifactFilterKey(any_=[KEY])
    )
    found = client.read_artifacts(artifact_filter=wanted)
    return Outcome.model_validate(found[0].data) if found else None
