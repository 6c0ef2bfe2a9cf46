"""What came of a sweep: its trials, and which of them is best on the hold-out images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lenet5.core.errors import TrainingError
from lenet5.stages.params import Params
from lenet5.sweep import study as studies
from lenet5.sweep.space import Sweep


@dataclass(frozen=True)
class TrialResult:
    """One trial that was trained to its end."""

    trial: int
    score: float
    """Accuracy on the hold-out images, 0 to 1."""
    epochs: int
    values: Mapping[str, Any]
    """By dotted name."""


@dataclass(frozen=True)
class Result:
    study: str
    trials: int
    """That came to an end, of whatever kind."""
    pruned: int
    diverged: int
    rows: tuple[TrialResult, ...]
    """Best first; of equals the first, so that params.yaml stays as it is when nothing was better."""
    own: TrialResult | None
    """The trial with the values that params.yaml has now."""

    @property
    def winner(self) -> TrialResult:
        return self.rows[0]

    def as_dict(self) -> dict[str, Any]:
        rows = [vars(row) | {"values": dict(row.values)} for row in self.rows]
        return {
            "study": self.study,
            "trials": self.trials,
            "pruned": self.pruned,
            "diverged": self.diverged,
            "winner": rows[0],
            "complete": rows,
        }


def of(study: optuna.Study, sweep: Sweep, params: Params) -> Result:
    """Sort what there is.

    Raises:
        TrainingError: no trial was trained to its end.
    """
    done = studies.trials(study, *studies.DONE)
    complete = [trial for trial in done if trial.state is TrialState.COMPLETE]
    diverged = [trial for trial in done if trial.state is TrialState.PRUNED and trial.last_step is None]
    if not complete:
        raise TrainingError(
            "No trial of the sweep was trained to its end.",
            expected="at least one score",
            found=f"{len(diverged)} of {len(done)} trials diverged in their first epoch",
            fix="narrow the space in sweep.yaml: lower learning rates first",
        )
    rows = sorted((_row(trial, sweep) for trial in complete), key=lambda row: (-row.score, row.trial))
    own = sweep.own_values(params)
    return Result(
        study=study.study_name,
        trials=len(done),
        pruned=len(done) - len(complete) - len(diverged),
        diverged=len(diverged),
        rows=tuple(rows),
        own=next((row for row in rows if row.values == own), None),
    )


def _row(trial: FrozenTrial, sweep: Sweep) -> TrialResult:
    assert trial.value is not None
    return TrialResult(trial.number, trial.value, trial.last_step or 0, sweep.values(trial.params))
