"""Training speed and accuracy with one worker and with two.

Each line is processes of their own, one thread each, that run the product's own ``fit``. The reference is
TensorFlow, on which a training with one worker runs.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks.bench import FIRST_SEED, ROOT, Bench, environment
from benchmarks.results import Line, Verdict
from benchmarks.scored import correct
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.stages import params
from lenet5.stages.train.params import Train
from lenet5.system import settings
from lenet5.training import launcher
from lenet5.training.rendezvous import JaxProcessGroup, connected

BATCH_SIZES = (128, 1024, 4096)
"""Images a step, of all workers together."""
CONTESTANTS = (("tensorflow", 1), ("jax", 1), ("jax", 2))
NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}
REFERENCES = ("TensorFlow, 1 worker", "JAX, 1 worker")
_WAIT_SECONDS = 600


class _Member(BaseModel):
    """One process of a line."""

    model_config = ConfigDict(frozen=True)

    rank: int
    recipe: Train
    address: str
    images: int | None
    """Of the training images; all when None."""
    score: bool
    """Whether to count the test images that the model reads right."""


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    """The first epoch, in which JAX compiles, does not count. The smallest batch also gives the accuracy."""
    recipe = params.load(bench.paths.params).train
    images = 8192 if bench.quick else None
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    accuracies: dict[str, list[float]] = defaultdict(list)
    for number in range(min(bench.seeds, 3)):
        for batch_size, (engine, workers) in itertools.product(BATCH_SIZES, CONTESTANTS):
            name = f"{NAMES[engine]}, {workers} worker{'s' * (workers > 1)}"
            changed = {"batch_size": batch_size, "workers": workers, "seed": FIRST_SEED + number}
            mine = recipe.model_copy(update=changed)
            score = batch_size == BATCH_SIZES[0]
            found = _line(bench, name, mine, engine, images=images, score=score)
            rates[batch_size, name].append(statistics.mean(found["rates"]))
            if score:
                accuracies[name].append(found["test_accuracy"])
    return [
        *(
            Line(
                table=f"training rate by workers, {batch_size} images a step",
                name=name,
                unit="images/s",
                values=tuple(values),
                baselines=tuple(other for other in REFERENCES if other != name),
                headline=True,
            )
            for (batch_size, name), values in rates.items()
        ),
        *(
            Line(
                table=f"test accuracy by workers, {BATCH_SIZES[0]} images a step",
                name=name,
                unit="",
                values=tuple(values),
                headline=True,
            )
            for name, values in accuracies.items()
        ),
    ], []


def _line(
    bench: Bench, name: str, recipe: Train, engine: str, *, images: int | None, score: bool
) -> dict[str, Any]:
    chosen = launcher.environment(recipe.threads) if engine == "jax" else {"KERAS_BACKEND": engine}
    address = f"127.0.0.1:{launcher.free_port()}"
    started = []
    try:
        for rank in range(recipe.workers):
            member = _Member(rank=rank, recipe=recipe, address=address, images=images, score=score)
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.scaling", member.model_dump_json()],
                    cwd=bench.paths.root,
                    env=environment(ROOT) | chosen,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
        said, _ = started[0].communicate()
        if any(process.wait() for process in started):
            raise RuntimeError(f"{engine} with {recipe.workers} workers ended with an error:\n{said}")
    finally:
        for process in started:
            process.kill()
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    bench.repetitions.append({"name": f"{name}, {recipe.batch_size} images a step", **found})
    return found


def _work(member: _Member) -> None:
    """Train as one process of a line; the first one prints what it found."""
    paths, recipe = Paths.find(), member.recipe
    settings.apply(paths)
    processed = dataset.load(paths.processed)
    splits = processed.splits
    train = dataset.Split(splits["train"].images[: member.images], splits["train"].labels[: member.images])

    import keras

    from lenet5.model import backend
    from lenet5.stages.train.fit import fit

    class Clock(keras.callbacks.Callback):
        seconds: list[float] = []  # noqa: RUF012 -- there is one

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self._began = time.perf_counter()

        def on_test_begin(self, logs: object = None) -> None:  # comes right after the last step
            self.seconds.append(time.perf_counter() - self._began)

    backend.use_threads(recipe.threads)
    group = JaxProcessGroup(member.rank, recipe.workers)
    with connected(group, member.address, _WAIT_SECONDS):
        network, _ = fit(
            train,
            splits["validation"],
            recipe,
            on_epoch=lambda epoch, metrics: None,
            callbacks=[Clock()],
            group=group,
        )
    if group.is_primary:
        accuracy = None
        if member.score:
            test = dataset.load(paths.raw).splits["test"]
            accuracy = float(correct(network, processed.manifest.padding, test).mean())
        rates = [len(train.images) / seconds for seconds in Clock.seconds[1:]]
        found = {"rates": rates, "test_accuracy": accuracy}
        print(json.dumps(found))


if __name__ == "__main__":
    _work(_Member.model_validate_json(sys.argv[1]))
