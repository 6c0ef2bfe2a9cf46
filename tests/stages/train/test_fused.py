"""The fused step gives what Keras' own step gives, to the precision of float32."""

import errno
import os
import platform
import subprocess
import sys
import threading
from itertools import islice
from typing import Any

import keras
import numpy as np
import pytest

from lenet5.core.dataset import Split
from lenet5.stages.train import optimizer
from lenet5.stages.train.batches import Batches, Item, ValidationBatches, endless
from lenet5.stages.train.fit import compile_model, untrained_network
from lenet5.stages.train.fused import FusedSequential, drawn_ahead, update
from lenet5.stages.train.params import Train
from tests.conftest import REPOSITORY

EPOCHS = 1  # later, Adam turns differences of the last bit into larger ones
VARIANTS: list[dict[str, Any]] = [
    {},
    {"optimizer": "adam"},
    {"pooling": "average"},
    {"padding": "same"},
    {"l2": 0.01},
    {"architecture": "mlp"},
    {"steps_per_execution": 1},
    {"schedule": "constant", "learning_rate": 0.001, "label_smoothing": 0.0},
]


Trained = tuple[keras.Sequential, dict[str, list[float]]]


def trained(train: Split, settings: Train, *, fused: bool, xla: bool = False) -> Trained:
    """Train from the same weights, with the fused step or with Keras' own; return the metrics by epoch."""
    keras.utils.set_random_seed(settings.seed)
    model = untrained_network((28, 28, 1), 10, settings)
    steps = settings.steps_per_execution
    if fused:
        model = FusedSequential(model, settings.batch_size)
    batches = Batches(train, settings, batches_per_item=steps if fused else 1)
    compile_model(model, settings, steps=EPOCHS * batches.steps, steps_per_execution=1 if fused else steps)
    model.jit_compile = xla
    return model, model.fit(batches, shuffle=False, epochs=EPOCHS, verbose=0).history


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_step_is_that_of_keras(train: Split, settings: Train, changed: dict[str, Any]) -> None:
    settings = settings.model_copy(update={"steps_per_execution": 4, **changed})
    expected = trained(train, settings, fused=False)
    assert_same(trained(train, settings, fused=True), expected, atol=2e-4)
    assert len(train.images) % settings.batch_size  # the last step has fewer images


@pytest.mark.parametrize(("precision", "atol"), [("float32", 2e-4), ("mixed_bfloat16", 2e-2)])
def test_step_is_that_of_keras_when_xla_compiles_it(
    train: Split, settings: Train, precision: str, atol: float
) -> None:
    """Keras chooses XLA wherever TensorFlow finds a GPU. A CPU has 16-bit convolutions only in XLA."""
    settings = settings.model_copy(update={"steps_per_execution": 4, "precision": precision})
    expected = trained(train, settings, fused=False, xla=precision != "float32")
    assert_same(trained(train, settings, fused=True, xla=True), expected, atol=atol)


def assert_same(fused: Trained, own: Trained, atol: float) -> None:
    """Compare all weights, the state of the optimizer, and the metrics."""
    model, metrics = fused
    own_model, own_metrics = own
    variables, own_variables = ([*each.variables, *each.optimizer.variables] for each in (model, own_model))
    for variable, expected in zip(variables, own_variables, strict=True):
        assert variable.name == expected.name
        np.testing.assert_allclose(variable.numpy(), expected.numpy(), atol=atol, err_msg=expected.path)
    assert metrics.keys() == own_metrics.keys()
    assert metrics["loss"] == pytest.approx(own_metrics["loss"], rel=atol / 2)
    assert metrics["accuracy"] == pytest.approx(own_metrics["accuracy"], abs=0.01)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_update_is_that_of_keras(settings: Train, name: str) -> None:
    settings = settings.model_copy(update={"optimizer": name, "learning_rate": 0.1, "weight_decay": 0.5})
    layers, optimizers = [], []
    for _ in range(2):
        layer = keras.layers.Dense(5, kernel_initializer=keras.initializers.RandomNormal(seed=1))
        layer.build((None, 7))
        layers.append(layer)
        optimizers.append(optimizer.build(settings, 20))
        optimizers[-1].build(layer.trainable_variables)
    random = np.random.default_rng(1)
    for _ in range(10):
        gradients = [
            keras.ops.convert_to_tensor(random.normal(size=variable.shape).astype(np.float32))
            for variable in layers[0].trainable_variables
        ]
        update(optimizers[0], gradients, layers[0].trainable_variables)
        optimizers[1].apply(gradients, layers[1].trainable_variables)
    own = [*layers[1].variables, *optimizers[1].variables]
    for variable, expected in zip([*layers[0].variables, *optimizers[0].variables], own, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected.numpy(), rtol=2e-5, atol=1e-6)


