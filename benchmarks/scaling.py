"""Training speed and accuracy with one worker and with two: ``python -m benchmarks.scaling``.

Each line is processes of their own, one thread each, that run the product's own ``fit``. The reference is
TensorFlow, on which a training with one worker runs.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from lenet5 import dataset, environment, files, params, settings
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import console
from lenet5.train import launcher
from lenet5.train.gang import Gang

BATCH_SIZES = (128, 1024, 4096)
"""Images a step, of all workers together."""
CONTESTANTS = (("tensorflow", 1), ("jax", 1), ("jax", 2))
RESULT = Path(__file__).parent / "results" / "scaling.json"
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


def main(
    quick: Annotated[bool, typer.Option(help="A few thousand images: a trial.")] = False,
) -> None:
    """Measure, print a table, write ``benchmarks/results/scaling.json``."""
    paths = Paths.find()
    settings.apply(paths)
    table = Table("engine", "workers", "images a step", "images a second", "of one worker", "test accuracy")
    rows = []
    for row in measure(paths, quick=quick):
        rows.append(row)
        one = next(r for r in rows if (r["engine"], r["batch_size"]) == (row["engine"], row["batch_size"]))
        accuracy = row["test_accuracy"]
        table.add_row(
            row["engine"],
            str(row["workers"]),
            str(row["batch_size"]),
            f"{row['images_per_second']:,.0f}",
            f"{row['images_per_second'] / one['images_per_second']:.2f}",
            "" if accuracy is None else f"{accuracy:.4f}",
        )
        console.print(f"{row['engine']}, {row['workers']} workers, {row['batch_size']} images a step: done")
    console.print(table)
    result = {"quick": quick, "machine": environment.machine(), "load": os.getloadavg()[0], "rows": rows}
    files.write_json(RESULT, result)
    console.print(f"→ {RESULT}")


def measure(paths: Paths, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """One row a contestant and batch size; with the default batch size, the default recipe and its accuracy.

    The first epoch, in which JAX compiles, does not count.
    """
    recipe = params.load(paths.params).train
    for batch_size in BATCH_SIZES:
        is_default = batch_size == recipe.batch_size
        changed = {"batch_size": batch_size, "epochs": recipe.epochs if is_default and not quick else 3}
        for engine, workers in CONTESTANTS:
            mine = recipe.model_copy(update={**changed, "workers": workers})
            found = _line(paths, engine, mine, images=8192 if quick else None, score=is_default)
            yield {"engine": engine, "workers": workers, "batch_size": batch_size, **found}


def _line(paths: Paths, engine: str, recipe: Train, *, images: int | None, score: bool) -> dict[str, Any]:
    chosen = launcher.environment(recipe.threads) if engine == "jax" else {"KERAS_BACKEND": engine}
    address = f"127.0.0.1:{launcher.free_port()}"
    started = []
    try:
        for rank in range(recipe.workers):
            member = _Member(rank=rank, recipe=recipe, address=address, images=images, score=score)
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.scaling", "--member", member.model_dump_json()],
                    cwd=paths.root,
                    env=os.environ | chosen,
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
    return found


def _work(member: _Member) -> None:
    """Train as one process of a line; the first one prints what it found."""
    paths, recipe = Paths.find(), member.recipe
    splits = dataset.load(paths.processed).splits
    train = dataset.Split(splits["train"].images[: member.images], splits["train"].labels[: member.images])

    import keras

    from lenet5 import backend
    from lenet5.evaluate.metrics import probabilities
    from lenet5.train.fit import fit
    from lenet5.train.model import with_preprocessing

    class Clock(keras.callbacks.Callback):
        seconds: list[float] = []  # noqa: RUF012 -- there is one

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self._began = time.perf_counter()

        def on_test_begin(self, logs: object = None) -> None:  # comes right after the last step
            self.seconds.append(time.perf_counter() - self._began)

    backend.use_threads(recipe.threads)
    gang = Gang(member.rank, recipe.workers)
    with gang.joined(member.address, _WAIT_SECONDS):
        network, _ = fit(
            train,
            splits["validation"],
            recipe,
            on_epoch=lambda epoch, metrics: None,
            callbacks=[Clock()],
            gang=gang,
        )
    if gang.leads:
        accuracy = None
        if member.score:
            test = dataset.load(paths.raw).splits["test"]
            model = with_preprocessing(network, dataset.load_manifest(paths.processed).padding)
            right = probabilities(model, test.images, batch_size=1000).argmax(axis=1) == test.labels
            accuracy = float(right.mean())
        rates = [len(train.images) / seconds for seconds in Clock.seconds[1:]]
        found = {"images_per_second": max(rates), "epochs": rates, "test_accuracy": accuracy}
        print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        _work(_Member.model_validate_json(sys.argv[2]))
    else:
        typer.run(main)
