"""Accuracy on clean and on corrupted test images: the recipes of the product, several seeds each.

The corruptions are those of MNIST-C with its amounts, which are those of severity 3. Every model is scored on
the same 10,000 corrupted images. No recipe was chosen with the test images.
"""

import statistics

from benchmarks import command, report
from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Result, Verdict
from lenet5.images.corruptions import MNIST_C

RECIPES = ("default", "accuracy", "notebook", "mlp", "robust")
CLEAN, MEAN = "without corruption", "mean of the 15"


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    short = ("--images", "2000") if bench.quick else ()
    runs = bench.take_turns([Contestant(name, "robustness", ("--recipe", name, *short)) for name in RECIPES])
    lines = []
    for name, measured in runs.items():
        models = [each.answer for each in measured]
        values = {
            CLEAN: [model["clean"] for model in models],
            MEAN: [statistics.mean(model["mnist_c"].values()) for model in models],
            **{corruption: [model["mnist_c"][corruption] for model in models] for corruption in MNIST_C},
        }
        lines += [
            Line(table=table, name=name, unit="", values=tuple(of_seeds))
            for table, of_seeds in values.items()
        ]
    return lines, []


def table(result: Result) -> str:
    """One row for each corruption and one column for each recipe: the median of the seeds, in percent."""
    names = list(dict.fromkeys(line.name for line in result.lines))
    rows = [
        (title, *(_cell(result.line(title, name)) for name in names))
        for title in dict.fromkeys(line.table for line in result.lines)
    ]
    seeds = max(len(line.values) for line in result.lines)
    trainings = "One seed."
    if seeds > 1:
        trainings = f"Medians of {seeds} seeds, for the first two rows with the range."
    return (
        f"{report.markdown(('accuracy in %', *names), rows)}\n\n"
        f"{trainings} Commit {result.commit[:8]}, {result.date[:10]}."
    )


def _cell(line: Line) -> str:
    if line.median is None or line.range is None:
        return "none"
    low, high = line.range
    shown = line.table in (CLEAN, MEAN) and len(line.values) > 1
    spread = f" ({100 * low:.2f} – {100 * high:.2f})" if shown else ""
    return f"{100 * line.median:.2f}{spread}"


if __name__ == "__main__":
    command.main("robustness")
