"""The work of each stage, and nothing else: what handles data, trains and evaluates, in one warm process.

Everything is imported and called once before the clock runs, so that no import and no first call counts.
Training is loading, fitting and saving, without MLflow and TensorBoard. Registering is no work of this kind.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.contestants.program import answer
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.stages import params
from lenet5.stages.train.params import Train
from lenet5.system import settings


def main() -> None:
    paths = Paths.find()
    settings.apply(paths)
    everything = params.load(paths.params)
    with quiet_libraries():
        from lenet5.stages.evaluate import stage as evaluate
        from lenet5.stages.ingest import stage as ingest
        from lenet5.stages.preprocess import stage as preprocess
        from lenet5.stages.validate import stage as validate
    recipe: Train = everything.train
    work: dict[str, Callable[[], object]] = {
        "ingest": lambda: ingest.run(paths, everything.ingest),
        "validate": lambda: validate.run(paths, everything.validate_),
        "preprocess": lambda: preprocess.run(paths, everything.preprocess),
        "train": lambda: _train(paths, recipe),
        "evaluate": lambda: evaluate.run(paths, everything.evaluate),
    }
    _train(paths, recipe.model_copy(update={"epochs": 1}))
    for name, call in work.items():
        if name != "train":
            call()
    answer(**{name: _cpu_of(call) for name, call in work.items()})


def _train(paths: Paths, recipe: Train) -> None:
    from lenet5.core import dataset
    from lenet5.model import backend, keras_file
    from lenet5.model.network import with_preprocessing
    from lenet5.stages.train.fit import fit

    processed = dataset.load(paths.processed)
    backend.use_threads(recipe.threads)
    network, _ = fit(
        processed.splits["train"],
        processed.splits["validation"],
        recipe,
        on_epoch=lambda epoch, metrics: None,
    )
    with tempfile.TemporaryDirectory() as folder:
        keras_file.save(with_preprocessing(network, processed.manifest.padding), Path(folder) / "model.keras")


def _cpu_of(call: Callable[[], object]) -> float:
    """CPU-seconds of a call, all threads and children."""
    before = sum(os.times()[:4])
    call()
    return sum(os.times()[:4]) - before


if __name__ == "__main__":
    main()
