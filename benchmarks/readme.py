"""The documents' figures, from ``benchmarks/results/*.json``: ``python -m benchmarks.readme [--check]``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import results
from benchmarks.results import Line, Result
from benchmarks.tables import against, number, spread
from lenet5.core import files
from lenet5.core.errors import DataError, Lenet5Error, UsageError
from lenet5.system.terminal import console, print_error

ROOT = Path(__file__).parent.parent
DOCUMENTS = {ROOT / "README.md": ("time",), ROOT / "docs/performance.md": None}
"""The parts whose tables each shows, under what was aimed at; None: all of them."""
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ORDER = ("time", "rate", "inference", "pipeline", "memory", "large")
"""Of the parts; others follow by name."""


def main(
    folder: Annotated[Path, typer.Option("--results", help="Where the results lie.")] = results.FOLDER,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit code 4 if it would.")] = False,
) -> None:
    """Put the figures between the markers of each document."""
    found = read_all(folder)
    for file, parts in DOCUMENTS.items():
        text = file.read_text(encoding="utf-8")
        wanted = replaced(text, render(found, parts), where=file)
        if check and wanted != text:
            raise DataError(
                f"{file} says other figures than {folder}.", fix="`python -m benchmarks.readme` writes them"
            )
        if not check:
            files.write_text(file, wanted)
            console.print(f"{file}: the figures of {folder}", markup=False)


def read_all(folder: Path) -> list[Result]:
    """Every result, in the README's order.

    Raises:
        DataError: there is none, or one was made with ``--quick``.
    """
    found = [results.read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise DataError(f"There are no results in {folder}.", fix="`make bench` measures them")
    if quick := [each.part for each in found if each.quick]:
        raise DataError(
            "A quick result is no figure.",
            expected="results of a whole run",
            found=f"quick: {', '.join(quick)}",
            fix="`make bench` measures them",
        )
    return sorted(
        found, key=lambda each: (ORDER.index(each.part) if each.part in ORDER else len(ORDER), each.part)
    )


def render(found: Sequence[Result], parts: Sequence[str] | None = None) -> str:
    """Markdown: what was aimed at and what came of it, the headline lines of some parts, where and when."""
    blocks = []
    if verdicts := [verdict for each in found for verdict in each.verdicts]:
        blocks.append(
            _markdown(
                ("aimed at", "target", "measured", "met"),
                [
                    (
                        each.name,
                        f"{each.relation} {number(each.target)} {each.unit}".rstrip(),
                        f"{number(each.measured)} {each.unit}".rstrip(),
                        "yes" if each.met else "**no**",
                    )
                    for each in verdicts
                ],
            )
        )
    for result in (each for each in found if parts is None or each.part in parts):
        titles = dict.fromkeys(line.table for line in result.lines if line.headline)
        blocks += [_table(title, [line for line in result.lines if line.table == title]) for title in titles]
    blocks.append(_origin(found))
    return "\n\n".join(blocks)


def replaced(text: str, figures: str, *, where: Path) -> str:
    """The text with these figures between its markers.

    Raises:
        UsageError: the markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after or END in before:
        raise UsageError(
            f"{where} has no place for the figures.", expected=f"one {BEGIN} and, below, one {END}"
        )
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def _table(title: str, lines: Sequence[Line]) -> str:
    shown = [line for line in lines if line.headline]
    baselines = list(dict.fromkeys(name for line in shown for name in line.baselines))
    unit = shown[0].unit
    rows = []
    for line in shown:
        median, low_to_high = spread(line) or ("none", "")
        value = f"{median} ({low_to_high})" if low_to_high else median
        ratios = [against(line, name, lines) if name in line.baselines else "" for name in baselines]
        rows.append((line.name, value, *ratios, line.note))
    head = f"{title}, {unit}" if unit else title
    columns = (head, "median (range)", *(f"x {name}" for name in baselines), "")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return _markdown(columns, rows)


def _origin(found: Sequence[Result]) -> str:
    machines = " and ".join(
        dict.fromkeys(f"{each.machine['processor']}, {each.machine['cores']} cores" for each in found)
    )
    commits = ", ".join(dict.fromkeys(f"{each.commit[:8]}{'+' if each.dirty else ''}" for each in found))
    days = sorted(each.date[:10] for each in found)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    seeds = ", ".join(dict.fromkeys(str(each.seeds) for each in found))
    others = max(each.others_cores for each in found)
    return (
        f"{machines}; commit {commits}; {when}; "
        f"{seeds} seeds; others used up to {number(others)} cores meanwhile. "
        "A ratio is of medians, with its range over the rounds. Every repetition is in `benchmarks/results/`."
    )


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    try:
        typer.run(main)
    except Lenet5Error as error:
        print_error(error)
        sys.exit(error.exit_code)
