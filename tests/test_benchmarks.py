"""The benchmarks' own arithmetic, the figures in the documents, and the documented commands."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    baseline,
    command,
    corruptions,
    images_needed,
    label_errors,
    measure,
    picture,
    readme,
    report,
    results,
    robustness,
    time_to_accuracy,
)
from benchmarks.bench import ROOT, Bench, Contestant, environment
from benchmarks.contestants import label_errors as planted_errors
from benchmarks.gpu import compare
from benchmarks.measure import Measured
from benchmarks.results import Line, Result, Verdict
from benchmarks.training import DEFAULT, recipe
from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.images.corruptions import CORRUPTIONS
from lenet5.model import engine
from lenet5.stages import params

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "Makefile", "data/mnist/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.sh")),
]
PYTHON_M = re.compile(r"python3? +-m\s+([a-z_][\w.]*)((?: +[a-z_0-9-]+)*)")
SLOW, FAST = (4.0, 8.0, 6.0), (1.0, 2.0, 3.0)


def line(name: str, *values: float, **more: Any) -> Line:
    return Line(table="fit", name=name, unit="s", values=values, **more)


def result(**more: Any) -> Result:
    lines = (line("notebook", *SLOW), line("product", *FAST, baselines=("notebook",), headline=True))
    facts: dict[str, Any] = {
        "part": "time",
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789",
        "dirty": False,
        "machine": {"processor": "a processor", "cores": "2"},
        "versions": {},
        "quick": False,
        "seeds": 3,
        "minutes": 1.0,
        "others_cores": 0.01,
        "lines": lines,
        "verdicts": (Verdict(name="fit", measured=2.0, relation="<=", target=1.0, unit="s"),),
        "repetitions": (),
    }
    return Result(**facts | more)


def done(**answer: Any) -> Measured:
    return Measured(wall_s=10.0, cpu_s=9.0, others_cores=0.0, answer=answer)


def test_a_ratio_is_of_medians_with_the_range_over_the_rounds() -> None:
    lines = (line("notebook", *SLOW), line("product", *FAST))
    assert results.ratio(lines[1], "notebook", lines) == results.Ratio(2 / 6, 0.25, 0.5)
    with pytest.raises(DataError, match="no such line"):
        results.ratio(lines[1], "torch", lines)


def test_who_never_reached_the_target_has_no_time_and_no_ratio() -> None:
    lines = (line("notebook", *SLOW), line("product", baselines=("notebook",)))
    assert lines[1].median is None
    assert report.against(lines[1], "notebook", lines) == "none"


@pytest.mark.parametrize(
    ("measured", "relation", "met"), [(1.0, "<=", True), (1.1, "<=", False), (0.9, ">=", False)]
)
def test_a_verdict_can_be_no(measured: float, relation: Any, met: bool) -> None:
    assert Verdict(name="x", measured=measured, relation=relation, target=1.0).met is met


def test_the_first_crossing_is_the_end_of_an_epoch() -> None:
    epochs = [{"seconds": 2.0, "test_accuracy": reached} for reached in (0.98, 0.9872, 0.99)]
    assert time_to_accuracy.crossing(done(epochs=epochs)) == 4.0
    assert time_to_accuracy.crossing(done(epochs=epochs[:1])) is None


def test_a_process_is_measured_with_its_children_and_its_answer() -> None:
    code = (
        "import json, subprocess, sys, time;"
        "subprocess.run([sys.executable, '-c', 'x = bytearray(200_000_000); import time; time.sleep(1.5)']);"
        "print('said'); print(json.dumps({'n': 1}))"
    )
    found = measure.whole_process(
        (sys.executable, "-c", code), cwd=ROOT, environment=os.environ, watch_memory=True
    )
    assert found.answer == {"n": 1}
    assert found.wall_s > 1.5 > found.cpu_s > 0  # it slept
    assert found.anonymous_mb is not None
    assert 200 < found.anonymous_mb < 300
    json.dumps(found.as_row(), allow_nan=False)


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(measure.Failed, match="it broke"):
        measure.whole_process(
            (sys.executable, "-c", "raise SystemExit('it broke')"), cwd=ROOT, environment=os.environ
        )


@pytest.mark.slow
def test_contestants_take_turns() -> None:
    bench = Bench(Paths(ROOT), seeds=2)
    runs = bench.take_turns([Contestant(name, "inference", ("--help",)) for name in ("a", "b")])
    assert [each["name"] for each in bench.repetitions] == ["a", "b", "a", "b"]
    assert [each["command"][-1] for each in bench.repetitions] == ["1998", "1998", "1999", "1999"]
    assert all(run.cpu_s > 0 for measured in runs.values() for run in measured)


def test_no_setting_of_the_product_reaches_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENET5_RUNS", "3")
    for name, value in engine.ENGINE_FLAGS.items():
        monkeypatch.setenv(name, value)
    assert not {"LENET5_RUNS", *engine.ENGINE_FLAGS} & environment(ROOT).keys()


def test_a_moved_image_leaves_zeros_behind() -> None:
    image = np.arange(1, 10).reshape(1, 3, 3)
    assert baseline.moved(1, -2)(image).tolist() == [[[0, 0, 0], [3, 0, 0], [6, 0, 0]]]
    assert baseline.moved(0, 1)(image).tolist() == [[[0, 1, 2], [0, 4, 5], [0, 7, 8]]]
    assert baseline.moved(0, 0)(image).tolist() == image.tolist()


def test_a_row_of_the_baseline_has_a_cell_for_each_column() -> None:
    conditions = [*baseline.CONDITIONS, baseline.CORRUPTED]
    row = baseline.row("MLP", 60_026, [dict.fromkeys(conditions, share) for share in (0.9, 0.8, 0.7)])
    assert row.startswith("| MLP | 60,026 | 80.00 (70.00 to 90.00) |")
    assert row.count("|") == baseline.header().splitlines()[0].count("|")


def test_a_recipe_is_checked() -> None:
    paths = Paths(ROOT)
    assert recipe(paths, DEFAULT) == params.load(paths.params)
    assert recipe(paths, "fast", {"train.seed": 7}).train.seed == 7
    with pytest.raises(UsageError, match="no recipe"):
        recipe(paths, "slow")


def test_a_result_is_shown_as_tables_between_markers(tmp_path: Path) -> None:
    results.write(result(), tmp_path)
    figures = readme.figures(readme.read_all(tmp_path))
    text = "before\n<!-- figures:begin -->\nold\n<!-- figures:end -->\nafter\n"
    made = readme.replaced(text, "figures", figures, where=tmp_path)
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    assert "| fit | <= 1 s | 2 s | **no** |" in made
    assert "| product | 2 (1 – 3) | 0.333 (0.25 – 0.5) |" in made
    assert readme.replaced(made, "figures", figures, where=tmp_path) == made


def test_quick_results_damaged_ones_and_a_text_without_a_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results"):
        readme.read_all(tmp_path)
    results.write(result(quick=True), tmp_path)
    with pytest.raises(DataError, match="quick"):
        readme.read_all(tmp_path)
    (tmp_path / "time.json").write_text("{}")
    with pytest.raises(DataError, match="not a result"):
        readme.read_all(tmp_path)
    with pytest.raises(UsageError, match="no place"):
        readme.replaced("no markers", "figures", "", where=tmp_path)


def test_the_documents_show_what_was_measured() -> None:
    readme.main(results.FOLDER, check=True)


def test_writing_the_figures_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/performance.md", "docs/evaluation.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    first = readme.documents(tmp_path, results.FOLDER)
    for file, text in first.items():
        file.write_text(text, encoding="utf-8")
    assert readme.documents(tmp_path, results.FOLDER) == first
    table = first[tmp_path / "README.md"].partition("<!-- bench:begin -->")[2].partition("\n\n")[0]
    assert len(table.strip().splitlines()) == 2 + 6


def test_the_picture_is_the_same_each_time_and_knows_its_numbers(tmp_path: Path) -> None:
    bars = picture.bars(results.read(results.FOLDER / "time.json"))
    for name in ("one.png", "other.png"):
        picture.draw(bars, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert picture.drawn(tmp_path / "one.png") == bars
    assert picture.drawn(tmp_path / "none.png") is None
    assert (ROOT / readme.PICTURE).stat().st_size < 60_000


def documented() -> dict[str, set[str]]:
    """The words after each module of a ``python -m`` command in the documents, by module."""
    commands: dict[str, set[str]] = {f"benchmarks.{module}": set() for module in command.PARTS.values()}
    for document in DOCUMENTS:
        for module, words in PYTHON_M.findall(document.read_text(encoding="utf-8")):
            commands.setdefault(module, set()).update(words.split())
    return commands


HELP = """
import contextlib, io, json, runpy, sys
answers = {}
for module in sys.argv[1:]:
    sys.argv, code, output = [module, "--help"], 0, io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    answers[module] = (code, output.getvalue())
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def help_texts() -> dict[str, tuple[int, str]]:
    """Exit code and output of ``python -m MODULE --help`` for each benchmark, in one process."""
    modules = [module for module in documented() if module.startswith("benchmarks")]
    done = subprocess.run(
        (sys.executable, "-c", HELP, *modules),
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        check=True,
    )
    return {module: (code, text) for module, (code, text) in json.loads(done.stdout).items()}


