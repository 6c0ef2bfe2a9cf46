"""How many planted label errors are among the first of three rankings of the train images.

In each round, one train label in a thousand is replaced by a random other class, and the default recipe is
trained on these labels.
"""

from benchmarks import command, report
from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Result, Verdict

METHODS = {
    "in_sample": "the model that was trained on these labels",
    "out_of_fold": "linear discriminant analysis on F6, out of fold (`evaluate`)",
    "pixels": "the reference classifier of `validate`, out of fold",
}
FIRST = {"among the first n": 0, "among the first 2n": 1}
"""n is the number of planted labels."""


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    short = ("--images", "6000") if bench.quick else ()
    [measured] = bench.take_turns([Contestant("label errors", "label_errors", short)]).values()
    return [
        Line(
            table=table,
            name=name,
            unit="",
            values=tuple(each.answer["found"][method][position] for each in measured),
        )
        for table, position in FIRST.items()
        for method, name in METHODS.items()
    ], []


def table(result: Result) -> str:
    """One row for each ranking: the median share of the planted labels, and the range, in percent."""
    rows = [(name, *(_cell(result.line(first, name)) for first in FIRST)) for name in METHODS.values()]
    rounds = f"Medians of {result.seeds} rounds with the range" if result.seeds > 1 else "One round"
    return (
        f"{report.markdown(('share of the planted labels in %, scored by', *FIRST), rows)}\n\n"
        f"{rounds}; n is the number of planted labels, about 55 in each. "
        f"Commit {result.commit[:8]}, {result.date[:10]}."
    )


def _cell(line: Line) -> str:
    if line.median is None or line.range is None:
        return "none"
    low, high = line.range
    return f"{100 * line.median:.0f} ({100 * low:.0f} – {100 * high:.0f})"


if __name__ == "__main__":
    command.main("label_errors")
