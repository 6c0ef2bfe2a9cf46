"""What changed between two versions, and which one is better: in words."""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from lenet5.registry import comparison
from lenet5.registry.model_versions import Version
from lenet5.stages.register.params import Gate
from lenet5.tracking import tags
from tests.registry.factory import params

GATE: Gate = params("digits").register_.gate
IMAGES = 1000
EARLIER = {tags.COMMIT: "a" * 40, tags.RAW_DATA: "r", f"{tags.ENVIRONMENT}requirements": "q"}
"""Tags of a version that an earlier release registered."""


def version(number: int, **changed: str) -> Version:
    of_code = {tags.CODE: json.dumps({"ingest": "1", "train": "2"})}
    named = {getattr(tags, name): value for name, value in changed.items()}
    return Version("digits", number, (), datetime(2026, 1, 1, tzinfo=UTC), "run", EARLIER | of_code | named)


def predicted(wrong: Collection[int]) -> pd.DataFrame:
    label = np.arange(IMAGES) % 10
    is_wrong = np.isin(np.arange(IMAGES), list(wrong))
    return pd.DataFrame({"label": label, "predicted": (label + is_wrong) % 10})


@pytest.mark.parametrize(
    ("tag_values", "parameters", "words"),
    [
        ({}, {}, []),
        ({}, {"train.kernel_size": "5", "preprocess.padding": "2"}, ["kernel_size 5", "padding 2"]),
        ({}, {"register.floors.accuracy": "0.5"}, []),
        ({}, {f"train.{name}": "1" for name in "abcd"}, ["a 1", "b 1", "c 1", "1 more parameter"]),
        ({}, {f"train.{name}": "1" for name in "abcde"}, ["a 1", "b 1", "c 1", "2 more parameters"]),
        ({"RAW_DATA": "other"}, {"ingest.sha256.train_images": "other"}, ["data"]),
        ({"CODE": json.dumps({"ingest": "1", "train": "3"})}, {}, ["code of train"]),
        ({"CODE": json.dumps({"ingest": "3", "train": "3"})}, {}, ["code"]),
        ({"COMMIT": "b" * 40}, {}, []),
    ],
)
def test_changes_are_named(
    tag_values: dict[str, str], parameters: Mapping[str, str], words: list[str]
) -> None:
    base = {"train.kernel_size": "3", "preprocess.padding": "0"}
    assert comparison.changes(version(2, **tag_values), version(1), base | dict(parameters), base) == words


def test_parameter_that_the_version_lacks_is_not_set() -> None:
    assert comparison.changes(version(2), version(1), {}, {"train.gamma": "1"}) == ["gamma not set"]


def test_parameter_that_an_earlier_release_did_not_have_has_its_default() -> None:
    base = {"train.kernel_size": "3"}
    assert comparison.changes(version(2), version(1), {**base, "train.distortion.elastic": "0.0"}, base) == []
    bent = {**base, "train.distortion.elastic": "1.5"}
    assert comparison.changes(version(2), version(1), bent, base) == ["elastic 1.5"]
    assert comparison.changes(version(2), version(1), base, bent) == ["elastic 0.0"]


def test_version_of_an_earlier_release_says_commit_for_its_code() -> None:
    earlier = Version("digits", 1, (), datetime(2026, 1, 1, tzinfo=UTC), "run", EARLIER)
    assert comparison.parameters(earlier) is None
    assert comparison.changes(version(2), earlier, {}, {}) == []
    assert comparison.changes(version(2, COMMIT="b" * 40), earlier, {}, {}) == ["commit"]


def test_significant_gain_is_said_first() -> None:
    found = comparison.answer(GATE, version(1), version(2), (predicted(range(40)), predicted(range(10))))
    assert found.better == 2
    assert found.sentence.startswith("Version 2 is better: accuracy 0.9900, version 1 has 0.9600; ")
    assert "+0.0300 on the same 1,000 test images (95% interval +0.0" in found.sentence
    back = comparison.answer(GATE, version(2), version(1), (predicted(range(10)), predicted(range(40))))
    assert back.better == 2
    assert "version 1 against version 2: -0.0300" in back.sentence


def test_difference_that_chance_explains_is_no_gain() -> None:
    found = comparison.answer(GATE, version(1), version(2), (predicted(range(12)), predicted(range(10))))
    assert found.better is None
    assert found.sentence.startswith("Neither version is shown to be better: ")
    assert found.comparison is not None
    assert found.comparison.p_value > 0.05
    same = comparison.answer(GATE, version(1), version(2), (predicted(()), predicted(())))
    assert same.better is None


def test_versions_without_common_images_are_not_compared() -> None:
    one = version(1)
    two = version(2)
    found = comparison.answer(GATE, one, two, None)
    assert (found.better, found.comparison) == (None, None)
    assert "unknown and unknown, do not show which one is better. `lenet5 compare 1 2`" in found.sentence
