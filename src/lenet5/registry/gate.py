"""The promotion gate: absolute limits, then paired tests against the champion.

promote      the candidate meets every limit, and is significantly better or there is no champion
keep         the champion stays: a tie (``register.gate.tie`` decides it), a loss within the margin, or a
             candidate that was rolled back
reject       the candidate breaks a limit, or may be worse than the champion by more than the margin, or is
             shown to be worse by more than another margin on a corruption or a slice (``paired_tests``)
other_data   the test data of the two differ in kind, or those of the champion cannot be found: the candidate
             is held back until a user accepts the new data

When the two were evaluated on different test data, the gate compares them on both sets. A model that is good
on its own test images and bad on those of the other model says that the two sets differ in kind: rotated
images, other labels, another sensor. Then an image that the candidate gains says nothing about the candidate.
The candidate must win on its own set, because it may have trained on images of the champion's set. And it
must not lose on the champion's set, because its own one comes from the same source as its training data: a
fault of that source looks like a gain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.model.metrics import summarize, wilson
from lenet5.registry import paired_tests
from lenet5.registry.paired_tests import Comparison
from lenet5.stages.register.params import Gate, Register

if TYPE_CHECKING:
    from lenet5.registry.predictions import Collected, PairedAnswers, PairedPredictions
    from lenet5.registry.promotion_log import LogEntry
    from lenet5.stages.params import Params

Decision = Literal["promote", "keep", "reject", "other_data"]


@dataclass(frozen=True)
class LimitCheck:
    """The comparison of one metric with one limit."""

    name: str
    metric: str
    value: float
    relation: Literal["at least", "at most", "above"]
    limit: float

    @property
    def passed(self) -> bool:
        """Return whether the metric keeps the limit. NaN keeps none."""
        match self.relation:
            case "at least":
                return self.value >= self.limit
            case "at most":
                return self.value <= self.limit
            case "above":
                return self.value > self.limit

    def __str__(self) -> str:
        mark = "✓" if self.passed else "✗"
        return f"{self.name}: {self.value:.4f}, {self.relation} {self.limit:.4f} {mark}"


@dataclass(frozen=True)
class Scores:
    """Candidate and champion on one test set."""

    candidate: float
    """Accuracy of the candidate, 0 to 1."""
    champion: float
    """Accuracy of the champion."""
    comparison: Comparison
    """The two, image by image."""


@dataclass(frozen=True)
class DataChange:
    """Candidate and champion on the test images of both."""

    on_candidates: Scores
    """On the test images of the candidate: the new data."""
    on_champions: Scores | None
    """On the test images of the champion: the old data. None when these images cannot be found."""
    missing: str = ""
    """Which images cannot be found, and how to bring them."""

    def __str__(self) -> str:
        header = f"{'':29}{'images':>8}{'champion':>10}{'candidate':>11}{'gained':>8}{'lost':>8}{'p':>10}"
        lines = [header, _row("the candidate's test images", self.on_candidates)]
        lines += [_row("the champion's test images", self.on_champions)] if self.on_champions else []
        lines += [self.missing] if self.missing else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    """The decision about one candidate, with its reasons."""

    decision: Decision
    why: str
    checks: tuple[LimitCheck, ...]
    comparison: Comparison | None = None
    """On the test images of the candidate; None when there was no champion."""
    change: DataChange | None = None
    """Both test sets; None when candidate and champion were evaluated on the same one."""
    accepted: bool = False
    """Whether a user accepted the new test data, so that the champion's test set did not count."""
    groups: pd.DataFrame | None = field(default=None, compare=False)
    """Every corruption and slice, as :func:`lenet5.registry.paired_tests.table` returns it; None when there
    was no champion."""
    missing: str = ""
    """Why the candidate cannot be compared on corrupted images, and what to do."""
    recorded: str = field(default="", compare=False)
    """The verdict as text, when it was read from the registry: then checks and comparisons are left out."""

    def __str__(self) -> str:
        if self.recorded:
            return self.recorded
        compared = [f"against the champion: {self.comparison}"] if self.comparison else []
        if self.change:
            compared = [str(self.change)]
        groups = [paired_tests.describe(self.groups)] if self.groups is not None else []
        groups += [self.missing] if self.missing else []
        return "\n".join([*map(str, self.checks), *compared, *groups, f"{self.decision}: {self.why}"])


def limits(params: Register, metrics: Mapping[str, float]) -> tuple[LimitCheck, ...]:
    """Check the absolute limits.

    Args:
        params: The floors and ceilings.
        metrics: Metrics of one model, by their names in :class:`lenet5.core.results.Evaluation`.

    Raises:
        KeyError: a limit names a metric that was not measured.
    """
    floors, ceilings = params.floors.model_dump(), params.ceilings.model_dump()
    return (
        *(LimitCheck(f"floor of {m}", m, metrics[m], "at least", limit) for m, limit in floors.items()),
        *(LimitCheck(f"ceiling of {m}", m, metrics[m], "at most", limit) for m, limit in ceilings.items()),
    )


