"""Promotion and rollback: move an alias to another version, with a gate and a log.

    look             read the log, then the alias: an immutable AliasState
    finish_pending   complete or abort the pending change of another promoter, and look again
    judge            compare candidate and champion on the test images of both, then ask the gate
    verify           compare every file of the candidate with its registered digest
    commit           append the change to the log, move the alias, mark the change as committed

``commit`` fails when another promoter has appended a change since ``look``: the decision used an old state.
A process that is killed at any step leaves the old champion or the new one, and a log that says which one:
docs/promotion.md has a table of the moments. ``rollback`` does the same without ``judge``.
``lenet5.registry.promotion_log`` explains the log.
"""

import logging
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lenet5.core.errors import DataError, Refused, UsageError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions, recorded_verdict
from lenet5.registry.model_versions import CHALLENGER, CHAMPION, PREVIOUS, Version
from lenet5.registry.promotion_log import (
    AliasChange,
    AliasState,
    EvaluationData,
    Kind,
    LogEntry,
    PromotionLog,
    open_log,
    version_label,
)
from lenet5.stages.params import Params
from lenet5.tracking import data_set, store, tags
from lenet5.tracking.embedded_client import Client

if TYPE_CHECKING:
    from lenet5.registry import gate, robustness

logger = logging.getLogger(__name__)

GATE_FOLDER = "gate"
"""Folder of a version's run with the table of corruptions and slices, against each champion."""
_SECOND_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Promotion:
    """The result of a request to promote."""

    version: Version
    """The candidate, with its current aliases."""
    verdict: "gate.Verdict | None"
    """None when the candidate had the alias already, so that there was nothing to decide."""
    moved: bool
    """Whether this request moved the alias."""
    holder: Version | None
    """The version that has the alias now."""


@dataclass(frozen=True)
class Rollback:
    """The result of a rollback."""

    version: Version
    """The version that has the alias now."""
    withdrawn: int
    """Number of the version that had the alias before."""


def promote(
    paths: Paths,
    params: Params,
    wanted: str | None = None,
    *,
    alias: str = CHAMPION,
    force: bool = False,
    accept_new_data: bool = False,
    reason: str = "",
    client: Client | None = None,
    recorded: bool = False,
) -> Promotion:
    """Ask the gate about a version; move the alias to the version if the gate accepts it.

    Args:
        paths: The checkout. Its test images and DVC's cache are needed when the versions were evaluated on
            different ones.
        params: Name of the model, limits, and parameters of the paired test.
        wanted: A number or an alias; None for the challenger, or for the champion if there is no challenger.
        alias: The alias to move.
        force: Move the alias even if the gate refuses. Changed files are never promoted.
        accept_new_data: Judge on the test images of the version alone when the champion was evaluated on
            others. All limits still apply.
        reason: Text for the log; required with ``force`` and with ``accept_new_data``.
        client: A connection to the store; None to open one.
        recorded: Take the verdict that an earlier call recorded, if nothing that decides it has changed.

    Raises:
        Refused: the version is a model of another data set, or another promoter changed the alias at the same
            time.
        UsageError: there is no such version, or the alias cannot be moved.
        DataError: a file of the version differs from the registered one.
        Unavailable: the store does not answer.
    """
    alias = _valid_alias(alias)
    if force and not reason.strip():
        raise UsageError("To overrule the gate, give a reason.", fix="--force --reason 'why'")
    if accept_new_data and not reason.strip():
        raise UsageError("To accept new test data, give a reason.", fix="--accept-new-data --reason 'why'")
    with store.reachable(paths):
        log = open_log(paths, params, client)
        state = finish_pending(log, look(log, alias))

        candidate = model_versions.choose(state.versions, log.model, wanted or _default_candidate(state))
        is_holder = candidate.number == state.holder_number
        try:
            _require_same_data(log, candidate, state.holder or _champion(state), force=force)
        except Refused as error:
            if candidate.tags.get(tags.DECISION) != (decision := f"reject: {error}"):
                model_versions.tag(log.client, candidate, tags.DECISION, decision)
            raise
        # what the holder was judged on: its tags can show a later evaluation on other data
        judged_on = state.data_of(state.holder_number)
        if is_holder and (judged_on is None or judged_on.test == candidate.tags.get(tags.TEST_DATA)):
            return Promotion(candidate, None, moved=False, holder=candidate)
        decisive = recorded_verdict.digest(params, state, candidate, accept_new_data=accept_new_data)
        if recorded and (known := recorded_verdict.find(candidate, decisive)):
            return Promotion(candidate, known, moved=False, holder=state.holder)

        # imported for a decision alone, because pandas and the comparisons take half a second
        from lenet5.registry import judgement, predictions, robustness

        collected = predictions.collect(log.client, paths, candidate, state.holder, judged_on)
        answers = robustness.collect(log.client, paths, params.evaluate.robustness, candidate, state.holder)
        withdrawal = state.withdrawal_of(candidate.number)
        verdict = judgement.judge(params, collected, answers, withdrawal, accept_new_data=accept_new_data)
        if is_holder and verdict.decision == "keep" and verdict.accepted:
            verdict = replace(verdict, decision="promote", why="it keeps every limit on the new data")
        elif is_holder and verdict.decision in ("keep", "promote"):
            return Promotion(candidate, None, moved=False, holder=candidate)
        if verdict.decision != "promote" and not force:
            _tag_verdict(log, state, candidate, verdict)
            if answers.slices is not None:  # otherwise they are lost, and can come back
                recorded_verdict.write(log.client, candidate, decisive, verdict)
            return Promotion(candidate, verdict, moved=False, holder=state.holder)

        model_versions.verify(log.client, candidate)
        kind: Kind = "force"
        if verdict.decision == "promote":
            kind = "accept_new_data" if verdict.accepted else "promote"
        data = predictions.evaluation_data(log.client, paths, candidate)
        commit(log, state, candidate.number, kind, reason or verdict.why, _figures(verdict), data)
        _tag_verdict(log, state, candidate, verdict)
        versions = model_versions.versions(log.client, log.model)
        promoted = model_versions.choose(versions, log.model, str(candidate.number))
        return Promotion(promoted, verdict, moved=True, holder=model_versions.holder(versions, alias))


