"""The benchmarks' own arithmetic: what a figure in the README rests on."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import flops, measure, readme, results, tables, time_to_accuracy
from benchmarks.bench import ROOT, Bench, Contestant, environment
from benchmarks.measure import Measured
from benchmarks.recipes import DEFAULT, recipe
from benchmarks.results import Line, Result, Verdict
from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.model import engine, network
from lenet5.stages import params

SLOW, FAST = (4.0, 8.0, 6.0), (1.0, 2.0, 3.0)


def line(name: str, *values: float, **more: Any) -> Line:
    return Line(table="fit", name=name, unit="s", values=values, **more)


def result(**more: Any) -> Result:
    lines = (line("notebook", *SLOW), line("product", *FAST, baselines=("notebook",), headline=True))
    facts: dict[str, Any] = {
        "part": "time",
        "about": "",
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
    return Measured(
        wall_s=10.0, cpu_s=9.0, largest_rss_mb=1.0, others_cores=0.0, stolen_cores=0.0, answer=answer
    )


def test_a_ratio_is_of_medians_with_the_range_over_the_rounds() -> None:
    lines = (line("notebook", *SLOW), line("product", *FAST))
    assert results.ratio(lines[1], "notebook", lines) == results.Ratio(2 / 6, 0.25, 0.5)
    with pytest.raises(DataError, match="no baseline"):
        results.ratio(lines[1], "torch", lines)


def test_who_never_reached_the_target_has_no_time_and_no_ratio() -> None:
    lines = (line("notebook", *SLOW), line("product", baselines=("notebook",)))
    assert lines[1].median is None
    assert tables.against(lines[1], "notebook", lines) == "none"


@pytest.mark.parametrize(
    ("measured", "relation", "met"), [(1.0, "<=", True), (1.1, "<=", False), (0.9, ">=", False)]
)
def test_a_verdict_can_be_no(measured: float, relation: Any, met: bool) -> None:
    assert Verdict(name="x", measured=measured, relation=relation, target=1.0).met is met


def test_the_first_crossing_is_the_end_of_an_epoch() -> None:
    epochs = [{"seconds": 2.0, "test_accuracy": reached} for reached in (0.98, 0.9872, 0.99)]
    assert time_to_accuracy.crossing(done(epochs=epochs)) == 4.0
    assert time_to_accuracy.crossing(done(epochs=epochs[:1])) is None


def test_operations_are_those_of_the_model() -> None:
    model = network.build(28, 28, kernel_size=3)
    counted = 0
    for layer in model.layers:
        if layer.weights:
            kernel = layer.weights[0].shape
            pixels = layer.output.shape[1] * layer.output.shape[2] if len(kernel) == 4 else 1
            counted += 2 * pixels * int(layer.weights[0].numpy().size)
    assert flops.forward() == counted


def test_a_process_is_measured_with_its_children_and_its_answer() -> None:
    code = (
        "import json, subprocess, sys, time;"
        "subprocess.run([sys.executable, '-c', 'x = bytearray(200_000_000); import time; time.sleep(0.5)']);"
        "print('said'); print(json.dumps({'n': 1}))"
    )
    found = measure.whole_process(
        (sys.executable, "-c", code), cwd=ROOT, environment=os.environ, watch_memory=True
    )
    assert found.answer == {"n": 1}
    assert found.wall_s > 0.5 > found.cpu_s > 0  # it slept
    assert found.tree_anonymous_mb is not None
    assert 200 < found.tree_anonymous_mb < 300
    json.dumps(found.as_row(), allow_nan=False)


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(measure.Failed, match="it broke"):
        measure.whole_process(
            (sys.executable, "-c", "raise SystemExit('it broke')"), cwd=ROOT, environment=os.environ
        )


def test_contestants_take_turns() -> None:
    bench = Bench(Paths(ROOT), seeds=2)
    small = ("--size", "8", "--times", "1")
    found = bench.take_turns([Contestant("a", "gemm", small), Contestant("b", "gemm", small)])
    assert [each["name"] for each in bench.repetitions] == ["a", "b", "a", "b"]
    assert [each["command"][-1] for each in bench.repetitions] == ["1998", "1998", "1999", "1999"]
    assert all(run.answer["gflop_per_s"] > 0 for runs in found.values() for run in runs)


def test_no_setting_of_the_product_reaches_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENET5_RUNS", "3")
    for name, value in engine.ENGINE_FLAGS.items():
        monkeypatch.setenv(name, value)
    assert not {"LENET5_RUNS", *engine.ENGINE_FLAGS} & environment(ROOT).keys()


def test_a_recipe_is_checked() -> None:
    paths = Paths(ROOT)
    assert recipe(paths, DEFAULT) == params.load(paths.params)
    assert recipe(paths, "fast", {"train.seed": 7}).train.seed == 7
    with pytest.raises(UsageError, match="no recipe"):
        recipe(paths, "slow")


def test_the_readme_is_made_from_the_results(tmp_path: Path) -> None:
    results.write(result(), tmp_path)
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    made = readme.replaced(text, readme.render(readme.read_all(tmp_path)), where=tmp_path)
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    assert "| fit | <= 1 s | 2 s | **no** |" in made
    assert "| product | 2 (1 – 3) | 0.333 (0.25 – 0.5) |" in made
    assert readme.replaced(made, readme.render(readme.read_all(tmp_path)), where=tmp_path) == made


def test_quick_results_damaged_ones_and_a_text_without_a_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results"):
        readme.read_all(tmp_path)
    results.write(result(quick=True), tmp_path)
    with pytest.raises(DataError, match="quick"):
        readme.read_all(tmp_path)
    (tmp_path / "time.json").write_text("{}")
    with pytest.raises(DataError, match="no result"):
        readme.read_all(tmp_path)
    with pytest.raises(UsageError, match="no place"):
        readme.replaced("no markers", "", where=tmp_path)


def test_the_readme_says_what_was_measured() -> None:
    readme.main(results.FOLDER, check=True)
