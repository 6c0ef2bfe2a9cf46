"""Train a variant of the recipe `accuracy` on a part of the train images, and score it on another part."""

import argparse
from typing import Any

from benchmarks.contestants.program import answer, override
from benchmarks.training import recipe
from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.system import settings

HELD_OUT = 10_000


def main() -> None:
    arguments = _arguments()
    paths = Paths.find()
    settings.apply(paths)
    changed = {**dict(arguments.set), "train.seed": arguments.seed}
    params = recipe(paths, "accuracy", changed).train
    with quiet_libraries(), engine.lean_keras():
        from lenet5.model import backend
        from lenet5.model.metrics import probabilities
        from lenet5.stages.train import fit
    backend.configure(params.threads)
    splits = dataset.load(paths.processed).splits
    images, labels = splits["train"].images, splits["train"].labels
    count = min(arguments.images or len(images), len(images) - HELD_OUT)
    usual = fit.untrained_network
    fit.untrained_network = lambda *of: _wider(usual(*of), arguments.wider)
    network, _ = fit.fit(
        Split(images[:count], labels[:count]),
        splits["validation"],
        params,
        on_epoch=lambda epoch, metrics: None,
    )
    scores = probabilities(network, images[-HELD_OUT:], batch_size=1000)
    correct = scores.argmax(axis=1) == labels[-HELD_OUT:].argmax(axis=1)
    answer(accuracy=float(correct.mean()), weights=network.count_params())


def _wider(network: Any, factor: int) -> Any:
    """Return an untrained network with so many times the channels and units in each layer but the last."""
    import keras

    def layer(usual: Any) -> Any:
        config = usual.get_config()
        if usual.name != "output":
            config |= {key: factor * config[key] for key in ("filters", "units") if key in config}
        return type(usual).from_config(config)

    return keras.models.clone_model(network, clone_function=layer)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--images", type=int, help="the number of images to train on; 45,000 by default")
    parser.add_argument("--wider", type=int, default=1, help="so many times the channels and units")
    parser.add_argument("--set", action="append", default=[], type=override, metavar="NAME=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
