"""The promotion log: which version had which alias, when and why. It is stored in the registry itself.

The log of ``lenet5-mnist`` is the registered model ``lenet5-mnist.history``. Each of its versions is one log
entry: the change of one alias.

MLflow has no compare-and-set for aliases. But it numbers the versions of a model in order, and writes each
version with its tags in one transaction. So a promoter appends its change together with the number of the
last entry that it read, its predecessor. Of two entries with the same predecessor the first one counts, and
the other one is void. This needs no lock, and it is the same on SQLite and on a server.

The alias follows the log. An entry is committed when it has the tag ``settled``. A promoter that dies before
it sets the tag leaves a pending entry, and the next promoter completes or aborts it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions
from lenet5.registry.model_versions import Version
from lenet5.stages.params import Params
from lenet5.system import environment, settings
from lenet5.tracking import store, tags
from lenet5.tracking.embedded_client import Client, StoredVersion

_CHANGE_TAG = "move"
_COMMITTED_TAG = "settled"
_RAW_TAG = "dvc.data/raw"
_KINDS_OF_EARLIER_RELEASES = {"outside": "out_of_band", "abandon": "aborted"}


def _current_kind(kind: Any) -> Any:
    return _KINDS_OF_EARLIER_RELEASES.get(kind, kind) if isinstance(kind, str) else kind


Kind = Annotated[
    Literal["promote", "accept_new_data", "force", "rollback", "out_of_band", "aborted"],
    BeforeValidator(_current_kind),
]
"""Why an alias changed.

promote           the gate accepted the version
accept_new_data   a user accepted other test data, and the gate accepted the version on them
force             a user overruled the gate
rollback          a user returned to an earlier version
out_of_band       another client moved the alias
aborted           a pending change could not be completed
"""


@dataclass(frozen=True)
class EvaluationData:
    """The test data that a version was evaluated on."""

    test: str
    """Digest of the test split; empty when it is not known."""
    raw: str = ""
    """MD5 of the folder ``data/raw`` in the version's ``dvc.lock``; empty when it is not known."""


