"""The three decisions of the promotion gate."""

from typing import Any, Literal

import numpy as np
import pytest

from lenet5.registry import paired_tests
from lenet5.registry.gate import Decision, LimitCheck, judge, limits
from lenet5.registry.paired_tests import Group, from_counts
from lenet5.stages.register.params import Ceilings, Floors, Gate, Register

GOOD = {
    "accuracy": 0.99,
    "worst_class_recall": 0.97,
    "mean_corruption_accuracy": 0.8,
    "calibration_error": 0.05,
    "loss": 0.1,
}
IMAGES = 10_000
NAN = float("nan")


def params(**gate: Any) -> Register:
    defaults = {"margin": 0.003, "confidence": 0.95, "tie": "keep", "resamples": 2000, "seed": 1}
    defaults |= {"corruption_margin": 0.05, "slice_margin": 0.02}
    return Register(
        model_name="digits",
        floors=Floors(accuracy=0.98, worst_class_recall=0.95, mean_corruption_accuracy=0.7),
        ceilings=Ceilings(calibration_error=0.1),
        gate=Gate(**{"max_drop": 0.02, **defaults, **gate}),
    )


def decide(gained: int, lost: int, metrics: dict[str, float] = GOOD, **gate: Any) -> tuple[Decision, str]:
    register = params(**gate)
    test = register.gate
    comparison = from_counts(
        IMAGES, gained, lost, confidence=test.confidence, resamples=test.resamples, seed=test.seed
    )
    verdict = judge(register, metrics, comparison)
    return verdict.decision, verdict.why


def test_without_a_champion_the_limits_alone_decide() -> None:
    verdict = judge(params(), GOOD, None)
    assert verdict.decision == "promote"
    assert [(c.name, c.relation, c.limit, c.value, c.passed) for c in verdict.checks] == [
        ("floor of accuracy", "at least", 0.98, 0.99, True),
        ("floor of worst_class_recall", "at least", 0.95, 0.97, True),
        ("floor of mean_corruption_accuracy", "at least", 0.7, 0.8, True),
        ("ceiling of calibration_error", "at most", 0.1, 0.05, True),
    ]


@pytest.mark.parametrize(
    ("name", "edge", "beyond"),
    [
        ("floor of accuracy", 0.98, 0.9799),
        ("floor of worst_class_recall", 0.95, 0.0),
        ("floor of mean_corruption_accuracy", 0.7, 0.69),
        ("ceiling of calibration_error", 0.1, 0.1001),
    ],
)
def test_metric_equal_to_its_limit_passes_and_metric_beyond_fails(
    name: str, edge: float, beyond: float
) -> None:
    metric = name.rsplit(maxsplit=1)[-1]
    assert judge(params(), GOOD | {metric: edge}, None).decision == "promote"
    for value in (beyond, NAN):
        verdict = judge(params(), GOOD | {metric: value}, None)
        assert verdict.decision == "reject"
        assert verdict.why == f"it fails the {name}"


def test_broken_limit_rejects_even_a_much_better_candidate() -> None:
    assert decide(300, 0, GOOD | {"accuracy": 0.97})[0] == "reject"
    assert decide(300, 0)[0] == "promote"


@pytest.mark.parametrize(
    ("gained", "lost", "decision", "why"),
    [
        (50, 25, "promote", "it is better"),  # p = 0.005
        (40, 25, "keep", "a tie"),  # p = 0.08: more correct images, not significant
        (30, 30, "keep", "a tie"),
        (0, 0, "keep", "a tie"),  # the same weights
        (25, 36, "keep", "a tie"),
        (0, 8, "keep", "it is worse than the champion, by less than 0.003"),  # p = 0.008
        (25, 60, "reject", "lowest likely difference"),
        (
            140,
            160,
            "reject",
            "lowest likely difference",
        ),  # the interval is wide because the models differ on many images
    ],
)
def test_decisions(gained: int, lost: int, decision: str, why: str) -> None:
    verdict = decide(gained, lost)
    assert verdict[0] == decision
    assert why in verdict[1]