def drops(gate: Gate, change: DataChange) -> tuple[LimitCheck, ...]:
    """Check how much each model loses on the test images of the other: the lowest likely drop in accuracy.

    Args:
        gate: The largest drop, and the confidence of the interval.
        change: Both models on both sets. When one of the sets is missing, there is no check.
    """
    if change.on_champions is None:
        return ()
    new, old = change.on_candidates, change.on_champions
    images = new.comparison.images, old.comparison.images
    champion = lowest_likely_drop(old.champion, images[1], new.champion, images[0], gate.confidence)
    candidate = lowest_likely_drop(new.candidate, images[0], old.candidate, images[1], gate.confidence)
    name = "lowest likely drop of the {} on the {}'s test images"
    return (
        LimitCheck(name.format("champion", "candidate"), "champion_drop", champion, "at most", gate.max_drop),
        LimitCheck(
            name.format("candidate", "champion"), "candidate_drop", candidate, "at most", gate.max_drop
        ),
    )


def lowest_likely_drop(
    own_accuracy: float, own_images: int, accuracy: float, images: int, confidence: float
) -> float:
    """Return the lower end of the interval for the drop of a model from its own test set to another one.

    Source: Newcombe, 1998, method 10: the difference of two proportions by Wilson's intervals. It is for
    independent samples. Two sets with the same images (transposed, say) are positively correlated, and then
    the interval is wider than it needs to be.

    Args:
        own_accuracy: Accuracy on the test set that the model was evaluated on, 0 to 1.
        own_images: Images in that set.
        accuracy: Accuracy on the other set.
        images: Images in the other set.
        confidence: Confidence of the two-sided interval, between 0 and 1.
    """
    own_low, _ = wilson(own_accuracy, own_images, confidence)
    _, high = wilson(accuracy, images, confidence)
    drop = own_accuracy - accuracy
    return float(drop - ((own_accuracy - own_low) ** 2 + (high - accuracy) ** 2) ** 0.5)


def judge_predictions(
    params: "Params",
    collected: "Collected",
    answers: "PairedAnswers",
    withdrawal: "LogEntry | None",
    *,
    accept_new_data: bool = False,
) -> Verdict:
    """Decide about a candidate from its predictions and those of the champion. This does no I/O.

    Args:
        params: Limits, and parameters of the paired test.
        collected: Predictions on the same test images.
        answers: Predictions on the same corrupted images, and the slices of the test images.
        withdrawal: The rollback that took the alias from the candidate. Such a candidate is not promoted.
        accept_new_data: Judge on the test images of the candidate alone.
    """
    scores = _scores(params, collected.on_candidates)
    change = None
    if scores and not collected.same_data:
        on_champions = _scores(params, collected.on_champions) if collected.on_champions else None
        change = DataChange(scores, on_champions, collected.missing)
    candidate = collected.on_candidates.candidate
    verdict = judge(
        params.register_,
        {
            **summarize(candidate, params.evaluate.calibration_bins),
            "mean_corruption_accuracy": answers.mean_accuracy,
        },
        scores.comparison if scores else None,
        change,
        _groups(params, collected.on_candidates, answers),
        missing=answers.missing,
        accept_new_data=accept_new_data,
    )
    if verdict.decision == "promote" and withdrawal:
        why = f"it was rolled back on {withdrawal.time:%Y-%m-%d %H:%M} UTC: {withdrawal.reason}"
        return replace(verdict, decision="keep", why=why)
    return verdict


def _scores(params: "Params", paired: "PairedPredictions") -> Scores | None:
    """Compare candidate and champion on one test set; None when there is no champion."""
    if paired.champion is None:
        return None
    gate = params.register_.gate
    candidate, champion = _correct(paired.candidate), _correct(paired.champion)
    comparison = paired_tests.compare(
        candidate, champion, confidence=gate.confidence, resamples=gate.resamples, seed=gate.seed
    )
    return Scores(float(candidate.mean()), float(champion.mean()), comparison)


def _groups(params: "Params", paired: "PairedPredictions", answers: "PairedAnswers") -> pd.DataFrame | None:
    """Compare candidate and champion on each corruption and slice; None when there is no champion."""
    gate = params.register_.gate
    if paired.champion is None:
        return None
    groups = paired_tests.on_slices(
        _correct(paired.candidate),
        _correct(paired.champion),
        _slices(paired.candidate, answers.slices),
        gate.slice_margin,
    )
    if answers.candidate is not None and answers.champion is not None:
        groups += paired_tests.on_corruptions(answers.candidate, answers.champion, gate.corruption_margin)
    return paired_tests.table(groups, gate.confidence)


def _slices(predictions: pd.DataFrame, slices: pd.DataFrame | None) -> pd.DataFrame:
    """Return the slices of the test images; only the classes for versions that have no table of slices."""
    if slices is not None:
        return slices
    return pd.DataFrame({"index": predictions["index"], "class": predictions["label"].astype(str)})


