"""The promotion gate: absolute limits, then a paired test against the champion.

promote   every limit is kept, and the candidate is shown to be better (or there is no champion)
keep      neither is shown to be better; which one wins a tie is a parameter
reject    a limit is broken, or the candidate is worse, or could be by more than the margin
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lenet5.registry.paired_test import Comparison
from lenet5.stages.register.params import Gate, Register

Decision = Literal["promote", "keep", "reject"]


@dataclass(frozen=True)
class LimitCheck:
    """One limit, and whether it is kept."""

    name: str
    metric: str
    found: float
    relation: Literal["at least", "at most", "above"]
    limit: float

    @property
    def passed(self) -> bool:
        match self.relation:  # false for NaN, each of them
            case "at least":
                return self.found >= self.limit
            case "at most":
                return self.found <= self.limit
            case "above":
                return self.found > self.limit

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.found:.4f}, {self.relation} {self.limit:.4f} {'✓' if self.passed else '✗'}"
        )


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    why: str
    checks: tuple[LimitCheck, ...]
    comparison: Comparison | None = None
    """None when there was no champion to compare with."""

    def __str__(self) -> str:
        compared = [f"against the champion: {self.comparison}"] if self.comparison else []
        return "\n".join([*map(str, self.checks), *compared, f"{self.decision}: {self.why}"])


def limits(params: Register, figures: Mapping[str, float]) -> tuple[LimitCheck, ...]:
    """The absolute limits, asked of a model's figures (by the names that :class:`Evaluation` gives them)."""
    floors, ceilings = params.floors.model_dump(), params.ceilings.model_dump()
    return (
        *(LimitCheck(f"floor of {m}", m, figures[m], "at least", limit) for m, limit in floors.items()),
        *(LimitCheck(f"ceiling of {m}", m, figures[m], "at most", limit) for m, limit in ceilings.items()),
    )


def judge(params: Register, figures: Mapping[str, float], comparison: Comparison | None) -> Verdict:
    """Decide about a candidate.

    Args:
        params: the limits and how sure the gate wants to be.
        figures: of the candidate, each limit's name among them.
        comparison: with the champion, on the same images; None when there is no champion, and then the
            limits alone decide.
    """
    checks = limits(params, figures)
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
        return "keep", f"it is worse than the champion, by less than {gate.margin}"  # whoever wins a tie
    return gate.tie, f"a tie: neither is shown to be better, and register.gate.tie is {gate.tie}"
