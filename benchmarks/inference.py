"""One image at a time, and 10,000 in batches of 64 and of 1000, by every way to ask the model.

Each is a process of its own with one thread, and ONNX Runtime and LiteRT with all cores, too. The latency is
the median of a second's calls after the first one; the throughput is the median of three passes. `predict` is
given all images and makes the batches itself, and pyfunc, too, but always of 32.
"""

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import ROOT, Bench, Contestant, environment
from benchmarks.results import Line, Verdict

KERAS = {
    "Keras, model.predict": "predict",
    "Keras, model.predict_on_batch": "predict_on_batch",
    "Keras, model(images)": "call",
    "MLflow pyfunc": "pyfunc",
}
LIGHT = {"ONNX Runtime": "onnxruntime", "LiteRT": "litert"}
BASELINE = "Keras, model.predict"
ONNX = "ONNX Runtime, 1 thread"


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        export = (sys.executable, "-m", "benchmarks.contestants.export", str(folder))
        bench.command("export", export, environment=environment(ROOT))
        seconds = ("--seconds", "0.1" if bench.quick else "1")
        contestants = [
            Contestant(name, "inference", (way, str(folder), *seconds)) for name, way in KERAS.items()
        ]
        cores = os.cpu_count() or 1
        for name, way in LIGHT.items():
            for threads, said in {1: "1 thread", cores: "all cores" if cores > 1 else "1 thread"}.items():
                words = (way, str(folder), *seconds, "--threads", str(threads))
                contestants.append(Contestant(f"{name}, {said}", "inference", words, peer=way == "litert"))
        found = bench.take_turns(contestants)
    lines = [
        Line(
            table=f"inference: {table}",
            name=name,
            unit=unit,
            values=tuple(each.answer[key] for each in runs),
            baselines=(BASELINE,) if name != BASELINE else (),
            headline=key != "one_99_us" and unit != "s",
        )
        for table, key, unit in (
            ("one image, median", "one_us", "µs"),
            ("one image, 99 of 100 calls", "one_99_us", "µs"),
            ("10,000 images, 64 at a time", "images_per_s_64", "images/s"),
            ("10,000 images, 1000 at a time", "images_per_s_1000", "images/s"),
            ("until it is loaded, imports included", "ready_s", "s"),
            ("first answer", "first_s", "s"),
        )
        for name, runs in found.items()
    ]
    return lines, [] if bench.quick else _verdicts(lines)


def _verdicts(lines: list[Line]) -> list[Verdict]:
    medians = {line.table: line.median or 0.0 for line in lines if line.name == ONNX}
    one, many = (
        medians[f"inference: {table}"] for table in ("one image, median", "10,000 images, 64 at a time")
    )
    return [
        Verdict(name=f"{ONNX}: one image", measured=one / 1000, relation="<=", target=0.1, unit="ms"),
        Verdict(name=f"{ONNX}: 10,000 images", measured=many, relation=">=", target=50_000, unit="images/s"),
    ]
