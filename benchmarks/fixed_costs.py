"""What is paid once, whatever the data: imports, building, the first step (it compiles), saving, loading."""

import sys

from benchmarks.bench import ROOT, Bench, Contestant, environment
from benchmarks.results import Line, Verdict

STEPS = ("import", "build", "first step", "save", "load")
WHO = {"product": "product", "notebook": "notebook", "PyTorch": "torch_lenet", "JAX": "jax_lenet"}
IMPORTS = {
    "Python alone": "pass",
    "the product's command line": "import lenet5.cli",
    "DVC": "import dvc.repo",
    "MLflow": "import mlflow",
    "Prefect": "import prefect",
    "Great Expectations": "import great_expectations",
    "Keras on TensorFlow": "import keras",
}


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    found = bench.take_turns(
        [
            Contestant(name, program, ("fixed",), peer=name in ("PyTorch", "JAX"))
            for name, program in WHO.items()
        ]
    )
    lines = [
        Line(
            table=f"fixed costs: {step}",
            name=name,
            unit="s",
            values=tuple(each.answer[step] for each in runs),
            baselines=("notebook",) if name != "notebook" else (),
            headline=True,
        )
        for step in STEPS
        for name, runs in found.items()
    ]
    return [*lines, *_imports(bench)], []


def _imports(bench: Bench) -> list[Line]:
    values: dict[str, list[float]] = {name: [] for name in IMPORTS}
    # no calls home while these are imported
    quiet = environment(ROOT) | {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    for _ in range(bench.seeds):
        for name, code in IMPORTS.items():
            done = bench.command(f"import: {name}", (sys.executable, "-c", code), environment=quiet)
            values[name].append(done.cpu_s)
    return [
        Line(table="CPU of a process that only imports", name=name, unit="CPU-s", values=tuple(seconds))
        for name, seconds in values.items()
    ]
