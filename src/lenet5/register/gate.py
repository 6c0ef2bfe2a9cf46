"""The promotion gate: absolute floors, and not worse than the champion."""

from collections.abc import Mapping
from dataclasses import dataclass

from lenet5.params import Floors


@dataclass(frozen=True)
class Check:
    """One question and its answer: is ``found`` at least ``limit``?"""

    name: str
    limit: float
    found: float

    @property
    def passed(self) -> bool:
        return self.found >= self.limit  # false for NaN, too

    def __str__(self) -> str:
        return f"{self.name}: {self.found:.4f}, at least {self.limit:.4f} {'✓' if self.passed else '✗'}"


def judge(
    floors: Floors, candidate: Mapping[str, float], champion: Mapping[str, float] | None
) -> list[Check]:
    """Ask every question.

    Args:
        floors: a limit for each metric, by name.
        candidate: the candidate's metrics, each floor's name among them.
        champion: the champion's; None when there is none, and then the floors alone decide.
    """
    checks = [
        Check(f"floor of {name}", limit, candidate[name]) for name, limit in floors.model_dump().items()
    ]
    if champion is not None:
        checks.append(Check("accuracy of the champion", champion["accuracy"], candidate["accuracy"]))
    return checks
