"""Prepare what the summary page shows of the data: classes, ink, sample images, and images that fail a check.

Each picture is small, and their number has a limit, so that a page stays below 1 MB for data of any size.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from lenet5.core.dataset import Array, Split
from lenet5.stages.validate import frames
from lenet5.stages.validate.reference import Profile
from lenet5.stages.validate.tables import Tables

CLASSES = 100
"""Largest number of classes on the page."""
SAMPLES = 12
"""Largest number of images of a class."""
FAILING = 120
"""Largest number of images that fail a check."""
_SIDE = 32
"""Largest side of a picture in pixels; larger images are made smaller."""
_LARGEST_SIDE = 512
"""Images with a longer side are not shown."""
_VALUES = 200_000
"""Numbers in all sample images, and in all failing images. A PNG file of noise has a byte for each."""
_GAP = 1


@dataclass(frozen=True)
class ClassBar:
    """One class in numbers, and some of its images."""

    name: str
    counts: dict[str, int]
    """Number of images by split."""
    shares: dict[str, float]
    """Share of the images of the split."""
    usual: float
    """Share in the reference."""
    samples: str | None
    """Some of its train images side by side, as the URI of a PNG file; None where there are none."""


@dataclass(frozen=True)
class Histogram:
    """Shares of images by bin."""

    bins: tuple[str, ...]
    series: dict[str, list[float]]
    """By name: ``reference``, and each split."""

    @property
    def top(self) -> float:
        """Return the largest share."""
        return max((share for shares in self.series.values() for share in shares), default=0.0) or 1.0


@dataclass(frozen=True)
class Failing:
    """An image that fails a check."""

    where: str
    """Its split and its index."""
    label: str
    """The name of its class; the number, where it has none."""
    likely: str | None
    """The more likely class, where the label is suspect."""
    failed: str
    """The names of the failed checks."""
    picture: str


@dataclass(frozen=True)
class Pictures:
    """What the page shows of the data."""

    classes: list[ClassBar]
    all_classes: int
    ink: Histogram
    ink_threshold: int
    failing: list[Failing]
    all_failing: int

    @property
    def top_share(self) -> float:
        """Return the largest share of a class."""
        shares = [share for bar in self.classes for share in (*bar.shares.values(), bar.usual)]
        return max(shares, default=0.0) or 1.0


def prepare(
    splits: Mapping[str, Split], described: Tables, failing: pd.DataFrame, profile: Profile
) -> Pictures:
    """Choose and draw what the page shows; equal data gives equal pictures.

    Args:
        splits: the raw splits by name.
        described: the tables that the checks read.
        failing: the failing rows of ``check_result.failing_rows``: ``split``, ``index``, ``label``,
            ``likely_label``, ``failed``.
        profile: of the reference.
    """
    return Pictures(
        classes=_classes(splits, described.classes, profile),
        all_classes=len(profile.names),
        ink=_ink(described.images, profile),
        ink_threshold=profile.ink_threshold,
        failing=list(_failing(splits, failing, profile.names)),
        all_failing=len(failing),
    )


def _classes(splits: Mapping[str, Split], table: pd.DataFrame, profile: Profile) -> list[ClassBar]:
    """Return the classes in order; of many, those whose shares differ most from the reference."""
    by_split = {str(name): rows for name, rows in table.groupby("split", sort=False, observed=True)}
    counts = {name: rows["count"].to_numpy(dtype=np.int64) for name, rows in by_split.items()}
    shares = {name: rows["share"].to_numpy(dtype=np.float64) for name, rows in by_split.items()}
    usual = np.array([profile.classes[name] for name in profile.names])
    shown = np.arange(len(profile.names))
    if len(shown) > CLASSES:
        change = np.max([np.abs(np.log((share + 1e-9) / usual)) for share in shares.values()], axis=0)
        shown = np.sort(np.argsort(-change, kind="stable")[:CLASSES])
    samples = _samples(splits.get("train"), shown, len(profile.names))
    return [
        ClassBar(
            profile.names[code],
            {name: int(count[code]) for name, count in counts.items()},
            {name: float(share[code]) for name, share in shares.items()},
            float(usual[code]),
            samples.get(code),
        )
        for code in shown.tolist()
    ]


def _samples(split: Split | None, shown: NDArray[np.int64], classes: int) -> dict[int, str]:
    """Return some train images of each class side by side, evenly spaced, as URIs."""
    if split is None or not _can_be_shown(split.images) or split.labels.ndim != 1:
        return {}
    labels = split.labels[: len(split.images)]
    values = _small(split.images[:1]).size
    each = int(np.clip(_VALUES // max(values * len(shown), 1), 1, SAMPLES))
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels, np.arange(classes + 1), sorter=order)
    found = {}
    for code in shown.tolist():
        rows = order[bounds[code] : bounds[code + 1]]
        if len(rows):
            chosen = rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(np.int64)]
            found[code] = _png(_side_by_side(_small(split.images[np.sort(chosen)])))
    return found


def _ink(images: pd.DataFrame, profile: Profile) -> Histogram:
    bins = frames.ink_bins(profile.ink_edges)
    series = {"reference": [profile.ink[name] for name in bins]}
    for split, table in images.groupby("split", observed=True, sort=False):
        counts = table["ink_bin"].value_counts().reindex(list(bins), fill_value=0)
        series[str(split)] = (counts / max(int(counts.sum()), 1)).tolist()
    return Histogram(bins, series)


def _failing(splits: Mapping[str, Split], rows: pd.DataFrame, names: Sequence[str]) -> Iterator[Failing]:
    """Yield failing images, the same number for each reason where there are more than fit."""
    if not len(rows):
        return
    turn = rows.groupby("failed").cumcount().to_numpy()
    left = _VALUES
    for row in rows.iloc[np.argsort(turn, kind="stable")[:FAILING]].to_dict("records"):
        split, index = splits[row["split"]], int(row["index"])
        if index >= len(split.images) or not _can_be_shown(split.images):
            continue
        image = _small(split.images[index : index + 1])
        left -= image.size
        if left < 0:
            return
        yield Failing(
            where=f"{row['split']} {index}",
            label="no label" if pd.isna(row["label"]) else _name(row["label"], names),
            likely=None if pd.isna(row["likely_label"]) else _name(row["likely_label"], names),
            failed=row["failed"],
            picture=_png(image[0]),
        )


def _name(label: Any, names: Sequence[str]) -> str:
    """Return the name of a class; of any other label, the label."""
    is_class = isinstance(label, int | np.integer) and 0 <= label < len(names)
    return names[int(label)] if is_class else str(label)


def _can_be_shown(images: Array) -> bool:
    is_grey_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    return is_grey_or_rgb and bool(len(images)) and 0 < max(images.shape[1:3]) <= _LARGEST_SIDE


def _small(images: Array) -> NDArray[np.uint8]:
    """Return images as uint8, each side at most ``_SIDE`` pixels long."""
    pixels = np.clip(images, 0, 255).astype(np.uint8)
    factor = -(-max(images.shape[1:3]) // _SIDE)
    return pixels[:, factor // 2 :: factor, factor // 2 :: factor]


def _side_by_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Join images (N, H, W) to one, with a gap of mid-grey between them."""
    count, height, width, *channels = images.shape
    sheet = np.full((height, count * (width + _GAP) - _GAP, *channels), 128, np.uint8)
    for place, image in enumerate(images):
        left = place * (width + _GAP)
        sheet[:, left : left + width] = image
    return sheet


def _png(pixels: NDArray[np.uint8]) -> str:
    """Return pixels (H, W) or (H, W, 3) as the URI of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
