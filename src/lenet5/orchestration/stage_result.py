"""The result of a remote stage: a JSON artifact of its flow run, read by the flow that sent the stage."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from pydantic import BaseModel, ConfigDict

KEY = "lenet5-stage-result"


class StageResult(BaseModel):
    """How a remote stage ended, or why no workspace could be made for it."""

    model_config = ConfigDict(frozen=True)

    exit_code: int = 0
    message: str = ""
    """Why it failed."""
    lock_entry: str = ""
    """The stage's entry in ``dvc.lock``, as YAML: the order of its keys counts, and JSON columns lose it."""


def publish(client: SyncPrefectClient, flow_run: UUID | str, result: StageResult) -> None:
    """Attach a result to a flow run."""
    client.create_artifact(
        ArtifactCreate(
            key=KEY,
            type="json",
            description="How the stage ended, for the flow that sent it",
            data=result.model_dump(mode="json"),
            flow_run_id=UUID(str(flow_run)),
        )
    )


def read(client: SyncPrefectClient, flow_run: UUID) -> StageResult | None:
    """Return the result that is attached to a flow run; None when it ended without one."""
    by_run = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]), key=ArtifactFilterKey(any_=[KEY])
    )
    artifacts = client.read_artifacts(artifact_filter=by_run)
    return StageResult.model_validate(artifacts[0].data) if artifacts else None
