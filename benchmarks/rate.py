"""Images per second in steady state: the product, the notebook, PyTorch and JAX.

The first epoch is left out, because it compiles. Nothing is validated. Threads are 1 or 2, except for the
notebook, which takes all cores.
"""

import os
import statistics

from benchmarks import command
from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Verdict, at_least

BATCH, THREADS = 128, (1, 2)
NOTEBOOK = "notebook, batch 64, all cores"
PEERS = {"PyTorch": "torch_lenet", "JAX": "jax_lenet"}


def table(threads: int) -> str:
    return f"training rate, batch {BATCH}, {threads} thread{'s' * (threads > 1)}"


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    images, epochs = ("1280", "2") if bench.quick else ("19200", "3")
    words = ("rate", "--images", images)
    contestants = [Contestant(NOTEBOOK, "notebook", (*words, "--epochs", epochs))]
    tables = [threads for threads in THREADS if threads <= (os.cpu_count() or 1)]
    for threads in tables:
        overrides = (f"train.batch_size={BATCH}", f"train.threads={threads}", f"train.epochs={epochs}")
        options = [word for override in overrides for word in ("--set", override)]
        contestants.append(Contestant(f"product {threads}", "product", (*words, *options)))
        own = ("--epochs", epochs, "--batch-size", str(BATCH), "--threads", str(threads))
        contestants += [
            Contestant(f"{name} {threads}", program, (*words, *own), peer=True)
            for name, program in PEERS.items()
        ]
    runs = bench.take_turns(contestants)

    def rates(name: str) -> tuple[float, ...]:
        return tuple(each.answer["images_per_s"] for each in runs[name])

    lines = []
    for threads in tables:
        for name in (NOTEBOOK, "product", *PEERS):
            lines.append(
                Line(
                    table=table(threads),
                    name=name,
                    unit="images/s",
                    values=rates(name if name == NOTEBOOK else f"{name} {threads}"),
                    baselines=tuple(
                        other for other in (NOTEBOOK, "PyTorch") if name not in (other, NOTEBOOK)
                    ),
                    headline=True,
                )
            )
    fastest = max(statistics.median(rates(f"{peer} 1")) for peer in PEERS)
    share = statistics.median(rates("product 1")) / fastest
    verdict = at_least(f"{table(1)}: product / fastest peer", share, 1.3)
    return lines, [] if bench.quick else [verdict]


if __name__ == "__main__":
    command.main("rate")
