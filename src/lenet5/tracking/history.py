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

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

_MOVE = "move"
_SETTLED = "settled"

Kind = Literal["promote", "force", "rollback", "outside", "abandon"]
"""The gate said yes; it was overruled; a return; moved by other means; a move that was begun, given up."""


class Said(BaseModel):
    """What is written of a move."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str
    after: int
    """The number of the alias' last move that its author knew; 0 for none."""
    before: int | None
    """The version that had the alias; None for none."""
    to: int | None
    kind: Kind
    by: str
    reason: str
    figures: dict[str, float | int | str]


class Move(Said):
    """A line of the log."""

    number: int
    time: datetime
    """By the store's clock."""
    settled: bool


class History:
    """The log of one registered model."""

    def __init__(self, client: MlflowClient, model: str) -> None:
        self._client = client
        self._model = model
        self.name = f"{model}.history"

    def moves(self, alias: str | None = None) -> list[Move]:
        """The moves that count, the oldest first, of one alias or of all."""
        heads: dict[str, int] = {}
        counting = []
        for move in self._all():
            if move.after == heads.get(move.alias, 0):
                heads[move.alias] = move.number
                counting.append(move)
        return [move for move in counting if alias in (None, move.alias)]

    def last(self, alias: str) -> Move | None:
        moves = self.moves(alias)
        return moves[-1] if moves else None

    def append(self, said: Said, *, settled: bool = False) -> Move | None:
        """Write a move; None when another one was faster and this one does not count."""
        self._create()
        tags = {_MOVE: said.model_dump_json()} | ({_SETTLED: "true"} if settled else {})
        source = self._source(said)
        line = self._client.create_model_version(
            self.name,
            source,
            tags=tags,
            description=_describe(said),
            # a server takes the source of a logged model only together with its id
            model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else None,
        )
        return next((move for move in self.moves(said.alias) if move.number == int(line.version)), None)

    def settle(self, move: Move) -> None:
        """Note that the alias is where the move puts it."""
        self._client.set_model_version_tag(self.name, str(move.number), _SETTLED, "true")

    def _all(self) -> list[Move]:
        lines = [line for line in self._search(self.name) if _MOVE in line.tags]
        return sorted((_read(line) for line in lines), key=lambda move: move.number)

    def _create(self) -> None:
        try:
            self._client.create_registered_model(
                self.name,
                description=f"Every move of an alias of {self._model}, one version a move. "
                "`lenet5 history` prints it. Nothing here is a model of its own: do not delete versions.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _source(self, said: Said) -> str:
        """A version must have a source: that of the one moved to; of any other when that was deleted."""
        known = {int(v.version): str(v.source) for v in self._search(self._model)}
        return known.get(said.to or 0) or known.get(said.before or 0) or known[max(known)]

    def _search(self, model: str) -> list[Any]:
        lines: list[Any] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{model}'", page_token=token)
            lines += page
            if not (token := page.token):
                return lines


def _read(line: Any) -> Move:
    said = Said.model_validate_json(line.tags[_MOVE])
    return Move(
        **said.model_dump(),
        number=int(line.version),
        time=datetime.fromtimestamp(line.creation_timestamp / 1000, UTC),
        settled=line.tags.get(_SETTLED) == "true",
    )


def _describe(said: Said) -> str:
    figures = ", ".join(f"{name} {value}" for name, value in said.figures.items())
    lines = [
        f"{said.alias}: {_version(said.before)} → {_version(said.to)} ({said.kind}, by {said.by})",
        said.reason,
        figures,
    ]
    return "\n\n".join(line for line in lines if line)


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"
