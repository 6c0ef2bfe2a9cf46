"""The page shows the data in pictures, within a limit of bytes, and equally for equal data."""

import numpy as np
import pandas as pd
import pytest

from lenet5.core.dataset import Split
from lenet5.stages.validate import frames, pictures, reference, summary
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.tables import Tables
from tests.stages.validate.conftest import CHECKOUT, Splits

EDGES = (0.5, 0.9)


def page(splits: Splits, names: tuple[str, ...], failing: pd.DataFrame, params: Validate) -> str:
    """Render the page of some data that is its own reference."""
    images = frames.images(splits, 0, EDGES)
    images["likely_label"] = pd.array([None] * len(images), "UInt16")
    known = reference.load(CHECKOUT.reference, params).profile
    profile = reference.profile(
        images,
        known.statistics,
        made_from="",
        names=names,
        shape=splits["train"].images.shape[1:],
        ink_threshold=0,
        ink_edges=EDGES,
        classifier_sha256="",
    )
    described = Tables(images, frames.classes(images, names), pd.DataFrame())
    rows = images.iloc[failing["row"].to_numpy()].assign(failed=failing["failed"].to_numpy())
    shown = pictures.prepare(splits, described, rows, profile)
    return summary.render([], images={}, data_digest="", links={}, pictures=shown)


@pytest.mark.parametrize(("classes", "size"), [(1000, 64), (2, 8)])
def test_page_of_any_data_is_small(params: Validate, classes: int, size: int) -> None:
    """Noise is what a PNG file cannot compress, and every image fails."""
    generator = np.random.default_rng(1998)
    count = 2 * classes
    noise = generator.integers(0, 256, (count, size, size, 3), np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint16)
    splits = {"train": Split(noise, labels), "test": Split(noise, labels)}
    names = tuple(f"class {number}" for number in range(classes))
    failing = pd.DataFrame({"row": np.arange(2 * count), "failed": "ink_share"})
    text = page(splits, names, failing, params)
    assert len(text.encode()) < 1_000_000
    assert f"of {2 * count:,} failing images" in text
    assert ("that differ most from the reference" in text) == (classes > pictures.CLASSES)
    assert text.count("data:image/png;base64,") > min(classes, 20)
    assert text == page(splits, names, failing, params)
    assert "http" not in text


def test_failing_images_show_each_reason_and_names_are_escaped(params: Validate) -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, 8, 8), np.uint8)
    splits = {"train": Split(images, (np.arange(500) % 2).astype(np.uint8))}
    reasons = ["ink_share"] * 499 + ["label"]
    failing = pd.DataFrame({"row": np.arange(500), "failed": reasons})
    text = page(splits, ("<b>boot</b>", "shirt"), failing, params)
    assert "&lt;b&gt;boot&lt;/b&gt;" in text
    assert "<b>boot" not in text
    assert "<b>train 499</b><br>shirt<br><small>label</small>" in text


def test_images_of_a_strange_shape_are_not_shown(params: Validate) -> None:
    splits = {"train": Split(np.ones((4, 2, 2000), np.uint8), np.array([0, 1, 0, 1], np.uint8))}
    text = page(splits, ("a", "b"), pd.DataFrame({"row": [0], "failed": ["shape"]}), params)
    assert "data:image" not in text
    assert "<h2>Classes</h2>" in text
