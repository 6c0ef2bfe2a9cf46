"""Moving an alias from one version to another: asked of the gate, verified, written down, then done.

    1. look      the history, then the alias; finish what an earlier promoter left pending
    2. ask       the gate, on the same test images; verify every file of the model
    3. append    the move to the history: from here on it is decided, or another one was faster
    4. move      the alias, until it is where the history puts it
    5. settle    the move in the history

Killed anywhere, it leaves the old champion or the new one, and a history that says which.
"""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.errors import DataError, Refused, UsageError
from lenet5.core.paths import Paths
from lenet5.model import metrics
from lenet5.registry import gate, model_versions, paired_test, predictions
from lenet5.registry.model_versions import CHALLENGER, CHAMPION, PREVIOUS, Version
from lenet5.registry.promotion_log import AliasChange, Kind, LogEntry, PromotionLog, named
from lenet5.stages.params import Params
from lenet5.system import environment
from lenet5.tracking import store, tags

log = logging.getLogger(__name__)

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
        wanted: a version or an alias; the challenger when None, or the champion if there is no challenger.
        alias: what the version is to become.
        force: overrule a no of the gate. Files that are not as they were registered are never promoted.
        reason: for the history.

    Raises:
        Refused: another promoter was faster.
        UsageError: there is no such version, or the alias cannot be given.
        DataError: a file of the version is not the one that was registered.
        Unavailable: the store does not answer.
    """
    alias = _checked(alias)
    if force and not reason.strip():
        raise UsageError("To overrule the gate, give a reason.", do="--force --reason 'why'")
    with store.reachable(paths):
        promoter = _Promoter(paths, params, alias)
        idle = alias == CHAMPION and promoter.holder and not promoter.has(CHALLENGER)
        candidate = promoter.find(wanted or (CHAMPION if idle else CHALLENGER))
        if promoter.holder and candidate.number == promoter.holder.number:
            return Promotion(candidate, None, moved=False, holder=candidate)
        verdict = _judge(promoter, paths, params, candidate)
        if verdict.decision != "promote" and not force:
            promoter.note(candidate, verdict)
            return Promotion(candidate, verdict, moved=False, holder=promoter.holder)
        model_versions.verify(promoter.client, candidate)
        kind: Kind = "promote" if verdict.decision == "promote" else "force"
        figures = _figures(verdict)
        promoter.move(candidate, kind, reason or verdict.why, figures)
        promoter.note(candidate, verdict)
        now = model_versions.versions(promoter.client, candidate.name)
        version = next(each for each in now if each.number == candidate.number)
        return Promotion(version, verdict, moved=True, holder=model_versions.holder(now, alias))


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
    alias = _checked(alias)
    if not reason.strip():
        raise UsageError("A rollback needs a reason.", do="say it: --reason 'sevens are read as ones'")
    with store.reachable(paths):
        promoter = _Promoter(paths, params, alias)
        if promoter.holder is None:
            raise UsageError(f"There is no {alias} to go back from.", do="`lenet5 history` tells who was")
        former = promoter.former()
        earlier = ", ".join(map(str, former)) or "none"
        if to is None and former:
            to = str(former[0])
        target = promoter.find(to) if to else None
        if target is None or target.number not in former:
            raise UsageError(
                f"There is no going back to version {to}." if to else "There is nothing to go back to.",
                expected=f"a version that was {alias} before: {earlier}",
                found=to,
                do="`lenet5 promote VERSION` asks the gate about any other one",
            )
        try:
            model_versions.verify(promoter.client, target)
        except DataError as error:
            raise DataError(f"{error}\n  former:   {earlier}; --to names one") from None
        withdrawn = promoter.holder.number
        promoter.move(target, "rollback", reason, {})
        return Rollback(promoter.find(str(target.number)), withdrawn)


@dataclass(frozen=True)
class Line:
    """An entry of the history as a reader sees it."""

    entry: LogEntry
    happened: bool
    """False for a move that was begun and not ended."""


def history(paths: Paths, params: Params) -> list[Line]:
    """Every move of every alias, the latest first.

    Raises:
        DataError: an entry cannot be read.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        client = store.connect(paths)
        name = params.register_.model_name
        entries = PromotionLog(client, name).entries()
        at = model_versions.aliases(client, name) if entries else {}
    last = {entry.alias: entry.number for entry in entries}
    return [
        # a promoter that died after it moved the alias did move it
        Line(entry, entry.settled or (last[entry.alias] == entry.number and at.get(entry.alias) == entry.to))
        for entry in reversed(entries)
    ]


