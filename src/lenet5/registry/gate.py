"""The promotion gate: absolute limits, then a paired test against the champion.

promote   the candidate meets every limit, and is significantly better or there is no champion
keep      the champion stays: a tie (``register.gate.tie`` decides it), a loss within the margin, or a
          candidate that was rolled back (``promotion.judge``)
reject    the candidate breaks a limit, or may be worse than the champion by more than the margin
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lenet5.registry.paired_test import Comparison
from lenet5.stages.register.params import Gate, Register

Decision = Literal["promote", "keep", "reject"]


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
class Verdict:
    """The decision about one candidate, with its reasons."""

    decision: Decision
    why: str
    checks: tuple[LimitCheck, ...]
    comparison: Comparison | None = None
    """None when there was no champion."""

    def __str__(self) -> str:
        compared = [f"against the champion: {self.comparison}"] if self.comparison else []
        return "\n".join([*map(str, self.checks), *compared, f"{self.decision}: {self.why}"])


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


def judge(params: Register, metrics: Mapping[str, float], comparison: Comparison | None) -> Verdict:
    """Decide about a candidate.

    Args:
        params: The limits, the margin and the confidence.
        metrics: Metrics of the candidate; every limited metric must be among them.
        comparison: Candidate against champion on the same images; None when there is no champion. Then the
            limits alone decide.
    """
    checks = limits(params, metrics)
    if comparison:
        lowest = "lowest likely difference in accuracy"
        checks = (*checks, LimitCheck(lowest, "low", comparison.low, "above", -params.gate.margin))
    return Verdict(*_decide(params.gate, checks, comparison), checks, comparison)


def _decide(
    gate: Gate, checks: tuple[LimitCheck, ...], comparison: Comparison | None
) -> tuple[Decision, str]:
    broken = [check.name for check in checks if not check.passed]
    if broken:
        return "reject", f"it fails the {', the '.join(broken)}"
    if comparison is None:
        return "promote", "every limit is kept, and there is no champion to compare with"
    if comparison.p_value < 1 - gate.confidence:
        if comparison.difference > 0:
            return "promote", "it is better than the champion"
        # a significant loss within the margin is no tie, so gate.tie does not apply
        return "keep", f"it is worse than the champion, by less than {gate.margin}"
    return gate.tie, f"a tie: neither is shown to be better, and register.gate.tie is {gate.tie}"