@dataclass(frozen=True)
class Review:
    """A verdict of the gate that moves no alias."""

    version: Version
    """The candidate."""
    against: Version | None
    """The version in the place of the champion; None without one."""
    verdict: "gate.Verdict"
    answers: "robustness.PairedAnswers"
    """Of both versions on corrupted images."""


def review(paths: Paths, params: Params, wanted: str, against: str | None = None) -> Review:
    """Ask the gate about a version, and change nothing.

    Args:
        paths: The checkout, for its test images.
        params: Name of the model, limits, and parameters of the tests.
        wanted: A number or an alias.
        against: The version in the place of the champion; None for the champion, and for the champion itself
            the version that it replaced.

    Raises:
        Refused: the two are models of different data sets.
        UsageError: there is no such version.
        DataError: the versions were evaluated on different test images, and those of the candidate are not in
            this checkout; or a file is not the registered one.
        Unavailable: the store does not answer.
    """
    from lenet5.registry import judgement, predictions, robustness

    with store.reachable(paths):
        log = open_log(paths, params)
        state = look(log, CHAMPION)
        candidate = model_versions.choose(state.versions, log.model, wanted)
        if against is not None:
            other: Version | None = model_versions.choose(state.versions, log.model, against)
        else:
            other = _replaced(state) if candidate.number == state.holder_number else state.holder
        _require_same_data(log, candidate, other, force=False)
        data = state.data_of(other.number) if other else None
        collected = predictions.collect(log.client, paths, candidate, other, data)
        answers = robustness.collect(log.client, paths, params.evaluate.robustness, candidate, other)
    withdrawal = state.withdrawal_of(candidate.number) if against is None else None
    return Review(candidate, other, judgement.judge(params, collected, answers, withdrawal), answers)


def _replaced(state: AliasState) -> Version | None:
    """Return the version that had the alias before its current holder got it."""
    former = state.former_holders()
    return next((version for version in state.versions if former and version.number == former[0]), None)


def refusal(promotion: Promotion) -> Refused | None:
    """Return the error for a version that the gate rejected or held back; None when a run may end with 0."""
    verdict = promotion.verdict
    if verdict is None or verdict.decision not in ("reject", "other_data"):
        return None
    holder = promotion.holder
    champion = f"Version {holder.number} stays champion." if holder else "There is still no champion."
    fix = how_to_accept(promotion) if verdict.decision == "other_data" else None
    return Refused(f"Version {promotion.version.number} is not promoted. {champion}\n{verdict}", fix=fix)