@pytest.mark.integration
@pytest.mark.xdist_group("documented")
@pytest.mark.parametrize("module", sorted(documented()))
def test_every_documented_command_does_something(help_texts: dict[str, tuple[int, str]], module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    if not module.startswith("benchmarks"):  # --help of a program with no options would run it
        if spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{module}.__main__")
        assert spec is not None
        assert spec.origin is not None
        code = Path(spec.origin).read_text(encoding="utf-8")
        assert '__name__ == "__main__"' in code or Path(spec.origin).name == "__main__.py", module
        return
    exit_code, text = help_texts[module]
    assert exit_code == 0, text
    assert "usage:" in text.lower(), f"{module} does nothing when it is called"
    for word in documented()[module]:
        assert word in text or word.isdecimal(), f"{module} {word}"


def test_documented_parts_exist() -> None:
    for document in DOCUMENTS:
        for words in re.findall(r'PARTS="([^"]*)"', document.read_text(encoding="utf-8")):
            assert set(words.split()) <= command.PARTS.keys(), f"{document}: {words}"


def test_the_gpu_machine_gets_a_short_command_and_a_small_tree() -> None:
    guide = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    commands = [line for line in guide.splitlines() if line.startswith("bash benchmarks/gpu/")]
    assert len(commands) == 2
    for line in commands:
        assert len(line) < 2000
        script = ROOT / line.split()[1]
        subprocess.run(("bash", "-n", str(script)), check=True)
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = sum(
        (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()
    )
    wheels = sum(file.stat().st_size for file in (ROOT / ".lenet5/gpu-wheels").glob("*"))
    # the wheels are known only after they were downloaded: 6 MB when this was written
    assert tracked + max(wheels, 12_000_000) < 64 * 2**20


def test_the_wheels_are_those_of_the_lock() -> None:
    script = (ROOT / "benchmarks/gpu/wheels.sh").read_text(encoding="utf-8")
    names = re.findall(r"^packages='(.*)'$", script, re.MULTILINE)[0].split("|")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "keras" in names
    for name in names:
        assert re.search(rf"^{name}==\S+( ;[^\\]*)? \\\n    --hash=sha256:", lock, re.MULTILINE), name


def test_the_comparison_on_a_gpu_has_every_task_and_keeps_its_budget() -> None:
    arguments = compare.arguments(["--quick", "--batch-sizes", "128", "8192"])
    wanted = compare.tasks(arguments)
    assert [each.name for each in wanted[:2]] == ["batch 128, float32", "batch 8,192, float32"]
    assert [each.precision for each in wanted[2:]] == ["mixed_bfloat16", "mixed_bfloat16"]
    assert wanted[1].recipe().batch_size == 8192
    assert wanted[1].recipe().patience == 0
    sides: dict[str, Any] = dict.fromkeys(compare.SIDES)  # none is asked: no time is left
    runs = list(compare.turns(sides, wanted, rounds=1, deadline=time.monotonic()))
    assert len(runs) == len(wanted) * len(compare.SIDES)
    assert all("0 seconds were left" in run["skipped"] for run in runs)
    assert compare.lines(runs) == []


def test_the_first_epoch_of_a_gpu_training_compiles() -> None:
    epochs = [
        {"seconds": seconds, "test_accuracy": accuracy}
        for seconds, accuracy in ((12.0, 0.98), (2.0, 0.9872), (2.0, 0.989), (2.5, 0.9899))
    ]
    figures = compare.figures({"images": 100, "epochs": epochs})
    assert figures == {
        "samples_per_s": 50,
        "compile_s": 10,
        "seconds_to_0.9872": 4,
        "seconds_to_0.99": None,
    }
    runs = [
        {"name": name, "task": "a", "epochs": epochs, **figures | {"samples_per_s": rate}}
        for name, rate in (("product", 50.0), ("PyTorch", 200.0))
    ]
    tables = {(line.table, line.name): line for line in compare.lines(runs)}
    assert tables[compare.SHARE, "a"].values == (0.25,)
    assert tables["GPU: seconds to 99 %", "a: PyTorch"].values == ()


@pytest.mark.long
def test_the_product_trains_for_the_comparison(tmp_path: Path) -> None:
    side = compare.Side.start("product", str(tmp_path))
    try:
        assert "jax" in side.ask(None, 120)["versions"]
        answer = side.ask(compare.tasks(compare.arguments(["--quick"]))[0], 300)
    finally:
        side.stop()
    assert answer["images"] == 1024
    assert len(answer["epochs"]) == 2
    assert answer["epochs"][1]["test_accuracy"] > 0.3


def test_recipes_are_compared_on_each_corruption_in_one_table() -> None:
    lines = [
        Line(table=table, name=name, unit="", values=values)
        for name, values in {"default": (0.991, 0.987, 0.989), "mlp": (0.975, 0.971, 0.973)}.items()
        for table in (robustness.CLEAN, robustness.MEAN, "fog")
    ]
    rows = robustness.table(result(lines=lines)).splitlines()
    assert rows[0] == "| accuracy in % | default | mlp |"
    assert rows[2] == f"| {robustness.CLEAN} | 98.90 (98.70 – 99.10) | 97.30 (97.10 – 97.50) |"
    assert rows[4] == "| fog | 98.90 | 97.30 |"
    assert (
        rows[-1] == "Medians of 3 seeds, for the first two rows with the range. Commit 01234567, 2026-01-02."
    )


def test_rankings_of_label_errors_are_compared_in_one_table() -> None:
    lines = [
        Line(table=table, name=name, unit="", values=(0.8, 0.6, 0.9))
        for table in label_errors.FIRST
        for name in label_errors.METHODS.values()
    ]
    rows = label_errors.table(result(lines=lines)).splitlines()
    assert rows[2] == f"| {label_errors.METHODS['in_sample']} | 80 (60 – 90) | 80 (60 – 90) |"
    assert rows[-1].startswith("Medians of 3 rounds with the range; n is the number of planted labels")


def test_planted_labels_are_counted_in_a_ranking() -> None:
    labels = np.arange(5000, dtype=np.int64).astype(np.uint8) % 10
    before = labels.copy()
    wrong = planted_errors.plant(labels, 10, np.random.default_rng(1))
    assert sorted(np.flatnonzero(labels != before)) == sorted(wrong)
    assert len(wrong) == 5
    planted = np.isin(np.arange(5000), wrong)
    sure = np.eye(10)[before]  # the probabilities of a model that knows every digit
    assert planted_errors.recall(planted_errors.margins(sure, labels), planted) == [1.0, 1.0]
    assert planted_errors.recall(planted_errors.margins(np.eye(10)[labels], labels), planted)[0] < 0.5


def test_noisier_differences_need_more_images_and_larger_losses_fewer() -> None:
    needed = images_needed.images_needed(0.2, 0.02, 0.05)
    assert images_needed.images_needed(0.4, 0.02, 0.05) == pytest.approx(4 * needed, abs=3)
    assert images_needed.images_needed(0.2, 0.04, 0.05) == pytest.approx(needed / 4, abs=1)


def test_that_many_images_find_such_a_loss_with_the_stated_power() -> None:
    """Draw differences with a normal distribution, and count how often the test finds the loss."""
    deviation, beyond, alpha = 0.25, 0.05, 0.05
    images = images_needed.images_needed(deviation, beyond, alpha)
    means = np.random.default_rng(0).normal(-beyond, deviation / np.sqrt(images), 20_000)
    quantile = NormalDist().inv_cdf(1 - alpha / images_needed.COMPARISONS)
    found = means + quantile * deviation / np.sqrt(images) < 0
    assert found.mean() == pytest.approx(images_needed.POWER, abs=0.01)


@pytest.mark.slow
def test_the_corruptions_are_drawn_with_their_names() -> None:
    image = np.zeros((28, 28), np.uint8)
    figure = corruptions.draw(image)
    drawn = [axes for axes in figure.axes if axes.get_ylabel()]
    assert len(drawn) == len(CORRUPTIONS) - 1
    assert drawn[0].get_ylabel() == "shot noise"
