"""Fixtures: a few thousand real digits, and a function that runs all checks on them."""

import gzip
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Array, Split
from lenet5.core.paths import Paths
from lenet5.stages.params import load as load_params
from lenet5.stages.validate.params import Validate

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Great Expectations imports deprecated modules
    import great_expectations  # noqa: F401

from lenet5.stages.validate import check_result, engine, frames, reference, suite

CHECKOUT = Paths.find(Path(__file__).parent)

Splits = dict[str, Split]


class Verdict(NamedTuple):
    """The results of all checks on some data."""

    failed: set[str]
    """Names of the failed checks."""
    rows: pd.DataFrame
    """The failing images, as ``check_result.failing_rows`` returns them."""
    results: list[check_result.CheckResult]

    def failing(self, check: str) -> list[tuple[str, int]]:
        """Return (split, index) of the images that fail one check."""
        rows = next(result.rows for result in self.results if result.name == check)
        return list(rows.itertuples(index=False, name=None))


Examine = Callable[..., Verdict]


@pytest.fixture(scope="session")
def mnist() -> Splits:
    """All of MNIST, from the checkout."""
    return {
        name: Split(
            _idx(f"{prefix}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28),
            _idx(f"{prefix}-labels-idx1-ubyte.gz", header=8),
        )
        for name, prefix in (("train", "train"), ("test", "t10k"))
    }


@pytest.fixture(scope="session")
def _subset(mnist: Splits) -> Splits:
    return {"train": sample(mnist["train"], 3000), "test": sample(mnist["test"], 2000)}


@pytest.fixture
def splits(_subset: Splits) -> Splits:
    """3,000 train and 2,000 test digits, stratified by class. They are copies, which a test may change."""
    return {name: Split(split.images.copy(), split.labels.copy()) for name, split in _subset.items()}


@pytest.fixture(scope="session")
def params() -> Validate:
    """The defaults: the ``validate`` section of the checkout's ``params.yaml``."""
    return load_params(CHECKOUT.params).validate_


@pytest.fixture
def examine(tmp_path: Path, params: Validate) -> Examine:
    """Run all checks on some data: ``examine(splits, max_ink_drift=0.1)``."""

    def run(splits: Mapping[str, Split], **changed: Any) -> Verdict:
        limits = Validate.model_validate(params.model_dump() | changed)
        images = frames.images(splits, limits.ink_threshold)
        profile = reference.Profile.model_validate_json(CHECKOUT.reference.read_bytes())
        results = engine.evaluate(
            {"images": images, "classes": frames.classes(images)},
            {"images": suite.images(limits, images, profile), "classes": suite.classes(limits)},
            tmp_path / "site",
        )
        failed = {result.name for result in results if not result.success}
        return Verdict(failed, check_result.failing_rows(images, results), results)

    return run


@pytest.fixture
def project(tmp_path: Path, splits: Splits) -> Paths:
    """A project with raw data and the committed reference profile only."""
    paths = Paths(tmp_path / "project")
    dataset.save(paths.raw, splits)
    shutil.copy(CHECKOUT.reference, paths.reference)
    return paths


def sample(split: Split, size: int) -> Split:
    """Return about ``size`` images, drawn without replacement and stratified by class."""
    rng = np.random.default_rng(1998)
    chosen = []
    for digit in range(10):
        indices = np.flatnonzero(split.labels == digit)
        count = round(size * len(indices) / len(split.labels))
        chosen.append(rng.choice(indices, count, replace=False))
    index = np.sort(np.concatenate(chosen))
    return Split(split.images[index], split.labels[index])


def _idx(name: str, header: int) -> Array:
    content = gzip.decompress((CHECKOUT.root / "data" / "mnist" / name).read_bytes())
    return np.frombuffer(content, np.uint8, offset=header)