def how_to_accept(promotion: Promotion, alias: str = CHAMPION) -> str:
    """Return the advice for a version that is held back as other data."""
    verdict = promotion.verdict
    first = "compare the new data with the old; if they are right"
    if verdict and verdict.change and verdict.change.missing:
        first = "bring the test images, as the gate says above; or, if you know that the new data are right"
    to = f" --to {alias}" if alias != CHAMPION else ""
    return f"{first}, `lenet5 promote {promotion.version.number}{to} --accept-new-data --reason '…'`"


def rollback(
    paths: Paths, params: Params, *, reason: str, to: str | None = None, alias: str = CHAMPION
) -> Rollback:
    """Move an alias back to a version that had it before, without the gate.

    Args:
        paths: The checkout, for the store.
        params: Name of the model.
        reason: Text for the log.
        to: A version that had the alias before; None for the last one.
        alias: The alias to move.

    Raises:
        Refused: another promoter changed the alias at the same time.
        UsageError: there is no earlier version, or the version ``to`` never had the alias.
        DataError: a file of the version differs from the registered one.
        Unavailable: the store does not answer.
    """
    alias = _valid_alias(alias)
    if not reason.strip():
        raise UsageError("A rollback needs a reason.", fix="--reason 'sevens are read as ones'")
    with store.reachable(paths):
        log = open_log(paths, params)
        state = finish_pending(log, look(log, alias))

        if state.holder is None:
            raise UsageError(
                f"There is no {alias} to roll back.", fix="`lenet5 history` shows the earlier ones"
            )
        former = state.former_holders()
        target = _rollback_target(state, log.model, to)
        try:
            model_versions.verify(log.client, target)
        except DataError as error:
            others = ", ".join(str(number) for number in former if number != target.number) or "none"
            raise DataError(f"{error}; or choose another former {alias} with --to: {others}") from None
        commit(log, state, target.number, "rollback", reason, {})
        version = model_versions.find(log.client, log.model, str(target.number))
        return Rollback(version, withdrawn=state.holder.number)


def look(log: PromotionLog, alias: str) -> AliasState:
    """Read the log, then the alias.

    The order matters. Another promoter may commit a change between the two reads. In this order its entry is
    missing in the state, so every change that follows the state is void. In the other order the state would
    hold the entry with the old alias, and the change would be recorded as undone by another client.

    Raises:
        UsageError: the model has no versions.
    """
    entries = log.entries(alias)
    versions = model_versions.versions(log.client, log.model)
    if not versions:
        raise model_versions.not_found([], log.model, alias)
    return AliasState(alias, tuple(entries), tuple(versions))


def finish_pending(log: PromotionLog, state: AliasState) -> AliasState:
    """Complete or abort the pending change of another promoter, and look again.

    A state that drifted is read a second time after one second, because another promoter may have committed a
    change between the two reads. If it still differs from the log, another client has moved the alias.

    Returns:
        A state without a pending change.

    Raises:
        Refused: another promoter changed the alias at the same time.
    """
    looked_twice = False
    while state.pending or (state.drifted and not looked_twice):
        if state.pending:
            _complete_or_abort(log, state, state.pending)
        else:
            time.sleep(_SECOND_LOOK_SECONDS)
            looked_twice = True
        state = look(log, state.alias)
    return state


def commit(
    log: PromotionLog,
    state: AliasState,
    to: int,
    kind: Kind,
    reason: str,
    figures: Mapping[str, float | int],
    data: EvaluationData | None = None,
) -> None:
    """Append a change to the log, move the alias, mark the change as committed.

    When this returns, the version ``to`` had the alias at least for a moment. Another promoter may have moved
    the alias again.

    Args:
        log: The log of the model.
        state: The state that the decision used. It must not have a pending change.
        to: Number of the version that gets the alias.
        kind: Why the alias changes.
        reason: Text for the log.
        figures: The numbers behind the decision, by name.
        data: What the version ``to`` was evaluated on; None for what the log says already.

    Raises:
        Refused: another promoter has appended a change since ``state`` was read.
    """
    if state.drifted:
        holder = version_label(state.holder_number)
        logger.warning("%s was moved outside the gate: to %s", state.alias, holder)
        drift = _append(
            log, state, state.holder_number, "out_of_band", "seen at the next change", {}, committed=True
        )
        state = replace(state, entries=(*state.entries, drift))
    entry = _append(log, state, to, kind, reason, figures, data=data)
    _apply(log, entry)
    if not log.is_committed(entry):  # this process slept, and another promoter aborted the change
        raise _overtaken(log, state, to)


