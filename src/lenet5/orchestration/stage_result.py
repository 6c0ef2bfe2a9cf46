"""What a worker says of a stage that it was given: an artifact of its flow run, for the flow that sent it."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from pydantic import BaseModel, ConfigDict

KEY = "lenet5-stage-outcome"


class StageResult(BaseModel):
    """What became of a stage, or of a workspace that could not be made for it."""

    model_config = ConfigDict(frozen=True)

    exit_code: int = 0
    message: str = ""
    """Why it failed."""
    locked: str = ""
    """The stage's entry in ``dvc.lock``, as YAML: its order counts, and a database forgets an object's."""


def tell(client: SyncPrefectClient, flow_run: UUID | str, outcome: StageResult) -> None:
    """Leave an outcome with a flow run."""
    about = "What the stage ended with, for the flow that sent it"
    leave_word(client, flow_run, KEY, about, outcome.model_dump(mode="json"))


def read(client: SyncPrefectClient, flow_run: UUID) -> StageResult | None:
    """The outcome that was left with a flow run; None when it ended without a word."""
    found = word(client, flow_run, KEY)
    return None if found is None else StageResult.model_validate(found)


def leave_word(
    client: SyncPrefectClient, flow_run: UUID | str, key: str, about: str, data: dict[str, Any]
) -> None:
    """Leave something with a flow run for the one that sent it: an artifact of it."""
    told = ArtifactCreate(key=key, type="json", description=about, data=data, flow_run_id=UUID(str(flow_run)))
    client.create_artifact(told)


def word(client: SyncPrefectClient, flow_run: UUID, key: str) -> Any:
    """What was left with a flow run under a key; None when nothing was."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]), key=ArtifactFilterKey(any_=[key])
    )
    found = client.read_artifacts(artifact_filter=wanted)
    return found[0].data if found else None
