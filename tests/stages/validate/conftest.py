"""A few thousand real digits, and ways to spoil them and to ask what validation says."""

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
    warnings.simplefilter("ignore")  # its own imports of modules that Python deprecates
    import great_expectations  # noqa: F401

from lenet5.stages.validate import check_result, engine, frames, reference, suite

CHECKOUT = Paths.find(Path(__file__).parent)

Splits = dict[str, Split]


class Verdict(NamedTuple):
    """What validation says of some data."""

    failed: set[str]
    rows: pd.DataFrame
    """The images to blame, with the checks they fail."""
    outcomes: list[check_result.CheckResult]

    def blamed(self, check: str) -> list[tuple[str, int]]:
        """(split, index) of the images that fail one check."""
        rows = next(o.rows for o in self.outcomes if o.name == check)
        return list(rows.itertuples(index=False, name=None))


Examine = Callable[..., Verdict]


@pytest.fixture(scope="session")
def mnist() -> Splits:
    """All of MNIST, as it lies in the checkout."""
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
    """3,000 train and 2,000 test digits, each class in its share of MNIST; copies, free to be spoiled."""
    return {name: Split(split.images.copy(), split.labels.copy()) for name, split in _subset.items()}


@pytest.fixture(scope="session")
def params() -> Validate:
    """The defaults: the ``validate`` section of the checkout's ``params.yaml``."""
    return load_params(CHECKOUT.params).validate_


@pytest.fixture
def examine(tmp_path: Path, params: Validate) -> Examine:
    """Ask the real expectations about some data: ``examine(splits, max_ink_drift=0.1)``."""

    def ask(splits: Mapping[str, Split], **changed: Any) -> Verdict:
        limits = Validate.model_validate(params.model_dump() | changed)
        images = frames.images(splits, limits.ink_threshold)
        profile = reference.Profile.model_validate_json(CHECKOUT.reference.read_bytes())
        outcomes = engine.evaluate(
            {"images": images, "classes": frames.classes(images)},
            {"images": suite.images(limits, images, profile), "classes": suite.classes(limits)},
            tmp_path / "site",
        )
        failed = {o.name for o in outcomes if not o.success}
        return Verdict(failed, check_result.offenders(images, outcomes), outcomes)

    return ask


@pytest.fixture
def project(tmp_path: Path, splits: Splits) -> Paths:
    """A project with raw data and the committed reference profile, and nothing else."""
    paths = Paths(tmp_path / "project")
    dataset.save(paths.raw, splits)
    shutil.copy(CHECKOUT.reference, paths.reference)
    return paths


def sample(split: Split, size: int) -> Split:
    """About ``size`` images drawn without replacement, each class in its share of ``split``."""
    rng = np.random.default_rng(1998)
    chosen = []
    for digit in range(10):
        every = np.flatnonzero(split.labels == digit)
        chosen.append(rng.choice(every, round(size * len(every) / len(split.labels)), replace=False))
    index = np.sort(np.concatenate(chosen))
    return Split(split.images[index], split.labels[index])


def _idx(name: str, header: int) -> Array:
    content = gzip.decompress((CHECKOUT.root / "data" / "mnist" / name).read_bytes())
    return np.frombuffer(content, np.uint8, offset=header)