def _champion(state: AliasState) -> Version | None:
    return model_versions.holder(state.versions, CHAMPION)


def _require_same_data(log: PromotionLog, candidate: Version, other: Version | None, *, force: bool) -> None:
    """Compare the data sets of two versions. All versions of a registered model answer with the same classes.

    With ``force``, another name of the data set alone is accepted: someone may have corrected the name.

    Raises:
        Refused: the data sets differ.
    """
    if other is None or other.number == candidate.number:
        return
    found = data_set.differences(candidate.tags, other.tags)
    if not found or (force and set(found) == {data_set.NAME}):
        return
    rename = "; if only the name was corrected: --force --reason '…'" if set(found) == {data_set.NAME} else ""
    raise Refused(
        f"Version {candidate.number} of {log.model} is a model of another data set than version "
        f"{other.number}.",
        expected="; ".join(f"{title} {theirs}" for title, (_, theirs) in found.items()),
        found="; ".join(f"{title} {own}" for title, (own, _) in found.items()),
        fix="give each data set a registered model of its own: set register.model_name in params.yaml, then "
        f"`lenet5 run`{rename}",
    )


def _append(
    log: PromotionLog,
    state: AliasState,
    to: int | None,
    kind: Kind,
    reason: str,
    figures: Mapping[str, float | int],
    *,
    committed: bool = False,
    data: EvaluationData | None = None,
) -> LogEntry:
    change = AliasChange(
        alias=state.alias,
        predecessor=state.last.number if state.last else 0,
        before=state.holder_in_log,
        to=to,
        kind=kind,
        by=log.author,
        reason=reason,
        figures=dict(figures),
    )
    entry = log.append(change, committed=committed, data=data)
    if entry is None:
        raise _overtaken(log, state, to)
    return entry


def _apply(log: PromotionLog, entry: LogEntry) -> None:
    """Move the alias to the version of the last log entry, and mark that entry as committed.

    The last entry can be later than ``entry``: this process may have slept while another promoter went on. So
    this reads the log before it moves the alias, and again afterwards.
    """
    while True:
        entry = log.last(entry.alias) or entry
        if _version_with_alias(log, entry.alias) != entry.to:
            _set(log, entry.alias, entry.to)
        last = log.last(entry.alias)
        if last is None or last.number == entry.number:
            break
    if entry.alias == CHAMPION:
        if entry.before not in (None, entry.to):
            _set(log, PREVIOUS, entry.before)
        if entry.to is not None and _version_with_alias(log, CHALLENGER) == entry.to:
            _set(log, CHALLENGER, None)
    log.mark_committed(entry)


def _complete_or_abort(log: PromotionLog, state: AliasState, pending: LogEntry) -> None:
    """Complete a pending change; abort it if the version is deleted or its files are not as registered."""
    change = f"the change of {pending.alias} to {version_label(pending.to)}, begun by {pending.by}"
    try:
        if state.holder_number != pending.to:
            version = model_versions.choose(state.versions, log.model, str(pending.to))
            model_versions.verify(log.client, version)
    except (DataError, UsageError) as error:
        reason = f"{change}, cannot be completed: {str(error).splitlines()[0]}"
        logger.warning("%s", reason)
        _apply(log, _append(log, state, pending.before, "aborted", reason, {}))
    else:
        logger.warning("%s, is pending and is completed first", change)
        _apply(log, pending)


def _version_with_alias(log: PromotionLog, alias: str) -> int | None:
    return model_versions.aliases(log.client, log.model).get(alias)


def _set(log: PromotionLog, alias: str, number: int | None) -> None:
    model_versions.set_alias(log.client, log.model, alias, number)


