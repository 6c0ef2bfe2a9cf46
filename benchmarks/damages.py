"""Damage MNIST in many ways, and see which check says no: ``python -m benchmarks.damages``.

It writes the table of docs/data.md, with how often the checks reject clean samples of MNIST. ``DAMAGES`` says
what is expected of each damage; another outcome is an error.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track
from scipy.ndimage import gaussian_filter, rotate

from benchmarks import command
from benchmarks.bench import ROOT
from benchmarks.readme import replaced
from lenet5.core import dataset, files
from lenet5.core.dataset import Array, Split
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages import params
from lenet5.stages.validate import engine, reference, suite, tables
from lenet5.stages.validate.check_result import CheckResult
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import Reference
from lenet5.system import settings
from lenet5.system.terminal import console

Splits = dict[str, Split]
OnImages = Callable[[Array], Array]
OnLabels = Callable[[Array], Array]
BOTH = ("train", "test")


@dataclass(frozen=True)
class Damage:
    """A change of the raw data, and the verdict that is expected."""

    name: str
    apply: Callable[[Splits], Splits]
    check: str = ""
    """A check that must reject it; empty: every check must pass."""
    likeness: str = ""
    """A part of what the check ``likeness`` must say."""
    needs: int = 0
    """Train images without which chance could explain the damage."""


def random() -> np.random.Generator:
    return np.random.default_rng(1998)


def images(change: OnImages, where: Sequence[str] = BOTH, share: float = 1.0) -> Callable[[Splits], Splits]:
    """Change a share of the images of some splits."""

    def apply(splits: Splits) -> Splits:
        changed = dict(splits)
        for name in where:
            split = splits[name]
            rows = some(len(split.images), share)
            pixels = split.images.copy()
            pixels[rows] = change(pixels[rows])
            changed[name] = Split(pixels, split.labels)
        return changed

    return apply


def labels(change: OnLabels, where: Sequence[str] = BOTH) -> Callable[[Splits], Splits]:
    """Change the labels of some splits."""

    def apply(splits: Splits) -> Splits:
        return splits | {
            name: Split(splits[name].images, change(splits[name].labels.copy())) for name in where
        }

    return apply


def some(count: int, share: float) -> NDArray[np.int64]:
    """Return a random share of the numbers from 0 to ``count`` - 1."""
    return np.sort(random().choice(count, round(share * count), replace=False))


def shifted(down: int, right: int) -> OnImages:
    return lambda pixels: np.roll(pixels, (down, right), (1, 2))


def scaled(factor: float) -> OnImages:
    return lambda pixels: np.clip(pixels * factor, 0, 255).astype(np.uint8)


def noisy(deviation: float) -> OnImages:
    return lambda pixels: np.clip(pixels + random().normal(0, deviation, pixels.shape), 0, 255).astype(
        np.uint8
    )


def blurred(deviation: float) -> OnImages:
    return lambda pixels: gaussian_filter(pixels, (0, deviation, deviation))


def turned(degrees: float) -> OnImages:
    return lambda pixels: rotate(pixels, degrees, (2, 1), reshape=False, order=0)


def permuted(pixels: Array) -> Array:
    order = random().permutation(pixels[0].size)
    return pixels.reshape(len(pixels), -1)[:, order].reshape(pixels.shape)


def noise(pixels: Array) -> Array:
    return random().integers(0, 256, pixels.shape, np.uint8)


def lower_half_blank(pixels: Array) -> Array:
    pixels[:, pixels.shape[1] // 2 :] = 0
    return pixels


def hot_pixel(pixels: Array) -> Array:
    pixels[:, 2, 2] = 255
    return pixels


def checkerboard(pixels: Array) -> Array:
    return np.broadcast_to(
        ((np.indices(pixels.shape[1:]).sum(0) // 4) % 2 * 255).astype(np.uint8), pixels.shape
    )


def thicker(pixels: Array) -> Array:
    return np.maximum(pixels, np.roll(pixels, 1, axis=1))


def coarse(pixels: Array) -> Array:
    return np.where(pixels > 0, pixels | 15, pixels)


def exchanged(one: int, other: int) -> OnLabels:
    return lambda digits: np.where(digits == one, other, np.where(digits == other, one, digits)).astype(
        np.uint8
    )


def wrong(share: float) -> OnLabels:
    """Replace a share of the labels by other digits."""

    def change(digits: Array) -> Array:
        rows = some(len(digits), share)
        digits[rows] = (digits[rows] + random().integers(1, 10, len(rows))) % 10
        return digits

    return change


def renamed(old: int, new: int, share: float = 1.0) -> OnLabels:
    def change(digits: Array) -> Array:
        rows = np.flatnonzero(digits == old)
        digits[rows[some(len(rows), share)]] = new
        return digits

    return change


def misaligned(share: float) -> OnLabels:
    """Move the labels of a run of images by one row."""

    def change(digits: Array) -> Array:
        digits[: round(share * len(digits))] = np.roll(digits[: round(share * len(digits))], 1)
        return digits

    return change


def leaked(
    count: int, change: OnImages = lambda pixels: pixels, to: str = "test"
) -> Callable[[Splits], Splits]:
    """Replace images of a split by changed copies of train images."""

    def apply(splits: Splits) -> Splits:
        train, target = splits["train"], splits[to]
        pixels, digits = target.images.copy(), target.labels.copy()
        last = len(pixels) - count
        pixels[last:], digits[last:] = change(train.images[:count].copy()), train.labels[:count]
        return splits | {to: Split(pixels, digits)}

    return apply


def other_pixels(count: int) -> OnImages:
    """Change this number of pixels in each image."""

    def change(pixels: Array) -> Array:
        flat = pixels.reshape(len(pixels), -1)
        for row in flat:
            row[random().choice(row.size, count, replace=False)] ^= 0x55
        return pixels

    return change


def without(digit: int, share: float = 1.0) -> Callable[[Splits], Splits]:
    """Remove images of a digit from train."""

    def apply(splits: Splits) -> Splits:
        train = splits["train"]
        rows = np.flatnonzero(train.labels == digit)
        kept = np.setdiff1d(np.arange(len(train.labels)), rows[some(len(rows), share)])
        return splits | {"train": Split(train.images[kept], train.labels[kept])}

    return apply


DAMAGES = [
    # the images at another place or in another order
    Damage(
        "all images transposed",
        images(lambda x: x.transpose(0, 2, 1)),
        "label_agreement",
        "all images are transposed (rows",
    ),
    Damage(
        "test images transposed",
        images(lambda x: x.transpose(0, 2, 1), ["test"]),
        "likeness",
        "test: all images are transposed",
    ),
    Damage(
        "10 % of the images transposed",
        images(lambda x: x.transpose(0, 2, 1), share=0.1),
        "label_agreement",
        "of the images are transposed",
    ),
    Damage(
        "all images mirrored left to right",
        images(lambda x: x[:, :, ::-1]),
        "label_agreement",
        "mirrored left to right",
    ),
    Damage(
        "all images mirrored top to bottom",
        images(lambda x: x[:, ::-1]),
        "label_agreement",
        "mirrored top to bottom",
    ),
    Damage(
        "all images rotated by 180°", images(lambda x: x[:, ::-1, ::-1]), "label_agreement", "rotated by 180°"
    ),
    Damage(
        "all images rotated by 90° to the left",
        images(lambda x: np.rot90(x, 1, (1, 2))),
        "label_agreement",
        "90° to the left",
    ),
    Damage(
        "all images rotated by 90° to the right",
        images(lambda x: np.rot90(x, -1, (1, 2))),
        "label_agreement",
        "90° to the right",
    ),
    Damage(
        "all images transposed along the other diagonal",
        images(lambda x: x[:, ::-1, ::-1].transpose(0, 2, 1)),
        "label_agreement",
        "the other diagonal",
    ),
    Damage("all images shifted by 1 pixel", images(shifted(1, 0)), "class_mean", "1 down"),
    Damage(
        "all images shifted by 2 and 3 pixels",
        images(shifted(-2, 3)),
        "label_agreement",
        "2 up, 3 to the right",
    ),
    Damage("all images rotated by 20°", images(turned(20)), "class_mean"),
    Damage(
        "one permutation of the pixels for all images",
        images(permuted),
        "label_agreement",
        "without any order",
    ),
    Damage("1 % of the images shifted by 1 pixel", images(shifted(0, 1), share=0.01)),
    Damage("all images rotated by 2°", images(turned(2))),
    # other pixels
    Damage("all images inverted", images(lambda x: 255 - x), "unlike_images_train", "inverted"),
    Damage("10 % of the images inverted", images(lambda x: 255 - x, share=0.1), "unlike_images_train"),
    Damage("all images at half the brightness", images(scaled(0.5)), "class_mean", "darker (pixels × 0.5)"),
    Damage("all images scaled to 0 to 1", images(scaled(1 / 255)), "class_mean"),
    Damage("strong noise on all images (deviation 80)", images(noisy(80)), "class_mean"),
    Damage("2 % of the images are noise", images(noise, share=0.02), "unlike_images_train"),
    Damage("2 % of the images show something else", images(checkerboard, share=0.02), "unlike_images_train"),
    Damage("1 % of the images blank", images(np.zeros_like, share=0.01), "ink_share"),
    Damage("the lower half of all images blank", images(lower_half_blank), "class_mean"),
    Damage("all images blurred (deviation 2 pixels)", images(blurred(2)), "class_mean"),
    Damage("thicker strokes", images(thicker), "ink_drift_train"),
    Damage("all images at 95 % of the brightness", images(scaled(0.95))),
    Damage("16 levels of grey in place of 256", images(coarse)),
    Damage("one pixel bright in all test images", images(hot_pixel, ["test"])),
    # other labels
    Damage("4 and 9 exchanged", labels(exchanged(4, 9)), "label_agreement", "labels 4 and 9 are exchanged"),
    Damage(
        "4 and 9 exchanged in test",
        labels(exchanged(4, 9), ["test"]),
        "suspect_labels_test",
        "labels 4 and 9 are exchanged",
    ),
    Damage("labels shuffled", labels(lambda y: random().permutation(y)), "label_agreement", "shuffled"),
    Damage(
        "labels of test shuffled",
        labels(lambda y: random().permutation(y), ["test"]),
        "label_agreement",
        "test: the labels are unrelated",
    ),
    Damage("labels in reverse order", labels(lambda y: y[::-1].copy()), "label_agreement", "shuffled"),
    Damage(
        "each label one too high, 9 becomes 0",
        labels(lambda y: ((y + 1) % 10).astype(np.uint8)),
        "label_agreement",
        "labels are renamed: 0 has the label 1",
    ),
    Damage("labels counted from 1", labels(lambda y: (y + 1).astype(np.uint8)), "label"),
    Damage("labels moved by one row", labels(lambda y: np.roll(y, 1)), "label_agreement", "shuffled"),
    Damage(
        "labels of 5 % of test moved by one row",
        labels(misaligned(0.05), ["test"]),
        "suspect_labels_test",
        "do not fit their labels",
    ),
    Damage(
        "all ones have the label 7",
        labels(renamed(1, 7)),
        "suspect_labels_train",
        "images of 1 have the label 7",
    ),
    Damage(
        "10 % of the threes have the label 8",
        labels(renamed(3, 8, 0.1)),
        "suspect_labels_train",
        needs=60_000,
    ),
    Damage("3 % of the labels wrong", labels(wrong(0.03)), "suspect_labels_train", "do not fit their labels"),
    Damage(
        "1 % of the train labels wrong", labels(wrong(0.01), ["train"]), "suspect_labels_train", needs=60_000
    ),
    Damage(
        "1 % of the test labels wrong", labels(wrong(0.01), ["test"]), "suspect_labels_test", needs=60_000
    ),
    Damage("0.1 % of the labels wrong", labels(wrong(0.001))),
    Damage("labels as 64-bit numbers", labels(lambda y: y.astype(np.int64)), "label_type"),
    # other splits
    Damage("train and test swapped", lambda s: {"train": s["test"], "test": s["train"]}, "test_share"),
    Damage("one test image in train", leaked(1), "test_in_train"),
    Damage(
        "half of the test images in train with one other pixel",
        leaked(1000, other_pixels(1)),
        "test_near_train",
    ),
    Damage("one test image in train with 10 other pixels", leaked(1, other_pixels(10)), "test_near_train"),
    Damage("100 test images in train, shifted by 2 pixels", leaked(100, shifted(1, -1)), "test_near_train"),
    Damage("11 train images twice", leaked(11, to="train"), "train_duplicates"),
    Damage(
        "11 train images twice with 3 other pixels",
        leaked(11, other_pixels(3), "train"),
        "train_near_duplicates",
    ),
    Damage("10 train images twice with 3 other pixels", leaked(10, other_pixels(3), "train")),
    Damage("one test image in train with noise on every pixel", leaked(1, noisy(20))),
    Damage("no fives in train", without(5), "class_present"),
    Damage("a third of the ones missing in train", without(1, 0.34), "class_share"),
    Damage("a tenth of the twos missing in train", without(2, 0.1)),
    Damage(
        "a test image without a label",
        lambda s: s | {"test": Split(s["test"].images, s["test"].labels[:-1])},
        "paired",
    ),
    Damage("nothing", lambda s: s),
]


def examine(splits: Splits, limits: Validate, known: Reference) -> list[CheckResult]:
    """Run all checks on some data, as the stage ``validate`` does."""
    described = tables.build(splits, limits, known)
    with tempfile.TemporaryDirectory() as folder:
        return engine.evaluate(
            described.by_name(), suite.checks(limits, described, known.profile), Path(folder) / "site"
        )


def problem(damage: Damage, results: Sequence[CheckResult]) -> str:
    """Return what differs from the expected verdict; empty if nothing does."""
    failed = {result.name for result in results if not result.success}
    likeness = next(result.seen for result in results if result.name == "likeness")
    if not damage.check:
        return (
            f"{damage.name}: should pass, but fails {', '.join(sorted(failed))}: {likeness}" if failed else ""
        )
    if damage.check not in failed:
        return f"{damage.name}: should fail {damage.check}, but fails {', '.join(sorted(failed)) or 'none'}"
    return (
        ""
        if damage.likeness in likeness
        else f"{damage.name}: should be named {damage.likeness!r}, found {likeness}"
    )


def main(
    draws: Annotated[int, typer.Option(help="Clean samples for the rate of false alarms.")] = 100,
    only: Annotated[
        str, typer.Option(help="Only damages with this text in their name; writes nothing.")
    ] = "",
) -> None:
    """Apply every damage, and write the table of docs/data.md."""
    paths = Paths(ROOT)
    settings.apply(paths)
    limits = params.load(paths.params).validate_
    known = reference.load(paths.reference, limits)
    splits = dataset.load(paths.raw).splits
    chosen = [damage for damage in DAMAGES if only in damage.name]
    rows, problems = (
        ["| damage | verdict | checks that say no | what `likeness` says |", "| --- | --- | --- | --- |"],
        [],
    )
    for damage in track(chosen, console=console):
        results = examine(damage.apply(splits), limits, known)
        rows.append(row(damage, results))
        problems += [text for text in [problem(damage, results)] if text]
    if not only:
        rows += ["", false_alarms(splits, draws, limits, known)]
    print("\n".join(rows))
    if problems:
        raise DataError(
            "\n".join(problems), fix="mend the checks, or the expectation in benchmarks/damages.py"
        )
    if not only:
        page = ROOT / "docs/data.md"
        files.write_text(
            page, replaced(page.read_text(encoding="utf-8"), "damages", "\n".join(rows), where=page)
        )


def false_alarms(splits: Splits, draws: int, limits: Validate, known: Reference) -> str:
    """Say how many random samples of clean data fail a check, and which."""
    sentences = []
    for train, test in ((12_000, 2_000), (300, 300)):
        failed = [
            [result.name for result in examine(clean, limits, known) if not result.success]
            for clean in samples(splits, draws, {"train": train, "test": test})
        ]
        counts = Counter(name for names in failed for name in names)
        by_check = ", ".join(f"`{name}` {count}" for name, count in counts.most_common())
        sentences.append(
            f"Of {draws} random samples of clean MNIST ({train:,} train and {test:,} test images), "
            f"{sum(map(bool, failed))} fail a check{f': {by_check}' if by_check else ''}."
        )
    return " ".join(sentences)


def row(damage: Damage, results: Sequence[CheckResult]) -> str:
    failed = [f"`{result.name}`" for result in results if not result.success]
    likeness = next(result for result in results if result.name == "likeness")
    named = likeness.seen if not likeness.success else ""
    return f"| {damage.name} | {'rejected' if failed else 'accepted'} | {' '.join(failed)} | {named} |"


def samples(splits: Splits, draws: int, sizes: Mapping[str, int]) -> Iterator[Splits]:
    """Yield random samples of clean data, with this number of images in each split."""
    generator = random()
    for _ in track(range(draws), console=console):
        yield {
            name: Split(splits[name].images[rows], splits[name].labels[rows])
            for name, size in sizes.items()
            for rows in [np.sort(generator.choice(len(splits[name].labels), size, replace=False))]
        }


if __name__ == "__main__":
    command.run(main)
