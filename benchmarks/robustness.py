"""Accuracy on clean and on corrupted test images: the recipes of the product, several seeds each.

The corruptions are those of MNIST-C with its amounts, which are those of severity 3. Every model is scored on the
same corrupted images, all 10,000. The recipes never see the test images or a corruption of this list.
"""

import statistics

from benchmarks import command
from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Verdict
from lenet5.images.corruptions import MNIST_C, SEVERITIES

RECIPES = ("default", "accuracy", "notebook")
SUMMARY, EACH = "accuracy of recipes", "accuracy by corruption"


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    short = ("--images", "2000") if bench.quick else ()
    runs = bench.take_turns(
        [Contestant(name, "robustness", ("--recipe", name, *short)) for name in RECIPES]
    )
    answers = {name: [each.answer for each in measured] for name, measured in runs.items()}
    lines = []

    def add(table: str, name: str, values: list[float], note: str = "") -> None:
        lines.append(
            Line(table=table, name=name, unit="", values=tuple(values), headline=True, note=note)
        )

    for name, models in answers.items():
        means = [statistics.mean(model["mnist_c"].values()) for model in models]
        clean = [model["clean"] for model in models]
        retained = statistics.mean(mean / whole for mean, whole in zip(means, clean, strict=True))
        add(f"{SUMMARY}: clean", name, clean)
        add(f"{SUMMARY}: mean of the 15 corruptions", name, means, f"retained: {retained:.3f}")
        for moved in ("translate", "rotate"):
            for severity in SEVERITIES:
                values = [model["by_severity"][moved][severity - 1] for model in models]
                add(f"{moved}: accuracy by severity", f"{name}, severity {severity}", values)
    for corruption in MNIST_C:
        for name, models in answers.items():
            add(f"{EACH}: {corruption}", name, [model["mnist_c"][corruption] for model in models])
    return sorted(lines, key=lambda line: not line.table.startswith(SUMMARY)), []


if __name__ == "__main__":
    command.main("robustness")
