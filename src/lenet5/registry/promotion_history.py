"""The promotion log for display, and what differs between it and the aliases."""

from collections.abc import Sequence
from dataclasses import dataclass

from lenet5.core.paths import Paths
from lenet5.registry import model_versions
from lenet5.registry.model_versions import CHAMPION, Version
from lenet5.registry.promotion_log import LogEntry, open_log, version_label
from lenet5.stages.params import Params
from lenet5.tracking import store


@dataclass(frozen=True)
class HistoryEntry:
    """A log entry for display."""

    entry: LogEntry
    happened: bool
    """False for a pending change whose alias has not moved."""


def history(paths: Paths, params: Params) -> list[HistoryEntry]:
    """Return every change of every alias, the latest first.

    Raises:
        DataError: an entry of the log cannot be read.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        log = open_log(paths, params)
        entries = log.entries()
        numbers = model_versions.aliases(log.client, log.model) if entries else {}
    last = {entry.alias: entry.number for entry in entries}

    def has_moved(entry: LogEntry) -> bool:
        # a promoter that died between the alias and the mark did move the alias
        return last[entry.alias] == entry.number and numbers.get(entry.alias) == entry.to

    return [HistoryEntry(entry, entry.committed or has_moved(entry)) for entry in reversed(entries)]


def drifted(versions: Sequence[Version], changes: Sequence[HistoryEntry]) -> dict[str, str]:
    """Compare aliases with the log.

    Args:
        versions: All versions of the model.
        changes: The result of :func:`history`.

    Returns:
        For each alias that differs from the log, a description of the difference.
    """
    problems = {}
    last = {change.entry.alias: change for change in reversed(changes)}
    for alias in {*last, CHAMPION}:
        holder = model_versions.holder(versions, alias)
        number = holder.number if holder else None
        change = last.get(alias)
        if number == (change.entry.to if change else None):
            continue
        if change and not change.happened and number == change.entry.before:
            to = version_label(change.entry.to)
            problems[alias] = (
                f"the change to {to} is pending; the next promotion or rollback completes it first"
            )
        else:
            in_log = version_label(change.entry.version_after if change else None)
            problems[alias] = (
                f"{alias} was moved outside the gate: to {version_label(number)}; the history says {in_log}"
            )
    return problems
