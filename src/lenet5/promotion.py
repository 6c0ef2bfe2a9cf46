"""Moving an alias from one version to another: asked of the gate, verified, written down, then done.

    1. look      the history, then the alias; finish what an earlier promoter left pending
    2. ask       the gate, on the same test images; verify every file of the model
    3. append    the move to the history: from here on it is decided, or another one was faster
    4. move      the aliases, until they are where the history puts them
    5. settle    the move in the history

Killed anywhere, it leaves the old champion or the new one, and a history that says which.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5 import comparison, environment
from lenet5.errors import DataError, Refused, UsageError
from lenet5.evaluate import metrics
from lenet5.params import Params
from lenet5.paths import Paths
from lenet5.register import gate, paired
from lenet5.terminal import print_warning
from lenet5.tracking import registry, store
from lenet5.tracking.history import History, Kind, Move, Said
from lenet5.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, Version

_SECOND_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Promotion:
    """What became of a request to promote."""

    version: Version
    """With the aliases it has now."""
    verdict: gate.Verdict | None
    """None when there was nothing to ask: it was the champion already."""
    moved: bool
    holder: Version | None
    """The one that has the alias now, if any."""


@dataclass(frozen=True)
class Rollback:
    """What became of a request to go back."""

    version: Version
    """The one that has the alias now."""
    withdrawn: int
    """The one that had it."""


def promote(
    paths: Paths,
    params: Params,
    wanted: str | None = None,
    *,
    alias: str = CHAMPION,
    force: bool = False,
    reason: str = "",
) -> Promotion:
    """Ask the gate about a version and, if it says yes, give it the alias.

    Args:
        paths: the checkout; its test images are needed when the versions were evaluated on different ones.
        params: the model's name, the limits, the test.
        wanted: a version or an alias; the challenger, or else the champion, when None.
        alias: what the version is to become.
        force: overrule a no of the gate. Files that are not as they were registered are never promoted.
        reason: for the history.

    Raises:
        Refused: another promoter was faster; nothing has changed by this one.
        UsageError: there is no such version, or the alias is not to be given by hand.
        DataError: a file of the version is not the one that was registered.
        Unavailable: the store does not answer.
    """
    if alias in (CHALLENGER, PREVIOUS):
        raise UsageError(
            f"{alias} is kept by the pipeline and cannot be given.",
            expected=f"{CHAMPION}, or an alias of your own such as staging",
            found=alias,
        )
    if force and not reason.strip():
        raise UsageError("To overrule the gate, give a reason.", do="--force --reason 'why'")
    with store.reachable():
        desk = _Desk(paths, params, alias)
        wanted = wanted or (CHALLENGER if desk.has(CHALLENGER) or not desk.holder else CHAMPION)
        candidate = desk.find(wanted)
        if desk.holder and candidate.number == desk.holder.number:
            return Promotion(candidate, None, moved=False, holder=candidate)
        verdict = _judge(desk, paths, params, candidate)
        desk.note(candidate, verdict)
        if verdict.decision != "promote" and not force:
            return Promotion(candidate, verdict, moved=False, holder=desk.holder)
        registry.verify(desk.client, candidate)
        kind: Kind = "promote" if verdict.decision == "promote" else "force"
        desk.move(candidate, kind, reason or verdict.why, _figures(verdict))
        now = desk.find(str(candidate.number))
        return Promotion(now, verdict, moved=True, holder=now)


def rollback(
    paths: Paths, params: Params, *, reason: str, to: str | None = None, alias: str = CHAMPION
) -> Rollback:
    """Give an alias back to a version that had it; the gate is not asked.

    Args:
        paths: the checkout.
        params: the model's name.
        reason: for the history.
        to: a version that had the alias; the one that had it before the present one when None.
        alias: what is to be given back.

    Raises:
        Refused: another promoter was faster.
        UsageError: there is nothing to go back to, or that version never had the alias.
        DataError: a file of the version is not the one that was registered.
        Unavailable: the store does not answer.
    """
    if not reason.strip():
        raise UsageError("A rollback needs a reason.", do="say it: --reason 'sevens are read as ones'")
    with store.reachable():
        desk = _Desk(paths, params, alias)
        if desk.holder is None:
            raise UsageError(f"There is no {alias} to go back from.", do="`lenet5 history` tells who was")
        former = [number for number in desk.former() if number != desk.holder.number]
        earlier = ", ".join(map(str, former)) or "none"
        if to is None:
            to = str(former[0]) if former else None
        target = desk.find(to) if to else None
        if target is None or target.number not in former:
            raise UsageError(
                f"There is no going back to version {to}." if to else "There is nothing to go back to.",
                expected=f"a version that was {alias} before: {earlier}",
                found=to,
                do="`lenet5 promote VERSION` asks the gate about any other one",
            )
        try:
            registry.verify(desk.client, target)
        except DataError as error:
            raise DataError(f"{error}\n  others:   {earlier}; name one with --to") from None
        withdrawn = desk.holder.number
        desk.move(target, "rollback", reason, {})
        return Rollback(desk.find(str(target.number)), withdrawn)


@dataclass(frozen=True)
class Line:
    """A move as a reader of the history sees it."""

    move: Move
    happened: bool
    """False for one that was begun and not ended."""


def history(paths: Paths, params: Params) -> list[Line]:
    """Every move of every alias, the latest first.

    Raises:
        Unavailable: the store does not answer.
    """
    with store.reachable():
        client = store.connect(paths)
        name = params.section("register").model_name
        moves = History(client, name).moves()
        at = registry.aliases(client, name) if moves else {}
    last = {move.alias: move.number for move in moves}
    return [
        # a promoter that died after it moved the alias did move it
        Line(move, move.settled or (last[move.alias] == move.number and at.get(move.alias) == move.to))
        for move in reversed(moves)
    ]


def astray(versions: Sequence[Version], lines: Sequence[Line]) -> dict[str, str]:
    """For each alias that is not where the history left it: what is the matter."""
    found = {}
    last = {line.move.alias: line for line in reversed(lines)}
    for alias in {*last, CHAMPION}:
        holder = registry.holder(versions, alias)
        number = holder.number if holder else None
        line = last.get(alias)
        if number == (line.move.to if line else None):
            continue
        if line and not line.happened and number == line.move.before:
            found[alias] = (
                f"a move to {_named(line.move.to)} was begun and not ended; the next one ends it first"
            )
        else:
            left = _named(line.move.to if line else None)
            found[alias] = f"{alias} was moved outside the gate: to {_named(number)}; the history says {left}"
    return found


class _Desk:
    """One promoter at work on one alias: what it saw when it began, and what it may do about it."""

    def __init__(self, paths: Paths, params: Params, alias: str) -> None:
        self.client = store.connect(paths)
        self._name = params.section("register").model_name
        self._alias = alias
        self._history = History(self.client, self._name)
        self._finish_pending()
        # the history first: what another promoter does between the two looks makes our own move void
        self._last = self._history.last(alias)
        self._versions = registry.versions(self.client, self._name)
        self.holder = registry.holder(self._versions, alias)
        self._adopt_outside_move()

    def has(self, alias: str) -> bool:
        return registry.holder(self._versions, alias) is not None

    def find(self, wanted: str) -> Version:
        return registry.find(self.client, self._name, wanted)

    def former(self) -> list[int]:
        """The versions that had the alias and are still there, the latest first."""
        had = [move.before for move in reversed(self._history.moves(self._alias)) if move.settled]
        there = {version.number for version in self._versions}
        return [number for number in dict.fromkeys(had) if number in there]

    def withdrawn(self, version: Version) -> Move | None:
        """The rollback that took the alias from this version, unless it got it back since."""
        for move in reversed(self._history.moves(self._alias)):
            if move.to == version.number:
                return None
            if move.before == version.number and move.kind == "rollback":
                return move
        return None

    def note(self, candidate: Version, verdict: gate.Verdict) -> None:
        """Leave the verdict with the version, for those who look at it in the registry."""
        against = f" against version {self.holder.number}" if self.holder else ""
        registry.tag(self.client, candidate, "gate.decision", f"{verdict.decision}{against}: {verdict.why}")
        if verdict.comparison:
            registry.tag(self.client, candidate, "gate.comparison", str(verdict.comparison))

    def move(self, to: Version, kind: Kind, reason: str, figures: dict[str, float | int | str]) -> None:
        """Write the move down and do it.

        Raises:
            Refused: another promoter was faster.
        """
        said = self._say(to.number, kind, reason, figures)
        done = self._history.append(said)
        if done is None:
            faster = self._history.last(self._alias)
            told = f"version {faster.to} by {faster.by}" if faster else "another promotion"
            raise Refused(
                f"Version {to.number} is not made {self._alias}: another promoter was faster.",
                expected=f"{self._alias} to be {_named(said.before)} still",
                found=told,
                do="look at `lenet5 history`, and ask again if it is still what you want",
            )
        self._apply(done)

    def _apply(self, move: Move) -> None:
        """Put the aliases where the history puts them, and look again whether it has gone on meanwhile."""
        while True:
            if move.alias == CHAMPION and move.before is not None:
                self._set(PREVIOUS, move.before)
            self._set(move.alias, move.to)
            if move.alias == CHAMPION and self._at(CHALLENGER) == move.to:
                self._set(CHALLENGER, None)
            last = self._history.last(move.alias)
            if last is None or last.number == move.number:
                break
            move = last
        self._history.settle(move)

    def _finish_pending(self) -> None:
        last = self._history.last(self._alias)
        if last is None or last.settled:
            return
        at = self._at(self._alias)
        if at not in (last.before, last.to):
            return  # moved by hand since: the history is told of that instead
        try:
            if at != last.to:
                registry.verify(self.client, self.find(str(last.to)))
        except (DataError, UsageError) as error:
            what = str(error).splitlines()[0]
            print_warning(f"a move to version {last.to} that was begun by {last.by} cannot be ended: {what}")
            self._history.append(
                Said(
                    alias=self._alias,
                    after=last.number,
                    before=last.before,
                    to=last.before,
                    kind="abandon",
                    by=environment.user(),
                    reason=f"the move to version {last.to} was begun and could not be ended: {what}",
                    figures={},
                ),
                settled=True,
            )
            return
        print_warning(f"a move of {self._alias} to version {last.to}, begun by {last.by}, is ended first")
        self._apply(last)

    def _adopt_outside_move(self) -> None:
        """Write down that the alias was moved by other means, so that the history goes on from the truth."""
        for wait in (_SECOND_LOOK_SECONDS, 0):
            number = self.holder.number if self.holder else None
            if number == self._before():
                return
            # a slow promoter may have put it there and be about to put it right
            time.sleep(wait)
            self._versions = registry.versions(self.client, self._name)
            self.holder = registry.holder(self._versions, self._alias)
        print_warning(f"{self._alias} was moved to {_named(number)} outside the gate")
        said = self._say(number, "outside", "seen when the next move was asked for", {})
        self._last = self._history.append(said, settled=True) or self._last

    def _say(self, to: int | None, kind: Kind, reason: str, figures: dict[str, float | int | str]) -> Said:
        return Said(
            alias=self._alias,
            after=self._last.number if self._last else 0,
            before=self._before(),
            to=to,
            kind=kind,
            by=environment.user(),
            reason=reason,
            figures=figures,
        )

    def _before(self) -> int | None:
        """Where the history leaves the alias; a move that was begun and not ended did not happen."""
        if self._last is None:
            return None
        return self._last.to if self._last.settled else self._last.before

    def _at(self, alias: str) -> int | None:
        return registry.aliases(self.client, self._name).get(alias)

    def _set(self, alias: str, number: int | None) -> None:
        if self._at(alias) != number:
            registry.set_alias(self.client, self._name, alias, number)


def _judge(desk: _Desk, paths: Paths, params: Params, candidate: Version) -> gate.Verdict:
    register, evaluate = params.section("register"), params.section("evaluate")
    asked = comparison.answers(desk.client, paths, evaluate, candidate, desk.holder)
    figures = metrics.figures(asked.candidate, evaluate.calibration_bins)
    compared = None
    if asked.champion is not None:
        compared = paired.compare(
            _correct(asked.candidate),
            _correct(asked.champion),
            confidence=register.gate.confidence,
            resamples=register.gate.resamples,
            seed=register.gate.seed,
        )
    verdict = gate.judge(register, figures, compared)
    if verdict.decision == "promote" and (withdrawal := desk.withdrawn(candidate)):
        why = f"it was rolled back on {withdrawal.time:%Y-%m-%d %H:%M} UTC: {withdrawal.reason}"
        return replace(verdict, decision="keep", why=why)
    return verdict


def _correct(answers: pd.DataFrame) -> NDArray[np.bool_]:
    return (answers["label"] == answers["predicted"]).to_numpy()


def _figures(verdict: gate.Verdict) -> dict[str, float | int | str]:
    figures: dict[str, float | int | str] = {
        check.name.partition(" of ")[2]: round(check.found, 6)
        for check in verdict.checks
        if " of " in check.name
    }
    if compared := verdict.comparison:
        figures |= {
            "difference": round(compared.difference, 6),
            "gained": compared.gained,
            "lost": compared.lost,
            "p_value": round(compared.p_value, 6),
        }
    return figures


def _named(number: int | None) -> str:
    return "none" if number is None else f"version {number}"