def _overtaken(log: PromotionLog, state: AliasState, to: int | None) -> Refused:
    """Return the error for a change that another promoter has overtaken."""
    last = log.last(state.alias)
    return Refused(
        f"{state.alias} was not moved to {version_label(to)}: another promoter was faster.",
        expected=f"{state.alias} to be {version_label(state.holder_number)} still",
        found=f"{version_label(last.to)} by {last.by}: {last.reason}" if last else "an empty log",
        fix="read `lenet5 history`, and repeat the command if you still want the change",
    )


def _default_candidate(state: AliasState) -> str:
    has_challenger = model_versions.holder(state.versions, CHALLENGER) is not None
    return CHAMPION if state.alias == CHAMPION and state.holder and not has_challenger else CHALLENGER


def _rollback_target(state: AliasState, model: str, to: str | None) -> Version:
    """Return the version ``to``, or the last former holder.

    Raises:
        UsageError: there is no such version, or it never had the alias.
    """
    former = state.former_holders()
    if to is None and former:
        to = str(former[0])
    target = model_versions.choose(state.versions, model, to) if to else None
    if target is None or target.number not in former:
        raise UsageError(
            f"{state.alias} cannot go back to version {to}." if to else "There is no version to go back to.",
            expected=f"a version that was {state.alias} before: {', '.join(map(str, former)) or 'none'}",
            found=to,
            fix="`lenet5 promote VERSION` asks the gate about any other version",
        )
    return target


def _tag_verdict(log: PromotionLog, state: AliasState, candidate: Version, verdict: "gate.Verdict") -> None:
    """Store the verdict in tags of the candidate, for readers of the registry."""
    against = f" against version {state.holder_number}" if state.holder_number else ""
    decision = f"{verdict.decision}{against}: {verdict.why}"
    model_versions.set_verdict(log.client, candidate, decision)
    comparison = str(verdict.comparison or "with none")
    if verdict.change and (old := verdict.change.on_champions):
        comparison += f"; on the champion's test images: {old.comparison}"
    model_versions.tag(log.client, candidate, tags.COMPARISON, comparison)
    if verdict.groups is not None:
        name = f"against-version-{state.holder_number}.csv"
        text = verdict.groups.to_csv(index=False, lineterminator="\n")
        log.client.log_text(candidate.run_id, text, f"{GATE_FOLDER}/{name}")


def _figures(verdict: "gate.Verdict") -> dict[str, float | int]:
    """Return the numbers behind a verdict, by name, rounded for the log."""
    figures: dict[str, float | int] = {
        # JSON has no NaN, which stands for a metric that could not be measured
        check.metric: round(check.value, 6)
        for check in verdict.checks
        if math.isfinite(check.value)
    }
    if verdict.groups is not None:
        figures |= {
            "groups": len(verdict.groups),
            "worse_groups": int(verdict.groups["worse"].sum()),
            "lowest_group_p": float(f"{verdict.groups['adjusted'].min():.3g}"),
        }
    if comparison := verdict.comparison:
        figures |= {
            "difference": round(comparison.difference, 6),
            "gained": comparison.gained,
            "lost": comparison.lost,
            "p_value": round(comparison.p_value, 6),
        }
    if change := verdict.change:
        figures["champion_accuracy"] = round(change.on_candidates.champion, 6)
        if old := change.on_champions:
            figures |= {
                "old_data_accuracy": round(old.candidate, 6),
                "old_data_champion_accuracy": round(old.champion, 6),
                "old_data_gained": old.comparison.gained,
                "old_data_lost": old.comparison.lost,
            }
    return figures


def _valid_alias(alias: str) -> str:
    """Return an alias without its ``@``.

    Raises:
        UsageError: MLflow does not accept the name, or only the pipeline may move this alias.
    """
    name = alias.removeprefix("@")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or re.fullmatch(r"latest|v\d+", name, re.IGNORECASE):
        raise UsageError(
            f"{alias!r} cannot be an alias.",
            expected="a letter, then letters, digits, - and _; not latest, and not v1, v2, …",
            found=alias,
        )
    if name in (CHALLENGER, PREVIOUS):
        raise UsageError(
            f"Only the pipeline moves the alias {name}.",
            expected=f"{CHAMPION}, or an alias of your own such as staging",
            found=name,
        )
    return name
