"""The documents' figures, from ``benchmarks/results``: ``python -m benchmarks.readme [--check]``.

README.md gets six lines, docs/performance.md all tables, docs/images/benchmarks.png the picture. The part
`robustness` and `label_errors` go to docs/evaluation.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import (
    command,
    label_errors,
    large,
    picture,
    rate,
    report,
    results,
    robustness,
    serving,
    time_to_accuracy,
)
from benchmarks.bench import ROOT
from benchmarks.results import Result
from lenet5.core import files
from lenet5.core.errors import DataError, UsageError
from lenet5.system.terminal import console

PICTURE = Path("docs/images/benchmarks.png")
ORDER = ("time", "rate", "ablation", "held_out", "inference", "pipeline", "large")
"""Order of the parts; others follow by name."""
EVALUATIONS = {"robustness": robustness.table, "label_errors": label_errors.table}
"""The parts that docs/evaluation.md shows."""


def main(
    folder: Annotated[Path, typer.Option("--results", help="The folder of the results.")] = results.FOLDER,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit code 4 if it would.")] = False,
) -> None:
    """Write the figures between the markers of each document, and draw the picture."""
    bars = picture.bars(_part(read_all(folder), "time"))
    outdated = [file for file, text in documents(ROOT, folder).items() if file.read_text("utf-8") != text]
    if picture.drawn(ROOT / PICTURE) != bars:
        outdated.append(ROOT / PICTURE)
    if check and outdated:
        raise DataError(
            f"{' and '.join(map(str, outdated))} shows other figures than {folder}.",
            fix="`python -m benchmarks.readme` writes them",
        )
    if check:
        return
    for file, text in documents(ROOT, folder).items():
        files.write_text(file, text)
    picture.draw(bars, ROOT / PICTURE)
    console.print(f"Changed: {', '.join(map(str, outdated)) or 'nothing'}", markup=False)


def documents(root: Path, folder: Path) -> dict[Path, str]:
    """The text of each document of a checkout, with the figures of these results."""
    measured, findings = read_all(folder), read_all(folder / "findings")
    evaluations = {each.part: EVALUATIONS[each.part](each) for each in measured if each.part in EVALUATIONS}
    measured = [each for each in measured if each.part not in EVALUATIONS]
    blocks = {
        root / "docs/evaluation.md": evaluations,
        root / "README.md": {"bench": six_lines(measured)},
        root / "docs/performance.md": {"figures": figures(measured), "findings": tables(findings)},
    }
    texts = {}
    for file, contents in blocks.items():
        texts[file] = file.read_text(encoding="utf-8")
        for block, content in contents.items():
            texts[file] = replaced(texts[file], block, content, where=file)
    return texts


def read_all(folder: Path) -> list[Result]:
    """Every result of a folder, in the order of the documents.

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


def figures(measured: Sequence[Result]) -> str:
    """Every target, then the tables of each part."""
    targets = report.verdicts([verdict for each in measured for verdict in each.verdicts])
    return f"{targets}\n\n{tables(measured)}"


def tables(measured: Sequence[Result]) -> str:
    """The headline tables of each part, and where and when it was measured."""
    return "\n\n".join(f"{report.text(each, headlines=True)}\n\n{_origin(each)}" for each in measured)


def six_lines(measured: Sequence[Result]) -> str:
    """The figures that say most about the product, each beside what it compares with."""
    time, rates = _part(measured, "time"), _part(measured, "rate")
    services, sizes = _part(measured, "serving"), _part(measured, "large")

    def value(result: Result, table: str, name: str) -> str:
        line = result.line(table, name)
        return f"{report.number(line.median or 0.0)} {line.unit}".rstrip()

    def training(name: str, last: str = "") -> str:
        seconds = value(time, time_to_accuracy.TRAINING, name)
        accuracy = time.line(time_to_accuracy.ACCURACY, last or name).median or 0.0
        return f"{seconds}, {100 * accuracy:.2f} % test accuracy"

    notebook = training(time_to_accuracy.ALL_EPOCHS, "notebook")
    torch, jax = (value(time, time_to_accuracy.TRAINING, peer) for peer in time_to_accuracy.PEERS)
    most = max((each for each in sizes.lines if each.table == large.ANONYMOUS), key=lambda each: each.values)
    stage, _, images = most.name.partition(", ")
    rows = [
        ("training, recipe `fast`", training("fast"), f"the notebook, 10 epochs: {notebook}"),
        ("training, default", training("default"), f"until 98.72 %: PyTorch {torch}, JAX {jax}"),
        ("training, recipe `accuracy`", training("accuracy"), "the same 60,074 weights"),
        (
            f"{rate.table(1)}",
            value(rates, rate.table(1), "product"),
            f"PyTorch: {value(rates, rate.table(1), 'PyTorch')}",
        ),
        (
            "`lenet5 serve`, 1 worker process, PNG files",
            value(services, serving.RATE, serving.contestant(serving.PRODUCT, 1)),
            f"`mlflow models serve`: {value(services, serving.RATE, serving.contestant(serving.MLFLOW, 1))}",
        ),
        (
            f"peak memory of a stage, {images}",
            f"{report.number(most.median or 0.0)} {most.unit} ({stage})",
            f"limit: {report.number(large.MEMORY)} MB",
        ),
    ]
    commits: dict[str, dict[str, None]] = {}
    for each in (time, rates, services, sizes):
        commits.setdefault(_machine(each), {})[each.commit[:8]] = None
    origin = "; ".join(f"{machine} (commits {', '.join(each)})" for machine, each in commits.items())
    return f"{report.markdown(('figure', 'measured', 'beside it'), rows)}\n\nMedians on {origin}."


def replaced(text: str, block: str, content: str, *, where: Path) -> str:
    """The text with this content between the markers of a block.

    Raises:
        UsageError: the markers are not there, once each and in order.
    """
    first, last = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after or last in after or last in before:
        raise UsageError(
            f"{where} has no place for the figures.", expected=f"one {first} and, below, one {last}"
        )
    return f"{before}{first}\n{content}\n{last}{after}"


def _part(measured: Sequence[Result], part: str) -> Result:
    for each in measured:
        if each.part == part:
            return each
    raise DataError(f"There is no result of the part {part}.", fix=f"`python -m benchmarks {part}`")


def _machine(result: Result) -> str:
    return f"{result.machine['processor']}, {result.machine['cores']} cores"


def _origin(result: Result) -> str:
    changed = ", with uncommitted changes" if result.dirty else ""
    rounds = max(len(line.values) for line in result.lines)
    others = result.others_cores
    busy = "" if others is None else f"; other processes used {report.number(others)} cores"
    return (
        f"Part `{result.part}`: commit {result.commit[:8]}{changed}, {result.date[:10]}, {_machine(result)}, "
        f"up to {rounds} repetitions{busy}."
    )


if __name__ == "__main__":
    command.run(main)
