"""What each setting of the recipe and of the engine buys: the recipe, and the recipe without one of them.

Images a second in steady state and CPU-microseconds an image, the first epoch left out. A ratio below 1 in
images a second means: without the setting, training is slower. Some settings cost: they buy equal bytes.
"""

from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Verdict
from lenet5 import environment

RECIPE = "the recipe"
BFLOAT16 = "bfloat16, any instruction set for oneDNN"
"""oneDNN has no bfloat16 convolution within AVX2, nor on a processor without AVX-512."""
TAKEN_AWAY = {
    RECIPE: (),
    "float64 images": ("--dtype", "float64"),
    "1 step an execution": ("--set", "train.steps_per_execution=1"),
    "32 steps an execution": ("--set", "train.steps_per_execution=32"),
    "Keras' own schedule": ("--keras-schedule",),
    "biases decay, too": ("--decay-all",),
    "2 threads": ("--set", "train.threads=2"),
    "batch 64": ("--set", "train.batch_size=64"),
    "any instruction set for oneDNN": ("--engine", "ONEDNN_MAX_CPU_ISA="),
    "without oneDNN": ("--engine", "TF_ENABLE_ONEDNN_OPTS=0"),
    "XLA": ("--jit",),
    "op determinism": ("--deterministic",),
    BFLOAT16: ("--set", 'train.precision="mixed_bfloat16"', "--engine", "ONEDNN_MAX_CPU_ISA="),
    "images distorted anew in every epoch": (
        *("--set", "train.distortion.shift=1.0"),
        *("--set", "train.distortion.rotation=10.0"),
        *("--set", "train.distortion.scale=0.1"),
    ),
    "validation of 5,000 images an epoch": ("--validation-images", "5000"),
    "TensorBoard": ("--tensorboard",),
}
"""What differs, and how the product's contestant is told."""
_PER_EPOCH = ("validation of 5,000 images an epoch", "TensorBoard")


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    images, epochs = ("1280", "2") if bench.quick else ("12800", "3")
    words = ("rate", "--images", images, "--set", f"train.epochs={epochs}")
    found = bench.take_turns(
        [
            Contestant(name, "product", (*words, *other))
            for name, other in TAKEN_AWAY.items()
            if name != BFLOAT16 or _has_avx512()
        ],
        rounds=min(bench.seeds, 3),
    )
    return [
        Line(
            table=f"what a setting buys: {unit}",
            name=name,
            unit=unit,
            values=tuple(each.answer[key] for each in runs),
            baselines=() if name == RECIPE else (RECIPE,),
            note=f"an epoch of {int(images):,} images: less in a whole one" if name in _PER_EPOCH else "",
        )
        for key, unit in (("images_per_s", "images/s"), ("cpu_us_per_image", "CPU-µs/image"))
        for name, runs in found.items()
    ], []


def _has_avx512() -> bool:
    return "X86_V4" in environment.machine()["instruction_set"].split()
