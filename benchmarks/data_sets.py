"""Data sets that need no network: printed characters and coloured shapes, in several formats."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif"),
    *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
)
"""Fonts of Matplotlib with all letters and digits."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHAPES = ("circle", "cross", "square", "triangle")
TEST_SHARE = 5
"""One of so many images of each class is a test image."""


@dataclass(frozen=True)
class Pictures:
    """Images with their classes, in a random order."""

    images: NDArray[np.uint8]
    """(N, H, W) or (N, H, W, 3)."""
    labels: list[str]
    """(N,): names of the classes."""

    @property
    def is_test(self) -> NDArray[np.bool_]:
        """Return whether each image is one of test, (N,)."""
        return np.arange(len(self.labels)) % TEST_SHARE == 0


def printed(characters: str, each: int, *, side: int = 28, seed: int = 1998) -> Pictures:
    """Print characters in several fonts, light on dark, slightly moved, turned and scaled.

    Args:
        characters: the classes.
        each: images of each class.
        side: height and width.
        seed: of what changes.
    """
    random = np.random.default_rng(seed)
    drawn = [
        (_character(character, FONTS[int(random.integers(len(FONTS)))], side, random), character)
        for character in characters
        for _ in range(each)
    ]
    return _shuffled(drawn, random)


def shapes(each: int, *, side: int = 32, seed: int = 1998) -> Pictures:
    """Draw shapes in random colours on a background of another random colour.

    Args:
        each: images of each class.
        side: height and width.
        seed: of what changes.
    """
    random = np.random.default_rng(seed)
    drawn = [(_shape(name, side, random), name) for name in SHAPES for _ in range(each)]
    return _shuffled(drawn, random)


def write_folders(pictures: Pictures, folder: Path, *, splits: bool = True) -> None:
    """Write PNG files as ``split/class/number.png``, or as ``class/number.png``."""
    for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
        parent = folder / label
        if splits:
            parent = folder / ("test" if pictures.is_test[number] else "train") / label
        parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(parent / f"{number:05}.png")


def write_csv(pictures: Pictures, folder: Path) -> None:
    """Write ``train.csv`` and ``test.csv`` with the columns ``label``, ``pixel0``, ``pixel1``, …"""
    folder.mkdir(parents=True)
    for split, chosen in _splits(pictures).items():
        flat = pictures.images[chosen].reshape(len(chosen), -1)
        table = pd.DataFrame(flat, columns=[f"pixel{number}" for number in range(flat.shape[1])])
        table.insert(0, "label", [pictures.labels[row] for row in chosen])
        table.to_csv(folder / f"{split}.csv", index=False)


def write_parquet(pictures: Pictures, folder: Path) -> None:
    """Write Parquet files as the Hugging Face hub has them: ``image: struct<bytes, path>`` and ``label``."""
    folder.mkdir(parents=True)
    for split, chosen in _splits(pictures).items():
        rows = []
        for row in chosen:
            rows.append({"bytes": _png(pictures.images[row]), "path": f"{row:05}.png"})
        table = pa.table({"image": rows, "label": [pictures.labels[row] for row in chosen]})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def write_npz(pictures: Pictures, file: Path) -> None:
    """Write an archive with the keys ``x_train``, ``y_train``, ``x_test``, ``y_test``; labels are names."""
    labels = np.array(pictures.labels)
    arrays: dict[str, NDArray[Any]] = {}
    for split, chosen in _splits(pictures).items():
        arrays |= {f"x_{split}": pictures.images[chosen], f"y_{split}": labels[chosen]}
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the stub takes a name for an option


def _splits(pictures: Pictures) -> Mapping[str, NDArray[np.intp]]:
    return {"train": np.flatnonzero(~pictures.is_test), "test": np.flatnonzero(pictures.is_test)}


def _png(image: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def _shuffled(drawn: list[tuple[Image.Image, str]], random: np.random.Generator) -> Pictures:
    order = random.permutation(len(drawn))
    return Pictures(np.stack([np.asarray(drawn[row][0]) for row in order]), [drawn[row][1] for row in order])


def _character(character: str, font: str, side: int, random: np.random.Generator) -> Image.Image:
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    size = side * float(random.uniform(0.6, 0.85))
    large = Image.new("L", (2 * side, 2 * side))
    where = side + random.uniform(-0.1, 0.1, 2) * side
    ImageDraw.Draw(large).text(
        (float(where[0]), float(where[1])),
        character,
        fill=int(random.integers(180, 256)),
        font=ImageFont.truetype(str(file), size),
        anchor="mm",
    )
    turned = large.rotate(float(random.uniform(-12, 12)), Image.Resampling.BILINEAR)
    return turned.crop((side // 2, side // 2, side // 2 + side, side // 2 + side))


def _shape(name: str, side: int, random: np.random.Generator) -> Image.Image:
    background, colour = random.integers(0, 256, (2, 3))
    while np.abs(background - colour).sum() < 200:
        colour = random.integers(0, 256, 3)
    picture = Image.new("RGB", (side, side), tuple(map(int, background)))
    draw = ImageDraw.Draw(picture)
    radius = side * float(random.uniform(0.2, 0.4))
    x, y = (float(each) for each in random.uniform(radius, side - radius, 2))
    fill = tuple(map(int, colour))
    box = (x - radius, y - radius, x + radius, y + radius)
    match name:
        case "circle":
            draw.ellipse(box, fill=fill)
        case "square":
            draw.rectangle(box, fill=fill)
        case "triangle":
            draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
        case "cross":
            arm = radius / 3
            draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
            draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
    noisy = np.asarray(picture, np.float64) + random.normal(0, 12, (side, side, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))