def astray(versions: Sequence[Version], lines: Sequence[Line]) -> dict[str, str]:
    """For each alias that is not where the history left it: what is the matter."""
    found = {}
    last = {line.entry.alias: line for line in reversed(lines)}
    for alias in {*last, CHAMPION}:
        holder = model_versions.holder(versions, alias)
        number = holder.number if holder else None
        line = last.get(alias)
        if number == (line.entry.to if line else None):
            continue
        if line and not line.happened and number == line.entry.before:
            to = named(line.entry.to)
            found[alias] = f"a move to {to} was begun and not ended; the next one ends it first"
        else:
            left = named(line.entry.left_at if line else None)
            found[alias] = f"{alias} was moved outside the gate: to {named(number)}; the history says {left}"
    return found


class _Promoter:
    """One at work on one alias: what it saw when it began, and what it may do about it."""

    client: store.Client
    holder: Version | None
    _last: LogEntry | None
    _versions: list[Version]

    def __init__(self, paths: Paths, params: Params, alias: str) -> None:
        self.client = store.connect(paths)
        self._name = params.register_.model_name
        self._alias = alias
        self._history = PromotionLog(self.client, self._name)
        looked = 0
        while looked < 2:
            self._look()
            if (pending := self._pending()) is not None:
                self._finish(pending)
            elif self._number() == self._left_at():
                break
            else:
                # moved by other means; or somebody is in the middle of a move, and is seen to be so soon
                looked += 1
                time.sleep(_SECOND_LOOK_SECONDS if looked == 1 else 0)

    def has(self, alias: str) -> bool:
        return model_versions.holder(self._versions, alias) is not None

    def find(self, wanted: str) -> Version:
        return model_versions.find(self.client, self._name, wanted)

    def former(self) -> list[int]:
        """The other versions that had the alias and are still there, the latest first."""
        settled = [entry for entry in self._history.entries(self._alias) if entry.settled]
        had = [self._left_at(), *(entry.before for entry in reversed(settled))]
        there = {version.number for version in self._versions} - {self._number()}
        return [number for number in dict.fromkeys(had) if number in there]

    def withdrawn(self, version: Version) -> LogEntry | None:
        """The rollback that took the alias from this version, unless it got it back since."""
        for entry in reversed(self._history.entries(self._alias)):
            if entry.settled and entry.to == version.number:
                return None
            if entry.settled and entry.before == version.number and entry.kind == "rollback":
                return entry
        return None

    def note(self, candidate: Version, verdict: gate.Verdict) -> None:
        """Leave the verdict with the version, for those who look at it in the registry."""
        against = f" against version {self.holder.number}" if self.holder else ""
        decision = f"{verdict.decision}{against}: {verdict.why}"
        model_versions.tag(self.client, candidate, tags.DECISION, decision)
        model_versions.tag(self.client, candidate, tags.COMPARISON, str(verdict.comparison or "with none"))

    def move(self, to: Version, kind: Kind, reason: str, figures: dict[str, float | int]) -> None:
        """Write the move down and do it. Others may have gone on from it by the time this ends.

        Raises:
            Refused: another promoter was faster.
        """
        if self._number() != self._left_at():
            log.warning("%s was moved to %s outside the gate", self._alias, named(self._number()))
            seen = "seen when the next move was asked for"
            self._last = self._append(self._number(), "outside", seen, {}, settled=True)
        entry = self._append(to.number, kind, reason, figures)
        self._apply(entry)
        if not any(e.settled and e.number == entry.number for e in self._history.entries(self._alias)):
            raise self._slower(to.number)  # it was given up by another one while this one slept

    def _look(self) -> None:
        # the history first: what another promoter does between the two looks makes our own move void
        self._last = self._history.last(self._alias)
        self._versions = model_versions.versions(self.client, self._name)
        self.holder = model_versions.holder(self._versions, self._alias)
        if not self._versions:
            self.find(self._alias)  # says that there are none

    def _number(self) -> int | None:
        return self.holder.number if self.holder else None

    def _left_at(self) -> int | None:
        return self._last.left_at if self._last else None

    def _pending(self) -> LogEntry | None:
        """A move that was begun and not ended, unless the alias was moved elsewhere since."""
        last = self._last
        return last if last and not last.settled and self._number() in (last.before, last.to) else None

    def _finish(self, pending: LogEntry) -> None:
        try:
            if self._number() != pending.to:
                model_versions.verify(self.client, self.find(str(pending.to)))
        except (DataError, UsageError) as error:
            what = str(error).splitlines()[0]
            gave_up = f"the move to version {pending.to}, begun by {pending.by}, cannot be ended: {what}"
            log.warning("%s", gave_up)
            self._apply(self._append(pending.before, "abandon", gave_up, {}))
            return
        log.warning(
            f"the move of {self._alias} to version {pending.to}, begun by {pending.by}, is ended first"
        )
        self._apply(pending)

    def _append(
        self,
        to: int | None,
        kind: Kind,
        reason: str,
        figures: dict[str, float | int],
        *,
        settled: bool = False,
    ) -> LogEntry:
        move = AliasChange(
            alias=self._alias,
            after=self._last.number if self._last else 0,
            before=self._left_at(),
            to=to,
            kind=kind,
            by=environment.user(),
            reason=reason,
            figures=figures,
        )
        entry = self._history.append(move, settled=settled)
        if entry is None:
            raise self._slower(to)
        return entry

    def _slower(self, to: int | None) -> Refused:
        faster = self._history.last(self._alias)
        return Refused(
            f"{named(to).capitalize()} is not made {self._alias}: another promoter was faster.",
            expected=f"{self._alias} to be {named(self._number())} still",
            found=f"{named(faster.to)} by {faster.by}: {faster.reason}" if faster else "no history",
            do="look at `lenet5 history`, and ask again if it is still what you want",
        )

    def _apply(self, entry: LogEntry) -> None:
        """Put the aliases where the history puts them, and look again whether it has gone on meanwhile."""
        while True:
            entry = self._history.last(entry.alias) or entry  # we may have slept since
            if self._at(entry.alias) != entry.to:
                self._set(entry.alias, entry.to)
            last = self._history.last(entry.alias)
            if last is None or last.number == entry.number:
                break
        if entry.alias == CHAMPION:
            self._tidy(entry)
        self._history.settle(entry)

    def _tidy(self, entry: LogEntry) -> None:
        """The aliases that follow the champion."""
        if entry.before not in (None, entry.to):
            self._set(PREVIOUS, entry.before)
        if entry.to is not None and self._at(CHALLENGER) == entry.to:
            self._set(CHALLENGER, None)

    def _at(self, alias: str) -> int | None:
        return model_versions.aliases(self.client, self._name).get(alias)

    def _set(self, alias: str, number: int | None) -> None:
        model_versions.set_alias(self.client, self._name, alias, number)


