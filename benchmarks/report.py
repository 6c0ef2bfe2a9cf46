"""Results as Markdown tables, for the terminal and for the documents."""

from collections.abc import Sequence

from benchmarks.results import Line, Result, Verdict, ratio


def text(result: Result, *, headlines: bool = False) -> str:
    """Every table of a result, or those with a headline alone, and its verdicts where all is shown."""
    lines = [line for line in result.lines if line.headline or not headlines]
    blocks = [
        _table(title, [line for line in lines if line.table == title], result.lines)
        for title in dict.fromkeys(line.table for line in lines)
    ]
    if result.verdicts and not headlines:
        blocks.append(verdicts(result.verdicts))
    return "\n\n".join(blocks)


def verdicts(of: Sequence[Verdict]) -> str:
    """One row for each target."""
    rows = [
        (
            verdict.name,
            f"{verdict.relation} {number(verdict.target)} {verdict.unit}".rstrip(),
            f"{number(verdict.measured)} {verdict.unit}".rstrip(),
            "yes" if verdict.met else "**no**",
        )
        for verdict in of
    ]
    return markdown(("quantity", "target", "measured", "met"), rows)


def _table(title: str, shown: Sequence[Line], lines: Sequence[Line]) -> str:
    baselines = list(dict.fromkeys(name for line in shown for name in line.baselines))
    rows = [
        (
            line.name,
            spread(line),
            *(against(line, name, lines) if name in line.baselines else "" for name in baselines),
            line.note,
        )
        for line in shown
    ]
    head = f"{title}, {shown[0].unit}" if shown[0].unit else title
    columns = (head, "median (range)", *(f"× {name}" for name in baselines), "")
    has_notes = any(line.note for line in shown)
    return markdown(columns if has_notes else columns[:-1], rows if has_notes else [row[:-1] for row in rows])


def spread(line: Line) -> str:
    """Median and range of a line; "none" without a value."""
    if line.median is None or line.range is None:
        return "none"
    low, high = line.range
    return number(line.median) + (f" ({number(low)} – {number(high)})" if len(line.values) > 1 else "")


def against(line: Line, baseline: str, lines: Sequence[Line]) -> str:
    """The ratio to a baseline; "none" where one of them has no value."""
    found = ratio(line, baseline, lines)
    return f"{number(found.of_medians)} ({number(found.low)} – {number(found.high)})" if found else "none"


def number(value: float) -> str:
    """Four digits for a large number or a share near 1, three for all else."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0.9 <= abs(value) < 1:
        return f"{value:.4f}"
    return f"{value:.3g}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
