"""Who was champion, when and why: a log in the registry itself.

The log of ``lenet5-mnist`` is the registered model ``lenet5-mnist.history``: each of its versions is a move.
MLflow has no compare-and-set for aliases, but it numbers versions one after the other, in one transaction
with their tags. So a promoter appends its move together with the number of the move it has seen last, and
looks where it landed: of two that follow the same move, the first counts and the other is void. Nothing
blocks, and it is the same on SQLite and on any server.

The alias follows the log. A move is done when the log says so (tag ``settled``) or the alias is where the
move puts it; a promoter that dies in between leaves a move that is pending, and the next one finishes it.
"""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from mlflow import MlflowClient
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lenet5.core.errors import DataError
from lenet5.registry import model_versions

_MOVE = "move"
_SETTLED = "settled"

Kind = Literal["promote", "force", "rollback", "outside", "abandon"]
"""The gate said yes; it was overruled; a return; moved by other means; a move that was begun, given up."""


class AliasChange(BaseModel):
    """What is written down of a move."""

    # a later release may write down more
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(default_factory=lambda: uuid4().hex)
    """By which a promoter knows its own: a client that got no answer sends a request again."""
    alias: str
    after: int
    """The number of the alias' last move that its author knew; 0 for none."""
    before: int | None
    """The version that had the alias; None for none."""
    to: int | None
    kind: Kind
    by: str
    reason: str
    figures: dict[str, float | int]


class LogEntry(AliasChange):
    """A move as it stands in the log."""

    number: int
    time: datetime
    """By the store's clock."""
    settled: bool

    @property
    def left_at(self) -> int | None:
        """Where the log leaves the alias: a move that was not settled did not happen."""
        return self.to if self.settled else self.before


class PromotionLog:
    """The log of one registered model."""

    def __init__(self, client: MlflowClient, model: str) -> None:
        self._client = client
        self._model = model
        self.name = f"{model}.history"

    def entries(self, alias: str | None = None) -> list[LogEntry]:
        """The moves that count, the oldest first, of one alias or of all.

        Raises:
            DataError: an entry cannot be read.
        """
        known = [_read(line) for line in model_versions.search(self._client, self.name)]
        numbers = {entry.number for entry in known}
        heads: dict[str, int] = {}
        counting = []
        for entry in sorted(known, key=lambda entry: entry.number):
            head = heads.get(entry.alias, 0)
            # one that somebody deleted leaves a gap and does not end the chain
            if entry.after == head or (entry.after > head and entry.after not in numbers):
                heads[entry.alias] = entry.number
                counting.append(entry)
        return [entry for entry in counting if alias in (None, entry.alias)]

    def last(self, alias: str) -> LogEntry | None:
        entries = self.entries(alias)
        return entries[-1] if entries else None

    def append(self, move: AliasChange, *, settled: bool = False) -> LogEntry | None:
        """Write a move down; None when another one was faster and this one does not count."""
        model_versions.create(
            self._client,
            self.name,
            f"Every move of an alias of {self._model}, one version a move; `lenet5 history` prints it. "
            "Nothing here is a model of its own: do not delete versions.",
        )
        source = self._source(move)
        self._client.create_model_version(
            self.name,
            source,
            tags={
                _MOVE: move.model_dump_json(),
                # for the UI's list of versions, which shows a tag's beginning
                "what": f"{move.alias} {move.before or 'none'} → {move.to or 'none'}",
                **({_SETTLED: "true"} if settled else {}),
            },
            description=_describe(move),
            # a server takes the source of a logged model only together with its id
            model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else None,
        )
        return next((entry for entry in self.entries(move.alias) if entry.id == move.id), None)

    def settle(self, entry: LogEntry) -> None:
        """Note that the alias is where the move puts it."""
        self._client.set_model_version_tag(self.name, str(entry.number), _SETTLED, "true")

    def _source(self, move: AliasChange) -> str:
        """A version must have a source: that of the one moved to; of any other when that was deleted."""
        known = {int(v.version): str(v.source) for v in model_versions.search(self._client, self._model)}
        return known.get(move.to or 0) or known.get(move.before or 0) or known[max(known)]


def named(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _read(line: Any) -> LogEntry:
    try:
        return LogEntry(
            **AliasChange.model_validate_json(line.tags.get(_MOVE, "")).model_dump(),
            number=int(line.version),
            time=datetime.fromtimestamp(line.creation_timestamp / 1000, UTC),
            settled=line.tags.get(_SETTLED) == "true",
        )
    except ValidationError as error:
        raise DataError(
            f"The history cannot be read: version {line.version} of {line.name} is no move.",
            expected=f"a tag {_MOVE} that `lenet5` wrote",
            found="; ".join(str(details["msg"]) for details in error.errors()),
            fix=f"put the tag back, or delete version {line.version} of {line.name}",
        ) from None


def _describe(move: AliasChange) -> str:
    figures = ", ".join(f"{name} {value}" for name, value in move.figures.items())
    lines = [
        f"{move.alias}: {named(move.before)} → {named(move.to)} ({move.kind}, by {move.by})",
        move.reason,
        figures,
    ]
    return "\n\n".join(line for line in lines if line)
