"""What each setting of the recipe and of the engine buys: the recipe, and the recipe without one of them.

Images a second in steady state and CPU an image, the first epoch left out, as shares of what the recipe had
right before: a machine's speed changes by more than most settings buy. Below 1 in images a second means:
without the setting, training is slower. Some settings cost: they buy equal bytes.
"""

from benchmarks.bench import Bench, Contestant
from benchmarks.measure import Measured
from benchmarks.results import Line, Verdict
from lenet5.system import environment

RECIPE = "the recipe"
BFLOAT16 = "bfloat16, any instruction set for oneDNN"
"""oneDNN has no bfloat16 convolution within AVX2, nor on a processor without AVX-512."""
TAKEN_AWAY = {
    "float64 images": ("--dtype", "float64"),
    "1 step an execution": ("--set", "train.steps_per_execution=1"),
    "32 steps an execution": ("--set", "train.steps_per_execution=32"),
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
    images, epochs = ("1280", "2") if bench.quick else ("12800", "4")
    words = ("rate", "--images", images, "--set", f"train.epochs={epochs}")
    recipe = Contestant(RECIPE, "product", words)
    pairs: dict[str, list[tuple[Measured, Measured]]] = {}
    for name, other in TAKEN_AWAY.items():
        if name != BFLOAT16 or _has_avx512():
            without = Contestant(name, "product", (*words, *other))
            found = bench.take_turns([recipe, without], rounds=min(bench.seeds, 3))
            pairs[name] = list(zip(found[name], found[RECIPE], strict=True))
    return [
        Line(
            table=f"what a setting buys: {what} without it, of the recipe's",
            name=name,
            unit="x",
            values=tuple(without.answer[key] / whole.answer[key] for without, whole in runs),
            headline=True,
            note=f"an epoch of {int(images):,} images: less in a whole one" if name in _PER_EPOCH else "",
        )
        for key, what in (("images_per_s", "images/s"), ("cpu_us_per_image", "CPU an image"))
        for name, runs in pairs.items()
    ], []


def _has_avx512() -> bool:
    return "X86_V4" in environment.machine()["instruction_set"].split()
