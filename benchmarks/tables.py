"""Results in words: tables for a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from benchmarks.results import Line, Result, ratio


def tables(result: Result) -> Iterable[Table]:
    """Each table of a result, then its verdicts."""
    for title in dict.fromkeys(line.table for line in result.lines):
        yield _table(title, [line for line in result.lines if line.table == title])
    if result.verdicts:
        table = Table("aimed at", "target", "measured", "met", title=f"{result.part}: targets")
        for verdict in result.verdicts:
            target = f"{verdict.relation} {number(verdict.target)} {verdict.unit}"
            table.add_row(
                verdict.name,
                target,
                f"{number(verdict.measured)} {verdict.unit}",
                "yes" if verdict.met else "no",
            )
        yield table


def _table(title: str, lines: Sequence[Line]) -> Table:
    baselines = list(dict.fromkeys(name for line in lines for name in line.baselines))
    heads = [f"x {name} (range)" for name in baselines]
    table = Table("", "median", "range", "unit", "n", *heads, "note", title=title)
    for line in lines:
        table.add_row(
            line.name,
            *(spread(line) or ("none", "")),
            line.unit,
            str(len(line.values)),
            *(against(line, name, lines) if name in line.baselines else "" for name in baselines),
            line.note,
        )
    return table


def spread(line: Line) -> tuple[str, str] | None:
    """Median and range of a line in words; None when it has no value."""
    if line.median is None or line.range is None:
        return None
    low, high = line.range
    return number(line.median), "" if len(line.values) == 1 else f"{number(low)} – {number(high)}"


def against(line: Line, baseline: str, lines: Sequence[Line]) -> str:
    """The ratio to a baseline in words."""
    found = ratio(line, baseline, lines)
    if found is None:
        return "none"
    return f"{number(found.of_medians)} ({number(found.low)} – {number(found.high)})"


def number(value: float) -> str:
    """Four digits for a large number or a share near 1, three for all else."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0.9 <= abs(value) < 1:
        return f"{value:.4f}"
    return f"{value:.3g}"
