"""PyTorch's side: the same recipe, with the data on the GPU and each step as one CUDA graph.

Memory format, CUDA graph and `torch.compile` are tried once for each batch size and precision; the fastest is
used.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional  # type: ignore[import-not-found]

from benchmarks.gpu import task
from benchmarks.gpu.task import Task
from lenet5.stages.train.params import Train

_TRIAL_STEPS = 50
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


@dataclass(frozen=True)
class Variant:
    """One way to run the same step."""

    layout: str
    graph: bool
    """Replay a CUDA graph of it."""
    compiled: bool
    """By `torch.compile`."""

    def __str__(self) -> str:
        return f"{self.layout}{', CUDA graph' * self.graph}{', torch.compile' * self.compiled}"


class Training:
    """One training of one variant; ``run`` does a step with the batch of these rows."""

    def __init__(self, recipe: Train, images: Tensor, labels: Tensor, variant: Variant) -> None:
        self._recipe = recipe
        self._memory_format = LAYOUTS[variant.layout]
        self._images = images.contiguous(memory_format=self._memory_format)  # (N, 1, 28, 28)
        self._labels = labels
        torch.manual_seed(recipe.seed)
        self.model = _network().to(DEVICE, memory_format=self._memory_format)
        self._forward = self.model
        if variant.compiled:
            torch.compiler.reset()  # its limit of compilations counts those of other trainings
            self._forward = torch.compile(self.model, dynamic=False)
        size = recipe.batch_size
        self._rates = torch.tensor(_schedule(recipe, math.ceil(len(images) / size)), device=DEVICE)
        self._count = torch.zeros(1, dtype=torch.long, device=DEVICE)
        self._rate = torch.zeros((), device=DEVICE)
        decayed = [weight for weight in self.model.parameters() if weight.ndim > 1]
        biases = [weight for weight in self.model.parameters() if weight.ndim == 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": biases, "weight_decay": 0.0},
            ],
            lr=self._rate,
            betas=(0.9, recipe.beta_2),
            eps=1e-7,  # Keras' default
            fused=True,
            capturable=DEVICE == "cuda",
        )
        # the last batch of an epoch is smaller and has a graph of its own
        sizes = {min(size, len(images)), len(images) % size or size}
        self._steps = {size: self._graph(size) if variant.graph else self._step for size in sizes}

    @property
    def count(self) -> int:
        """Training images."""
        return len(self._images)

    def run(self, rows: Tensor) -> None:
        self._steps[len(rows)](rows)

    def epoch(self) -> None:
        for rows in torch.randperm(len(self._images), device=DEVICE).split(self._recipe.batch_size):
            self.run(rows)
        _wait()

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        with torch.inference_mode():
            scores = self.model(images.contiguous(memory_format=self._memory_format))
            return float((scores.argmax(1) == labels).float().mean())

    def _step(self, rows: Tensor) -> None:
        self._rate.copy_(self._rates.index_select(0, self._count)[0])
        self._count += 1
        self._optimizer.zero_grad(set_to_none=True)
        half = self._recipe.precision != "float32"
        # weights are cast once per step: a cache of them would outlive a graph's memory
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half, cache_enabled=False):
            scores = self._forward(self._images.index_select(0, rows))
            loss = functional.cross_entropy(
                scores, self._labels.index_select(0, rows), label_smoothing=self._recipe.label_smoothing
            )
        loss.backward()
        self._optimizer.step()

    def _graph(self, size: int) -> Callable[[Tensor], None]:
        """Capture a step of this batch size; weights and optimizer are afterwards as they were before."""
        rows = torch.arange(size, device=DEVICE)
        before = [weight.detach().clone() for weight in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # warm up: memory, kernels, compiled code
            for _ in range(3):
                self._step(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(rows)
        with torch.no_grad():
            for weight, old in zip(self.model.parameters(), before, strict=True):
                weight.copy_(old)
            for state in self._optimizer.state.values():
                for value in state.values():
                    value.zero_()
            self._count.zero_()

        def replay(wanted: Tensor) -> None:
            rows.copy_(wanted)
            graph.replay()

        return replay


def main() -> None:
    torch.set_float32_matmul_precision("high")  # TF32, which XLA uses, too
    torch.backends.cudnn.benchmark = True
    data = task.load()

    def images(array: Any) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array.transpose(0, 3, 1, 2)), device=DEVICE)

    def labels(array: Any) -> Tensor:
        return torch.as_tensor(array.argmax(axis=1), device=DEVICE)

    x_train, y_train = images(data.train.images), labels(data.train.labels)
    x_test, y_test = images(data.test.images), labels(data.test.labels)
    fastest: dict[str, tuple[Variant, dict[str, Any]]] = {}

    spent = 0.0

    def train(wanted: Task) -> dict[str, Any]:
        make = partial(Training, wanted.recipe(), x_train[: wanted.images], y_train[: wanted.images])
        nonlocal spent
        if wanted.name not in fastest:
            began = time.perf_counter()
            fastest[wanted.name] = _fastest(make, wanted, wanted.trial_seconds - spent)
            spent += time.perf_counter() - began
        variant, trials = fastest[wanted.name]
        started = time.perf_counter()
        training = make(variant)
        _wait()
        setup, epochs = time.perf_counter() - started, []
        for _ in range(wanted.epochs):
            began = time.perf_counter()
            training.epoch()
            seconds = time.perf_counter() - began
            epochs.append({"seconds": seconds, "test_accuracy": training.accuracy(x_test, y_test)})
        return {
            "images": training.count,
            "epochs": epochs,
            "setup_s": setup,
            "variant": str(variant),
            "trials": trials,
        }

    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
    task.serve({"device": name, "versions": versions}, train)


def _fastest(
    make: Callable[[Variant], Training], wanted: Task, pool: float
) -> tuple[Variant, dict[str, Any]]:
    """The fastest variant, and by variant the seconds of a step, or why there are none.

    ``torch.compile`` is tried with the fastest variant without it, while there are seconds in the pool.
    """
    trials: dict[str, Any] = {}
    times: dict[Variant, float] = {}

    def attempt(variant: Variant) -> None:
        try:
            times[variant] = trials[str(variant)] = _seconds_per_step(make(variant), wanted)
        except Exception as error:  # any: a compiler can be missing, for example
            trials[str(variant)] = f"{type(error).__name__}: {error}"[:300]

    for graph in (False, True) if DEVICE == "cuda" else (False,):
        for layout in LAYOUTS:
            attempt(Variant(layout, graph, compiled=False))
    compiled = replace(min(times, key=lambda each: times[each]), compiled=True)
    if pool > 0:
        attempt(compiled)
    else:
        trials[str(compiled)] = "not tried: no time was left"
    return min(times, key=lambda each: times[each]), trials


def _seconds_per_step(training: Training, wanted: Task) -> float:
    rows = torch.arange(min(wanted.batch_size, training.count), device=DEVICE)
    steps = _TRIAL_STEPS if DEVICE == "cuda" else 2
    seconds = 0.0
    for count in (3, steps):  # the first ones warm up
        _wait()
        began = time.perf_counter()
        for _ in range(count):
            training.run(rows)
        _wait()
        seconds = time.perf_counter() - began
    return seconds / steps


def _network() -> nn.Sequential:
    """The product's network, with its initial distributions."""
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    for weight in network.parameters():
        nn.init.xavier_uniform_(weight) if weight.ndim > 1 else nn.init.zeros_(weight)
    return network


def _schedule(recipe: Train, steps_per_epoch: int) -> list[float]:
    """The learning rate of each step: linear warm-up, then half a cosine, as Keras' ``CosineDecay``."""
    steps = recipe.epochs * steps_per_epoch
    warmup = int(recipe.warmup * steps)
    rates = [recipe.learning_rate * step / warmup for step in range(warmup)]
    rest = steps - warmup
    rates += [recipe.learning_rate * (1 + math.cos(math.pi * step / rest)) / 2 for step in range(rest)]
    return [*rates, *[0.0] * _TRIAL_STEPS * 2]  # trials and warm-up go on where the training is over


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
