"""What each measure of the training buys: images per second and CPU time per image with and without it.

Each line is the product without one measure, divided by the product in the same round. The batch has 128
images, and one thread computes an operation. What buys less than 3 % is not in the product. The measures
inside the step save less than two trainings differ by chance, so one process times them alternately.
"""

from benchmarks import command
from benchmarks.bench import Bench, Contestant
from benchmarks.rate import BATCH
from benchmarks.results import Line, Verdict

PRODUCT = "product"
_AFFINE = ("--set", "train.distortion.shift=1", "--set", "train.distortion.rotation=10")
WITHOUT = {
    "Keras' own step in place of several steps in one": ("--without", "fused-step"),
    "1 step per call in place of 32": ("--set", "train.steps_per_execution=1"),
    "8 steps per call in place of 32": ("--set", "train.steps_per_execution=8"),
    "items from TensorFlow's `from_generator` in place of our own thread": ("--without", "own-thread"),
    "affine distortions added": _AFFINE,
    "affine distortions added, items from `from_generator`": (*_AFFINE, "--without", "own-thread"),
    "elastic distortions added": ("--set", "train.distortion.elastic=1"),
}
INSIDE = {
    "Keras' own update in place of TensorFlow's kernel for Adam": "own_update",
    "bias and ReLU before the maximum": "early_relu",
}
"""Changes inside the training step, as `training_step` names them."""
_STEP = "training step, its variants in turns"
_QUANTITIES = {"images_per_s": "images/s", "cpu_us_per_image": "CPU time per image"}


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    images, epochs = ("1280", "3") if bench.quick else ("38400", "6")
    words = (
        "rate",
        "--images",
        images,
        "--set",
        f"train.batch_size={BATCH}",
        "--set",
        f"train.epochs={epochs}",
    )
    runs = bench.take_turns(
        [
            Contestant(PRODUCT, "product", words),
            *(Contestant(name, "product", (*words, *other)) for name, other in WITHOUT.items()),
            Contestant(
                _STEP,
                "training_step",
                ("--batch-size", str(BATCH), *(("--turns", "2") if bench.quick else ())),
            ),
        ]
    )
    inside = [
        Line(
            table="CPU time of the training step with the change / without it",
            name=name,
            unit="x",
            values=tuple(each.answer[key] / each.answer["product"] for each in runs[_STEP]),
            headline=True,
        )
        for name, key in INSIDE.items()
    ]
    return [
        Line(
            table=f"{quantity} with the change / without it",
            name=name,
            unit="x",
            values=tuple(
                changed.answer[key] / product.answer[key]
                for changed, product in zip(runs[name], runs[PRODUCT], strict=True)
            ),
            headline=True,
        )
        for key, quantity in _QUANTITIES.items()
        for name in WITHOUT
    ] + inside, []


if __name__ == "__main__":
    command.main("ablation")
