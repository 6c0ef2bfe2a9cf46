"""What could raise the accuracy of the recipe `accuracy`: variants of it, on train images held out.

Each model trains on 45,000 images, early stopping uses the usual 5,000, and 10,000 others score it. The test
images decide nothing here. The learning rate is lower for fewer images per step and for a larger network.
"""

from benchmarks import command
from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Verdict


def _set(*overrides: str) -> tuple[str, ...]:
    return tuple(word for override in overrides for word in ("--set", override))


VARIANTS = {
    "recipe accuracy": (),
    "30 epochs in place of 15": _set("train.epochs=30"),
    "elastic distortions added": _set("train.distortion.elastic=1"),
    "weaker distortions and label smoothing": _set(
        "train.distortion.rotation=7", "train.distortion.scale=0.07", "train.label_smoothing=0.03"
    ),
    "no label smoothing": _set("train.label_smoothing=0"),
    "mean in place of maximum": _set('train.pooling="average"'),
    "64 images per step in place of 128": _set("train.batch_size=64", "train.learning_rate=0.004"),
    "four times the channels and units": ("--wider", "4", *_set("train.learning_rate=0.003")),
}


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    words = ("--images", "1000") if bench.quick else ()
    runs = bench.take_turns(
        [Contestant(name, "held_out", (*words, *others)) for name, others in VARIANTS.items()]
    )
    lines = [
        Line(
            table="accuracy on 10,000 held-out train images",
            name=name,
            unit="",
            values=tuple(each.answer["accuracy"] for each in measured),
            headline=True,
            note=f"{measured[0].answer['weights']:,} parameters",
        )
        for name, measured in runs.items()
    ]
    return lines, []


if __name__ == "__main__":
    command.main("held_out")