def test_parameter_tie_decides_ties_and_nothing_else() -> None:
    assert decide(30, 30, tie="promote")[0] == "promote"
    assert decide(25, 60, tie="promote")[0] == "reject"
    assert decide(0, 8, tie="promote")[0] == "keep"
    assert decide(50, 25, tie="promote")[0] == decide(50, 25, tie="keep")[0] == "promote"


def test_wider_margin_turns_a_rejection_into_a_tie() -> None:
    assert decide(140, 160, margin=0.003)[0] == "reject"
    assert decide(140, 160, margin=0.01)[0] == "keep"


def test_higher_confidence_requires_more_evidence() -> None:
    assert decide(50, 25, confidence=0.95)[0] == "promote"
    assert decide(50, 25, confidence=0.999)[0] == "keep"


def test_missing_metric_is_an_error() -> None:
    with pytest.raises(KeyError):
        judge(params(), {"accuracy": 0.99}, None)


def test_every_limit_is_checked() -> None:
    register = params()
    names = [*register.floors.model_dump(), *register.ceilings.model_dump()]
    assert [check.name.split()[-1] for check in limits(register, GOOD)] == names


def group(kind: Literal["corruption", "slice"], name: str, lost: int, gained: int = 0) -> Group:
    """1000 images, of which the champion classifies 900 correctly."""
    champion = (np.arange(1000) < 900).astype(np.int64)
    candidate = champion.copy()
    candidate[:lost] = 0
    candidate[900 : 900 + gained] = 1
    margin = {"corruption": 0.05, "slice": 0.02}[kind]
    return Group(kind, name, margin, candidate, champion)


@pytest.mark.parametrize("kind", ["corruption", "slice"])
def test_better_candidate_that_is_inferior_somewhere_is_rejected(
    kind: Literal["corruption", "slice"],
) -> None:
    better = from_counts(IMAGES, 50, 25, confidence=0.95, resamples=2000, seed=1)
    equal = [group("corruption", "fog", 60, 60), group("slice", "class 3", 12, 12)]
    accepted = judge(params(), GOOD, better, groups=paired_tests.table(equal, 0.95))
    assert accepted.decision == "promote"
    found = paired_tests.table([*equal, group(kind, "bright", 240)], 0.95)
    for accept in (False, True):
        rejected = judge(params(tie="promote"), GOOD, better, groups=found, accept_new_data=accept)
        assert rejected.decision == "reject"
        assert rejected.why.startswith(
            f"it is worse than the champion by more than the margin on {kind} bright: accuracy 0.6600 "
            "against 0.9000, difference -0.2400, margin "
        )
        assert f"{kind} bright" in str(rejected)
    both = judge(params(), GOOD | {"accuracy": 0.1}, better, groups=found).why
    assert both.startswith("it fails the floor of accuracy; it is worse than the champion")


def test_noise_on_many_corruptions_and_slices_is_no_rejection() -> None:
    rng, equal = (
        np.random.default_rng(6),
        from_counts(IMAGES, 30, 30, confidence=0.95, resamples=2000, seed=1),
    )
    decisions, naive = [], []
    for _ in range(40):
        counts = rng.binomial(150, 0.5, size=30)
        groups = [group("slice", f"bin {i}", int(lost), 150 - int(lost)) for i, lost in enumerate(counts)]
        frame = paired_tests.table(groups, 0.95)
        naive.append(bool((frame["difference"] < -frame["margin"]).any()))
        decisions.append(judge(params(), GOOD, equal, groups=frame).decision)
    assert decisions == ["keep"] * 40
    assert sum(naive) > 20  # without a test, most of these candidates would be rejected


def test_verdict_as_text() -> None:
    assert (
        str(LimitCheck("floor of accuracy", "accuracy", 0.99, "at least", 0.98))
        == "floor of accuracy: 0.9900, at least 0.9800 ✓"
    )
    assert str(LimitCheck("a ceiling", "loss", 0.2, "at most", 0.1)) == "a ceiling: 0.2000, at most 0.1000 ✗"
    verdict = judge(params(), GOOD, from_counts(IMAGES, 50, 25, confidence=0.95, resamples=2000, seed=1))
    assert "50 images gained, 25 lost of 10,000: accuracy +0.0025 (95% interval +0.0008 to" in str(verdict)
    assert str(verdict).endswith("promote: it is better than the champion")
