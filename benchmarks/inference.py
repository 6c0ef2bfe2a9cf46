"""One image per call, and 10,000 in batches of 64 and of 1000, by each way to get answers from the model.

Each way is a process of its own with one thread. The latency is the median of one second of calls; the
throughput is the median of three passes.
"""

from benchmarks import command
from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Verdict, at_least, at_most

BASELINE, ONNX = "Keras, model.predict_on_batch", "ONNX Runtime"
WAYS = {"Keras, model.predict": "keras", BASELINE: "keras_on_batch", ONNX: "onnxruntime"}
ONE, BATCHES = "inference: one image per call", "inference: 10,000 images, 64 per call"
TABLES = (
    (ONE, "one_us", "µs"),
    (BATCHES, "images_per_s_64", "images/s"),
    ("inference: 10,000 images, 1000 per call", "images_per_s_1000", "images/s"),
)


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    seconds = ("--seconds", "0.1" if bench.quick else "1")
    runs = bench.take_turns([Contestant(name, "inference", (way, *seconds)) for name, way in WAYS.items()])
    lines = [
        Line(
            table=table,
            name=name,
            unit=unit,
            values=tuple(each.answer[key] for each in repetitions),
            baselines=(BASELINE,) if name != BASELINE else (),
            headline=True,
        )
        for table, key, unit in TABLES
        for name, repetitions in runs.items()
    ]
    median = {line.table: line.median or 0.0 for line in lines if line.name == ONNX}
    verdicts = [
        at_most(f"{ONNX}: one image", median[ONE] / 1000, 0.1, "ms"),
        at_least(f"{ONNX}: 10,000 images", median[BATCHES], 50_000, "images/s"),
    ]
    return lines, [] if bench.quick else verdicts


if __name__ == "__main__":
    command.main("inference")