def _judge(promoter: _Promoter, paths: Paths, params: Params, candidate: Version) -> gate.Verdict:
    register, evaluate = params.register_, params.evaluate
    asked = predictions.answers(promoter.client, paths, evaluate, candidate, promoter.holder)
    figures = metrics.figures(asked.candidate, evaluate.calibration_bins)
    compared = None
    if asked.champion is not None:
        compared = paired_test.compare(
            _correct(asked.candidate),
            _correct(asked.champion),
            confidence=register.gate.confidence,
            resamples=register.gate.resamples,
            seed=register.gate.seed,
        )
    verdict = gate.judge(register, figures, compared)
    if verdict.decision == "promote" and (withdrawal := promoter.withdrawn(candidate)):
        why = f"it was rolled back on {withdrawal.time:%Y-%m-%d %H:%M} UTC: {withdrawal.reason}"
        return replace(verdict, decision="keep", why=why)
    return verdict


def _correct(answers: pd.DataFrame) -> NDArray[np.bool_]:
    return (answers["label"] == answers["predicted"]).to_numpy()


def _figures(verdict: gate.Verdict) -> dict[str, float | int]:
    figures: dict[str, float | int] = {check.metric: round(check.found, 6) for check in verdict.checks}
    if compared := verdict.comparison:
        figures |= {
            "difference": round(compared.difference, 6),
            "gained": compared.gained,
            "lost": compared.lost,
            "p_value": round(compared.p_value, 6),
        }
    return figures


def _checked(alias: str) -> str:
    """An alias that may be given, without its ``@``."""
    name = alias.removeprefix("@")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or re.fullmatch(r"latest|v\d+", name, re.IGNORECASE):
        raise UsageError(
            f"{alias!r} cannot be an alias.",
            expected="letters, digits, - and _, a letter first; not latest, and not v1, v2, …",
            found=alias,
        )
    if name in (CHALLENGER, PREVIOUS):
        raise UsageError(
            f"{name} is kept by the pipeline and cannot be given.",
            expected=f"{CHAMPION}, or an alias of your own such as staging",
            found=name,
        )
    return name
