"""Summarize the trials of a sweep and rank them by their accuracy on the validation images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lenet5.core.errors import TrainingError
from lenet5.stages.params import Params
from lenet5.sweep import study
from lenet5.sweep.space import Sweep


@dataclass(frozen=True)
class TrialResult:
    """A trial that was trained to its end."""

    trial: int
    """Number of the trial, from 0."""
    score: float
    """Accuracy on the validation images, 0 to 1."""
    epochs: int
    values: Mapping[str, Any]
    """The searched parameters by dotted name."""


@dataclass(frozen=True)
class Result:
    """The trials of a study that have ended."""

    study: str
    """Name of the study."""
    trials: int
    """Number of trials that were completed, pruned or diverged."""
    pruned: int
    diverged: int
    rows: tuple[TrialResult, ...]
    """Completed trials, best first. Of equal scores the earlier trial comes first, so that the values of
    params.yaml win against equally good ones."""
    own: TrialResult | None
    """The trial with the current values of params.yaml."""

    @property
    def winner(self) -> TrialResult:
        """Return the best trial."""
        return self.rows[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, for ``lenet5 sweep --json``."""
        rows = [vars(row) | {"values": dict(row.values)} for row in self.rows]
        return {
            "study": self.study,
            "trials": self.trials,
            "pruned": self.pruned,
            "diverged": self.diverged,
            "winner": rows[0],
            "complete": rows,
        }


def summarize(optuna_study: optuna.Study, sweep: Sweep, params: Params) -> Result:
    """Return the ended trials of a study, ranked.

    Args:
        optuna_study: the study.
        sweep: its search space.
        params: the parameters of params.yaml, to find the trial with the same values.

    Raises:
        TrainingError: no trial was trained to its end.
    """
    ended = study.trials(optuna_study, *study.DONE)
    complete = [trial for trial in ended if trial.state is TrialState.COMPLETE]
    diverged = [trial for trial in ended if trial.state is TrialState.PRUNED and trial.last_step is None]
    if not complete:
        raise TrainingError(
            "No trial of the sweep was trained to its end.",
            expected="at least one completed trial",
            found=f"{len(diverged)} of {len(ended)} trials diverged in their first epoch",
            fix="narrow the space in sweep.yaml; start with lower learning rates",
        )
    rows = sorted((_row(trial, sweep) for trial in complete), key=lambda row: (-row.score, row.trial))
    own = sweep.own_values(params)
    return Result(
        study=optuna_study.study_name,
        trials=len(ended),
        pruned=len(ended) - len(complete) - len(diverged),
        diverged=len(diverged),
        rows=tuple(rows),
        own=next((row for row in rows if row.values == own), None),
    )


def _row(trial: FrozenTrial, sweep: Sweep) -> TrialResult:
    assert trial.value is not None
    return TrialResult(trial.number, trial.value, trial.last_step or 0, sweep.values(trial.params))
