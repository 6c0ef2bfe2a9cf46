"""Images a second in steady state, against the notebook, PyTorch, JAX and Keras on JAX; share of the peak.

The first epoch is left out: it compiles. Nobody validates. Threads are 1 or 2, but for the notebook, which
takes all there are. The machine's peak is the best of ten float32 matrix products in NumPy's BLAS.
"""

import os
import statistics

from benchmarks import flops
from benchmarks.bench import Bench, Contestant
from benchmarks.measure import Measured
from benchmarks.results import Line, Verdict

CASES = ((64, 1), (128, 1), (256, 1), (128, 2))
"""Batch size, threads: for the product and for PyTorch, the fastest of the peers."""
SHOWN = (128, 1)
"""The case that the documents show, and in which the fastest peer is the target."""
NOTEBOOK = "notebook, batch 64, all cores"
PEERS = {
    "PyTorch": ("torch_lenet", CASES),
    "JAX": ("jax_lenet", ((128, 1), (128, 2))),
    "Keras on JAX": ("keras_on_jax", ((128, 1),)),
}
"""Program, and the cases it is measured in."""


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    images, epochs = ("1280", "2") if bench.quick else ("19200", "3")
    contestants = [Contestant(NOTEBOOK, "notebook", ("rate", "--images", images, "--epochs", epochs))]
    for batch, threads in CASES:
        if threads > (os.cpu_count() or 1):
            continue
        case = _case(batch, threads)
        settings = {"batch_size": batch, "threads": threads, "epochs": epochs}
        overrides = (word for key, value in settings.items() for word in ("--set", f"train.{key}={value}"))
        contestants.append(
            Contestant(f"product, {case}", "product", ("rate", "--images", images, *overrides))
        )
        words = ("rate", "--images", images, "--epochs", epochs, "--batch-size", str(batch))
        contestants += [
            Contestant(f"{name}, {case}", program, (*words, "--threads", str(threads)), peer=True)
            for name, (program, cases) in PEERS.items()
            if (batch, threads) in cases
        ]
    found = bench.take_turns([*contestants, *_peaks(bench)])
    return [*_rates(found), *_shares(found)], [] if bench.quick else [_verdict(found)]


def _case(batch: int, threads: int) -> str:
    return f"batch {batch}, {threads} thread{'s' * (threads > 1)}"


def _peaks(bench: Bench) -> list[Contestant]:
    size = ("--size", "512" if bench.quick else "2048")
    one = {"OPENBLAS_NUM_THREADS": "1"}
    return [
        Contestant("matrix product, 1 thread", "gemm", size, environment=one),
        Contestant(
            "matrix product, 1 thread, AVX2", "gemm", size, environment=one | {"OPENBLAS_CORETYPE": "Haswell"}
        ),
        Contestant("matrix product, all cores", "gemm", size),
    ]


def _rates(found: dict[str, list[Measured]]) -> list[Line]:
    lines = []
    for batch, threads in CASES:
        case = _case(batch, threads)
        names = [name for name in found if name.endswith(case)]
        baselines = (NOTEBOOK, f"PyTorch, {case}")
        for name in (NOTEBOOK, *names) if names else ():
            against = [other for other in baselines if name not in (other, NOTEBOOK)]
            for key, unit, what in (
                ("images_per_s", "images/s", "training rate"),
                ("cpu_us_per_image", "CPU-µs/image", "CPU of training"),
            ):
                lines.append(
                    Line(
                        table=f"{what}, {case}",
                        name=name,
                        unit=unit,
                        values=tuple(each.answer[key] for each in found[name]),
                        baselines=tuple(against),
                        headline=key == "images_per_s" and (batch, threads) == SHOWN,
                    )
                )
    return sorted(lines, key=lambda line: line.table.startswith("CPU"))


def _verdict(found: dict[str, list[Measured]]) -> Verdict:
    case = _case(*SHOWN)

    def rate(name: str) -> float:
        return statistics.median(each.answer["images_per_s"] for each in found[f"{name}, {case}"])

    return Verdict(
        name=f"training rate, {case}, of the fastest peer's",
        measured=rate("product") / max(rate(peer) for peer in PEERS),
        relation=">=",
        target=1,
    )


def _shares(found: dict[str, list[Measured]]) -> list[Line]:
    peaks = {name: runs for name, runs in found.items() if name.startswith("matrix product")}
    lines = [
        Line(
            table="peak of a float32 matrix product",
            name=name,
            unit="GFLOP/s",
            values=tuple(each.answer["gflop_per_s"] for each in runs),
        )
        for name, runs in peaks.items()
    ]
    one = [each.answer["gflop_per_s"] for each in peaks["matrix product, 1 thread"]]
    for name, runs in found.items():
        if name.endswith("1 thread") and name not in peaks:
            flop_per_s = [each.answer["images_per_s"] * flops.training() for each in runs]
            lines.append(
                Line(
                    table="share of one thread's peak, training",
                    name=name,
                    unit="%",
                    values=tuple(done / 1e7 / peak for done, peak in zip(flop_per_s, one, strict=True)),
                    headline=True,
                    note=f"{flops.training() / 1e6:.3f} MFLOP an image",
                )
            )
    return lines
