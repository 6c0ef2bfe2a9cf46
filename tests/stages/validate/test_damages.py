"""Damaged data is rejected by the expected check, and near misses are accepted.

Every damage is applied by `python -m benchmarks.damages`, which writes the table of docs/data.md. Here, each
run has one damage in train and another one in test.
"""

import re

import pytest

from benchmarks.damages import DAMAGES, Damage, Splits
from tests.stages.validate.conftest import CHECKOUT, Examine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("validate-damages")]

BY_NAME = {damage.name: damage for damage in DAMAGES}
PAIRS = [
    ("4 and 9 exchanged", "all images transposed"),
    ("3 % of the labels wrong", "all images shifted by 1 pixel"),
    ("all ones have the label 7", "one permutation of the pixels for all images"),
    ("labels shuffled", "2 % of the images show something else"),
    ("each label one too high, 9 becomes 0", "10 % of the images inverted"),
    ("0.1 % of the labels wrong", "all images at 95 % of the brightness"),
]
"""Damages of train and of test."""
LONG = PAIRS[3:5]


def applied(damage: Damage, splits: Splits, split: str) -> Splits:
    """Damage one of the splits."""
    return splits | {split: damage.apply(splits)[split]}


@pytest.mark.parametrize(
    ("train", "test"),
    [pytest.param(*pair, marks=[pytest.mark.long] if pair in LONG else []) for pair in PAIRS],
    ids=[" + ".join(pair) for pair in PAIRS],
)
def test_damage_of_each_split_is_told(examine: Examine, sampled: Splits, train: str, test: str) -> None:
    damages = {"train": BY_NAME[train], "test": BY_NAME[test]}
    splits = sampled
    for split, damage in damages.items():
        splits = applied(damage, splits, split)
    verdict = examine(splits)
    assert bool(verdict.failed) == any(damage.check for damage in damages.values())
    likeness = dict(re.findall(r"(train|test): ([^;]+)", verdict.result("likeness").seen))
    for split, damage in damages.items():
        wanted = damage.check.removesuffix("_train").removesuffix("_test")
        if wanted in ("suspect_labels", "unlike_images"):
            assert f"{wanted}_{split}" in verdict.failed
        elif wanted:
            assert split in {
                row.split()[0] for row in verdict.result(wanted).seen.split(": ", 1)[1].split(", ")
            }
        named = damage.likeness.removeprefix("test: ")
        assert named in likeness.get(split, "")
        assert (split in likeness) == bool(damage.check)


def test_rows_with_a_suspect_label_are_listed_with_the_likely_one(examine: Examine, sampled: Splits) -> None:
    """Almost all exchanged labels are found, and few others."""
    damaged = applied(BY_NAME["4 and 9 exchanged"], sampled, "train")
    rows = examine(damaged).rows
    suspects = rows[rows["failed"].str.contains("suspect_labels_train")]
    truth = sampled["train"].labels[suspects["index"].to_numpy(dtype=int)]
    right = (truth == suspects["likely_label"]).mean()
    exchanged = (damaged["train"].labels != sampled["train"].labels).sum()
    assert len(suspects) > 0.6 * exchanged
    assert right > 0.97


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGES, ids=BY_NAME)
def test_every_damage_has_the_expected_verdict(damage: Damage, examine: Examine, mnist: Splits) -> None:
    verdict = examine(damage.apply(mnist))
    if damage.check:
        assert damage.check in verdict.failed
        assert damage.likeness in verdict.result("likeness").seen
    else:
        assert verdict.failed == set()


def test_docs_list_every_damage() -> None:
    page = (CHECKOUT.root / "docs/data.md").read_text()
    table = page.split("<!-- damages:begin -->")[1].split("<!-- damages:end -->")[0]
    rows = re.findall(r"^\| (.+?) \| (rejected|accepted) \| (.*?) \|", table, re.MULTILINE)
    assert len(DAMAGES) >= 40
    assert [name for name, _, _ in rows] == list(BY_NAME)
    for name, verdict, checks in rows:
        assert verdict == ("rejected" if BY_NAME[name].check else "accepted")
        assert f"`{BY_NAME[name].check}`" in checks or not BY_NAME[name].check