class AliasChange(BaseModel):
    """One change of one alias, as the log stores it."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",  # a later release may store more fields
        serialize_by_alias=True,
    )

    id: str = Field(default_factory=lambda: uuid4().hex)
    """Identifies an entry to its author: HTTP clients repeat a request that got no answer."""
    alias: str
    predecessor: int = Field(
        validation_alias=AliasChoices("predecessor", "after"),
        serialization_alias="after",  # the name that earlier releases stored
    )
    """Number of the last log entry for this alias that the author read; 0 for none."""
    before: int | None
    """The version that had the alias; None for no version."""
    to: int | None
    """The version that gets the alias; None to remove the alias."""
    kind: Kind
    by: str
    reason: str
    figures: dict[str, float | int]
    """The numbers behind the decision, by name."""


class LogEntry(AliasChange):
    """An alias change in the log."""

    number: int
    """Position in the log, from 1. It is not the number of a model version."""
    time: datetime
    """Clock of the store, UTC."""
    committed: bool = Field(serialization_alias="settled")
    data: EvaluationData | None = Field(default=None, exclude=True)
    """What the version ``to`` was evaluated on at that time; None when the entry does not say."""

    @property
    def version_after(self) -> int | None:
        """Return the version that has the alias after this entry. A pending change has no effect yet."""
        return self.to if self.committed else self.before


@dataclass(frozen=True)
class PromotionLog:
    """The promotion log of one registered model."""

    client: Client
    model: str
    """Name of the registered model."""
    author: str
    """The user who appends entries."""

    @property
    def name(self) -> str:
        """Return the name of the registered model that holds the log."""
        return f"{self.model}.history"

    def entries(self, alias: str | None = None) -> list[LogEntry]:
        """Return the entries that count, the oldest first; void entries are left out.

        Args:
            alias: Only the entries for this alias; None for all entries.

        Raises:
            DataError: an entry cannot be read.
        """
        all_entries = [_read(entity) for entity in model_versions.search(self.client, self.name)]
        numbers = {entry.number for entry in all_entries}
        heads: dict[str, int] = {}  # the last entry that counts, by alias
        counting = []
        for entry in sorted(all_entries, key=lambda entry: entry.number):
            head = heads.get(entry.alias, 0)
            # an entry whose predecessor was deleted still counts: a gap does not end the chain
            if entry.predecessor == head or (entry.predecessor > head and entry.predecessor not in numbers):
                heads[entry.alias] = entry.number
                counting.append(entry)
        return [entry for entry in counting if alias in (None, entry.alias)]

    def last(self, alias: str) -> LogEntry | None:
        """Return the last entry for an alias."""
        entries = self.entries(alias)
        return entries[-1] if entries else None

    def append(
        self, change: AliasChange, *, committed: bool = False, data: EvaluationData | None = None
    ) -> LogEntry | None:
        """Append a change.

        Args:
            change: What to append.
            committed: Whether the alias has its new version already.
            data: What the new version was evaluated on; None if that does not matter.

        Returns:
            The entry; None when it is void, because another promoter appended first.
        """
        model_versions.create(
            self.client,
            self.name,
            f"The promotion log of {self.model}: one version for each change of an alias. `lenet5 history` "
            "prints it. These versions are not models: do not delete them.",
        )
        source = self._source(change)
        self.client.create_model_version(
            self.name,
            source,
            tags={
                _CHANGE_TAG: change.model_dump_json(),
                # for the list of versions in the UI, which shows only the beginning of a tag
                "what": f"{change.alias} {change.before or 'none'} → {change.to or 'none'}",
                **({_COMMITTED_TAG: "true"} if committed else {}),
                **({tags.TEST_DATA: data.test} if data and data.test else {}),
                **({_RAW_TAG: data.raw} if data and data.raw else {}),
            },
            description=_describe(change),
            # a server accepts the source of a logged model only together with the id of that model
            model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else None,
        )
        return next((entry for entry in self.entries(change.alias) if entry.id == change.id), None)

    def mark_committed(self, entry: LogEntry) -> None:
        """Record that the alias has the version of an entry."""
        self.client.set_model_version_tag(self.name, str(entry.number), _COMMITTED_TAG, "true")

    def is_committed(self, entry: LogEntry) -> bool:
        """Read the log again; return whether an entry counts and is committed."""
        return any(e.committed for e in self.entries(entry.alias) if e.number == entry.number)

    def _source(self, change: AliasChange) -> str:
        """Return the source of the new version, or of the old one, or of any: MLflow requires a source."""
        entities = model_versions.search(self.client, self.model)
        sources = {int(entity.version): str(entity.source) for entity in entities}
        return sources.get(change.to or 0) or sources.get(change.before or 0) or sources[max(sources)]


@dataclass(frozen=True)
class AliasState:
    """One alias at one moment, as the log and the registry show it."""

    alias: str
    entries: tuple[LogEntry, ...]
    """The log entries of this alias that count, the oldest first."""
    versions: tuple[Version, ...]
    """All versions of the model, the newest first."""

    @property
    def last(self) -> LogEntry | None:
        """Return the last log entry."""
        return self.entries[-1] if self.entries else None

    @property
    def holder(self) -> Version | None:
        """Return the version that has the alias in the registry."""
        return model_versions.holder(self.versions, self.alias)

    @property
    def holder_number(self) -> int | None:
        """Return the number of the holder."""
        return self.holder.number if self.holder else None

    @property
    def holder_in_log(self) -> int | None:
        """Return the number of the version that has the alias according to the log."""
        return self.last.version_after if self.last else None

    @property
    def drifted(self) -> bool:
        """Return whether the registry differs from the log."""
        return self.holder_number != self.holder_in_log

    @property
    def pending(self) -> LogEntry | None:
        """Return the last entry if it is not committed, unless another client has moved the alias since."""
        last = self.last
        return last if last and not last.committed and self.holder_number in (last.before, last.to) else None

    def former_holders(self) -> list[int]:
        """Return the existing versions that had the alias before the current one, the latest first."""
        committed = [entry for entry in self.entries if entry.committed]
        numbers = [self.holder_in_log, *(entry.before for entry in reversed(committed))]
        existing = {version.number for version in self.versions} - {self.holder_number}
        return [number for number in dict.fromkeys(numbers) if number in existing]

    def data_of(self, number: int | None) -> EvaluationData | None:
        """Return what a version was evaluated on when it got the alias for the last time.

        The tags of the version show its latest evaluation, which can be on other data.
        """
        entries = (entry for entry in reversed(self.entries) if entry.committed and entry.to == number)
        return next((entry.data for entry in entries if entry.data), None)

    def withdrawal_of(self, number: int) -> LogEntry | None:
        """Return the rollback that took the alias from a version, unless the version got it back later."""
        for entry in reversed(self.entries):
            if entry.committed and entry.to == number:
                return None
            if entry.committed and entry.before == number and entry.kind == "rollback":
                return entry
        return None


def open_log(paths: Paths, params: Params, client: Client | None = None) -> PromotionLog:
    """Return the promotion log of the registered model that the parameters name."""
    author = environment.user(settings.load(paths).mlflow_tracking_username)
    return PromotionLog(client or store.connect(paths), params.register_.model_name, author)


def version_label(number: int | None) -> str:
    """Return ``version 7``, or ``none``."""
    return "none" if number is None else f"version {number}"


def _read(entity: StoredVersion) -> LogEntry:
    test_data = entity.tags.get(tags.TEST_DATA)
    try:
        return LogEntry(
            **AliasChange.model_validate_json(entity.tags.get(_CHANGE_TAG, "")).model_dump(),
            number=int(entity.version),
            time=datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
            committed=entity.tags.get(_COMMITTED_TAG) == "true",
            data=EvaluationData(test_data, entity.tags.get(_RAW_TAG, "")) if test_data else None,
        )
    except ValidationError as error:
        raise DataError(
            f"The promotion log is damaged: version {entity.version} of {entity.name} is not a log entry.",
            expected=f"a tag {_CHANGE_TAG} that `lenet5` wrote",
            found="; ".join(str(details["msg"]) for details in error.errors()),
            fix=f"restore the tag, or delete version {entity.version} of {entity.name}",
        ) from None


def _describe(change: AliasChange) -> str:
    """Return the description of an entry in the UI, as Markdown."""
    figures = ", ".join(f"{name} {value}" for name, value in change.figures.items())
    paragraphs = [
        f"{change.alias}: {version_label(change.before)} → {version_label(change.to)} "
        f"({change.kind}, by {change.by})",
        change.reason,
        figures,
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