def test_layers_are_shared_with_the_network(settings: Train) -> None:
    """The trained layers are those of the plain network, which is what is saved."""
    network = untrained_network((28, 28, 1), 10, settings)
    model = FusedSequential(network, settings.batch_size)
    assert [a is b for a, b in zip(model.layers, network.layers, strict=True)] == [True] * len(network.layers)
    assert type(keras.models.clone_model(model)) is keras.Sequential


def test_items_are_those_of_the_batches_and_are_not_tuned(train: Split, settings: Train) -> None:
    batches = Batches(train, settings, batches_per_item=4)
    expected = endless(Batches(train, settings, batches_per_item=4))
    with drawn_ahead(batches, train) as dataset:
        assert dataset.options().autotune.enabled is False  # its thread would hold up the end of an epoch
        drawn_items = dataset.take(2 * len(batches)).as_numpy_iterator()
        for drawn, item in zip(drawn_items, islice(expected, 2 * len(batches)), strict=True):
            for array, array_expected in zip(drawn, item, strict=True):
                np.testing.assert_array_equal(array, array_expected)


def test_each_validation_begins_with_the_first_item(validation: Split) -> None:
    """Keras makes a new iterator for each; no item is lost between them."""
    batches = ValidationBatches(validation, 32)
    with drawn_ahead(batches, validation) as dataset:
        for _ in range(2):
            drawn = list(dataset.take(len(batches)).as_numpy_iterator())
            np.testing.assert_array_equal(np.concatenate([images for images, _ in drawn]), validation.images)
            np.testing.assert_array_equal(np.concatenate([labels for _, labels in drawn]), validation.labels)


class _Broken(Batches):
    """Batches of a disk that breaks at the third item."""

    def __getitem__(self, index: int) -> Item:
        if index == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().__getitem__(index)


def test_error_of_drawing_is_raised_as_it_is(train: Split, settings: Train) -> None:
    taken = 0
    with (
        pytest.raises(OSError, match=os.strerror(errno.EIO)),
        drawn_ahead(_Broken(train, settings), train) as items,
    ):
        for _ in items:
            taken += 1
    assert taken == 2


def test_drawing_ends_with_the_block(train: Split, settings: Train) -> None:
    """Also in the middle of an epoch, as after Ctrl-C, and when no item is taken."""
    before = threading.active_count()
    for count in (0, 1):
        with pytest.raises(KeyboardInterrupt), drawn_ahead(Batches(train, settings), train) as items:
            list(items.take(count))
            raise KeyboardInterrupt
    assert threading.active_count() == before


PAGE_FAULTS = """
import resource, sys
from pathlib import Path
import numpy as np
from lenet5.core.dataset import Split
from lenet5.stages import params
from lenet5.stages.train.batches import Batches
from lenet5.stages.train.fused import drawn_ahead

settings = params.load(Path(sys.argv[1])).train
settings = settings.model_copy(update={"distortion": settings.distortion.model_copy(update={"rotation": 10})})
split = Split(np.ones((2000, 32, 32, 1), np.float32), np.zeros((2000, 10), np.float32))
faults = []
with drawn_ahead(Batches(split, settings, batches_per_item=8), split) as items:
    for _ in items.take(60):
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print((faults[-1] - faults[20]) / (40 * 8 * settings.batch_size))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_distorted_images_reuse_memory() -> None:
    """With ``Dataset.from_generator`` the kernel maps twenty new pages for each image."""
    command = [sys.executable, "-c", PAGE_FAULTS, str(REPOSITORY / "params.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4
