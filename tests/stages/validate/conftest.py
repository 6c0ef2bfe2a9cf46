"""Fixtures: a few thousand real digits, and a function that runs all checks on them."""

import gzip
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from lenet5.core.dataset import Array, Split
from lenet5.core.paths import Paths
from lenet5.stages.params import load as load_params
from lenet5.stages.validate.params import Validate

if TYPE_CHECKING:
    from lenet5.stages.validate import check_result, reference

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
with warnings.catch_warnings(), suppress(ImportError):  # a fast run hides it
    warnings.simplefilter("ignore")  # Great Expectations imports deprecated modules
    import great_expectations  # noqa: F401

CHECKOUT = Paths.find(Path(__file__).parent)

Splits = dict[str, Split]


class Verdict(NamedTuple):
    """The results of all checks on some data."""

    failed: set[str]
    """Names of the failed checks."""
    rows: pd.DataFrame
    """The failing images, as ``check_result.failing_rows`` returns them."""
    results: "list[check_result.CheckResult]"

    def result(self, check: str) -> "check_result.CheckResult":
        return next(result for result in self.results if result.name == check)

    def failing(self, check: str) -> list[tuple[str, int]]:
        """Return (split, index) of the images that fail one check."""
        return list(self.result(check).rows.itertuples(index=False, name=None))


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
def sampled(mnist: Splits) -> Splits:
    """3,000 train and 2,000 test digits, stratified by class. They are shared: change only a ``copy``."""
    return {"train": sample(mnist["train"], 3000), "test": sample(mnist["test"], 2000)}


@pytest.fixture
def splits(sampled: Splits) -> Splits:
    """A copy of ``sampled``, which a test may change."""
    return copy(sampled)


@pytest.fixture(scope="session")
def params() -> Validate:
    """The defaults: the ``validate`` section of the checkout's ``params.yaml``."""
    return load_params(CHECKOUT.params).validate_


@pytest.fixture(scope="session")
def mnist_reference(params: Validate) -> "reference.Reference":
    """The committed reference."""
    from lenet5.stages.validate import reference

    return reference.load(CHECKOUT.reference, params)


@pytest.fixture(scope="session")
def examine(params: Validate, mnist_reference: "reference.Reference") -> Examine:
    """Run all checks on some data, without Data Docs: ``examine(splits, max_ink_drift=0.1)``.

    A run takes half a second, and the size of the data hardly matters: Great Expectations spends the time on
    its own objects. Tests that can read the same verdict should share one run.
    """
    from lenet5.stages.validate import check_result, engine, suite, tables

    def run(splits: Mapping[str, Split], **changed: Any) -> Verdict:
        limits = Validate.model_validate(params.model_dump() | changed)
        described = tables.build(splits, limits, mnist_reference)
        checks = suite.checks(limits, described, mnist_reference.profile)
        results = engine.evaluate(described.by_name(), checks)
        failed = {result.name for result in results if not result.success}
        return Verdict(failed, check_result.failing_rows(described.images, results), results)

    return run


def copy(splits: Splits) -> Splits:
    return {name: Split(split.images.copy(), split.labels.copy()) for name, split in splits.items()}


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
