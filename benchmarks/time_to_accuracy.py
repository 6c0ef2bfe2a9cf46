"""How long until 98.72 % of the test images are read right: by the fit, and by the whole process.

The product's recipes never see the test set: it is scored after the fit, and the line says how many seeds
reached the target. The notebook is counted twice: all its 10 epochs, and up to the end of the first one that
reaches the target on the test set. Peers train with the notebook's recipe until then, for at most 20 epochs.
"""

import math
import statistics
from collections.abc import Callable, Sequence

from benchmarks.bench import Bench, Contestant
from benchmarks.measure import Measured
from benchmarks.results import Line, Verdict

TARGET = 0.9872
RECIPES = ("fast", "default", "accuracy")
PEERS = {"PyTorch, notebook's recipe": "torch_lenet", "JAX, notebook's recipe": "jax_lenet"}
ALL_EPOCHS, FIRST_CROSSING = "notebook, all 10 epochs", "notebook, first crossing"
BASELINES = (ALL_EPOCHS, FIRST_CROSSING)
SECONDS = "seconds to 98.72 %"
ACCURACY = "test accuracy"

Found = dict[str, list[Measured]]


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    found = bench.take_turns([*recipes(bench), *_others(bench)])
    lines = [*_times(found), *accuracies(found)]
    return lines, [] if bench.quick else _verdicts(found)


def recipes(bench: Bench) -> list[Contestant]:
    short = ("--images", "6400", "--set", "train.epochs=1") if bench.quick else ()
    return [Contestant(name, "product", ("train", "--recipe", name, *short)) for name in RECIPES]


def _others(bench: Bench) -> list[Contestant]:
    short = ("--images", "6400", "--epochs", "1") if bench.quick else ()
    until = ("train", "--until", str(TARGET), *(short or ("--epochs", "20")))
    return [
        Contestant("notebook", "notebook", ("train", *short)),
        *(Contestant(name, program, until, peer=True) for name, program in PEERS.items()),
    ]


def crossing(done: Measured) -> float | None:
    """Seconds of fit until the end of the first epoch that reaches the target; None: it never did."""
    seconds = 0.0
    for epoch in done.answer["epochs"]:
        seconds += epoch["seconds"]
        if epoch["test_accuracy"] >= TARGET:
            return seconds
    return None


def _times(found: Found) -> list[Line]:
    lines = []
    for table, whole in ((f"{SECONDS}, fit", False), (f"{SECONDS}, whole process", True)):
        for name in RECIPES:
            lines.append(_of_recipe(table, name, found[name], whole=whole))
        for name, runs in found.items():
            if name not in RECIPES:
                lines.append(_of_crossing(table, name, runs, whole=whole))
        seconds = [each.wall_s if whole else each.answer["fit_s"] for each in found["notebook"]]
        lines.append(Line(table=table, name=ALL_EPOCHS, unit="s", values=tuple(seconds), headline=True))
    table = "CPU of the whole process"
    for name, runs in found.items():
        values = tuple(each.cpu_s for each in runs)
        baselines = ("notebook",) if name != "notebook" else ()
        lines.append(Line(table=table, name=name, unit="CPU-s", values=values, baselines=baselines))
    return lines


def _of_recipe(table: str, name: str, runs: Sequence[Measured], *, whole: bool) -> Line:
    reached = sum(each.answer["test_accuracy"] >= TARGET for each in runs)
    return Line(
        table=table,
        name=name,
        unit="s",
        values=tuple(each.wall_s if whole else each.answer["fit_s"] for each in runs),
        baselines=BASELINES,
        headline=True,
        note=f"{reached} of {len(runs)} seeds reached it",
    )


def _of_crossing(table: str, name: str, runs: Sequence[Measured], *, whole: bool) -> Line:
    values = []
    for each in runs:
        if (seconds := crossing(each)) is not None:
            around = each.wall_s - each.answer["fit_s"] if whole else 0.0
            values.append(seconds + around)
    return Line(
        table=table,
        name=FIRST_CROSSING if name == "notebook" else name,
        unit="s",
        values=tuple(values),
        baselines=BASELINES if name != "notebook" else (ALL_EPOCHS,),
        headline=True,
        note=f"{len(values)} of {len(runs)} seeds reached it",
    )


def accuracies(found: Found) -> list[Line]:
    """Accuracy at the end of each training, on the test set, and on what the recipe itself may see."""
    lines = []
    for name, runs in found.items():
        values = [_last_accuracy(each) for each in runs]
        note = f"mean {statistics.mean(values):.4f}"
        lines.append(Line(table=ACCURACY, name=name, unit="", values=tuple(values), headline=True, note=note))
    for name in RECIPES:
        values = [each.answer["validation_accuracy"] for each in found[name]]
        lines.append(Line(table="validation accuracy", name=name, unit="", values=tuple(values)))
    return lines


def _last_accuracy(done: Measured) -> float:
    if "test_accuracy" in done.answer:
        return float(done.answer["test_accuracy"])
    return float(done.answer["epochs"][-1]["test_accuracy"])


def _crossing(runs: Sequence[Measured]) -> float:
    """The median; infinite where a seed never crosses."""
    return statistics.median(math.inf if (s := crossing(each)) is None else s for each in runs)


def _verdicts(found: Found) -> list[Verdict]:
    def fit(name: str) -> float:
        return statistics.median(each.answer["fit_s"] for each in found[name])

    def accuracy(name: str, of: Callable[[Sequence[float]], float]) -> float:
        return of([_last_accuracy(each) for each in found[name]])

    return [
        Verdict(
            name="default: mean test accuracy",
            measured=accuracy("default", statistics.mean),
            relation=">=",
            target=0.990,
        ),
        Verdict(
            name="default: fit, of the notebook's 10 epochs",
            measured=fit("default") / fit("notebook"),
            relation="<=",
            target=1 / 5,
        ),
        Verdict(
            name="default: fit, of the fastest peer's until its first crossing",
            measured=fit("default") / min(_crossing(found[peer]) for peer in PEERS),
            relation="<=",
            target=1,
        ),
        Verdict(
            name="fast: test accuracy of its worst seed",
            measured=accuracy("fast", min),
            relation=">=",
            target=TARGET,
        ),
        Verdict(
            name="fast: fit, of the notebook's 10 epochs",
            measured=fit("fast") / fit("notebook"),
            relation="<=",
            target=1 / 10,
        ),
        Verdict(
            name="accuracy: mean test accuracy",
            measured=accuracy("accuracy", statistics.mean),
            relation=">=",
            target=0.994,
        ),
    ]