def _correct(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which images are classified correctly: bool (N,).

    Args:
        frame: One row for each image: ``label``, ``predicted``.
    """
    return (frame["label"] == frame["predicted"]).to_numpy()


def judge(
    params: Register,
    metrics: Mapping[str, float],
    comparison: Comparison | None,
    change: DataChange | None = None,
    groups: pd.DataFrame | None = None,
    *,
    missing: str = "",
    accept_new_data: bool = False,
) -> Verdict:
    """Decide about a candidate from its metrics and comparisons.

    Args:
        params: The limits, the margin and the confidence.
        metrics: Metrics of the candidate on its own test images; every limited metric must be among them.
        comparison: Candidate against champion on the test images of the candidate; None when there is no
            champion. Then the limits alone decide.
        change: Both test sets; None when the two were evaluated on the same one.
        groups: Candidate against champion on each corruption and slice of the test images of the candidate,
            as :func:`lenet5.registry.paired_tests.table` returns it; None when there is no champion.
        missing: Why the candidate cannot be compared on corrupted images; empty if it can. A candidate that
            cannot be compared is rejected.
        accept_new_data: Judge on the test images of the candidate alone.
    """
    gate = params.gate
    checks = limits(params, metrics)
    if comparison:
        checks = (*checks, _not_inferior("low", "lowest likely difference in accuracy", comparison, gate))
    failures = [f"it cannot be compared on corrupted images: {missing.splitlines()[0]}"] if missing else []
    if groups is not None and (worse := paired_tests.worse(groups)):
        failures.append(worse)
    verdict = partial(Verdict, comparison=comparison, change=change, groups=groups, missing=missing)
    if change is None:
        return verdict(*_decide(gate, checks, failures, comparison), checks)

    dropped = drops(gate, change)
    if accept_new_data:
        decision, why = _decide(gate, checks, failures, comparison)
        return verdict(decision, why, (*checks, *dropped), accepted=True)

    old = change.on_champions.comparison if change.on_champions else None
    if old:
        name = "lowest likely difference in accuracy on the champion's test images"
        checks = (*checks, _not_inferior("low_on_champions_data", name, old, gate))
    if old is None or not all(check.passed for check in dropped):
        decision, why = "other_data", _other_data(change, dropped)
    else:
        decision, why = _decide(gate, checks, failures, comparison, old)
    return verdict(decision, why, (*checks, *dropped))


def _not_inferior(metric: str, name: str, comparison: Comparison, gate: Gate) -> LimitCheck:
    return LimitCheck(name, metric, comparison.low, "above", -gate.margin)


def _decide(
    gate: Gate,
    checks: tuple[LimitCheck, ...],
    failures: list[str],
    comparison: Comparison | None,
    on_champions_data: Comparison | None = None,
) -> tuple[Decision, str]:
    broken = [check.name for check in checks if not check.passed]
    limits_broken = [f"it fails the {', the '.join(broken)}"] if broken else []
    if reasons := [*limits_broken, *failures]:
        return "reject", "; ".join(reasons)
    if comparison is None:
        return "promote", "every limit is kept, and there is no champion to compare with"
    # a significant loss within the margin is no tie, so gate.tie does not apply
    if _is_worse(gate, comparison):
        return "keep", f"it is worse than the champion, by less than {gate.margin}"
    if on_champions_data and _is_worse(gate, on_champions_data):
        where = "on the champion's test images"
        return "keep", f"it is worse than the champion {where}, by less than {gate.margin}"
    if comparison.p_value < 1 - gate.confidence:
        return "promote", "it is better than the champion"
    return gate.tie, f"a tie: neither is shown to be better, and register.gate.tie is {gate.tie}"


def _is_worse(gate: Gate, comparison: Comparison) -> bool:
    return comparison.p_value < 1 - gate.confidence and comparison.difference < 0


def _other_data(change: DataChange, dropped: tuple[LimitCheck, ...]) -> str:
    """Return why the candidate is held back, in one line."""
    new, old = change.on_candidates, change.on_champions
    if old is None:
        return change.missing.partition("\n")[0].rstrip(".")
    fall = "the {0}'s accuracy falls from {1:.4f} on its own test images to {2:.4f} on the {3}'s"
    falls = {
        "champion_drop": fall.format("champion", old.champion, new.champion, "candidate"),
        "candidate_drop": fall.format("candidate", new.candidate, old.candidate, "champion"),
    }
    why = "; ".join(falls[check.metric] for check in dropped if not check.passed)
    return f"the test data of the two differ in kind: {why}"


def _row(name: str, scores: Scores) -> str:
    comparison = scores.comparison
    return (
        f"{name:29}{comparison.images:>8,}{scores.champion:>10.4f}{scores.candidate:>11.4f}"
        f"{comparison.gained:>8,}{comparison.lost:>8,}{comparison.p_value:>10.3g}"
    )
