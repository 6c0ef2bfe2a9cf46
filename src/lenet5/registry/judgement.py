"""Compare a candidate with the champion on the predictions of both, and ask the gate. This does no I/O."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.model import metrics
from lenet5.registry import gate, paired_tests
from lenet5.registry.gate import DataChange, Scores
from lenet5.registry.predictions import Collected, PairedPredictions
from lenet5.registry.promotion_log import LogEntry
from lenet5.registry.robustness import PairedAnswers
from lenet5.stages.params import Params


def judge(
    params: Params,
    collected: Collected,
    answers: PairedAnswers,
    withdrawal: LogEntry | None,
    *,
    accept_new_data: bool = False,
) -> gate.Verdict:
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
    verdict = gate.judge(
        params.register_,
        {
            **metrics.summarize(candidate, params.evaluate.calibration_bins),
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


def _scores(params: Params, paired: PairedPredictions) -> Scores | None:
    """Compare candidate and champion on one test set; None when there is no champion."""
    if paired.champion is None:
        return None
    test = params.register_.gate
    candidate, champion = _correct(paired.candidate), _correct(paired.champion)
    comparison = paired_tests.compare(
        candidate, champion, confidence=test.confidence, resamples=test.resamples, seed=test.seed
    )
    return Scores(float(candidate.mean()), float(champion.mean()), comparison)


def _groups(params: Params, paired: PairedPredictions, answers: PairedAnswers) -> pd.DataFrame | None:
    """Compare candidate and champion on each corruption and slice; None when there is no champion."""
    gate_params = params.register_.gate
    if paired.champion is None:
        return None
    groups = paired_tests.on_slices(
        _correct(paired.candidate),
        _correct(paired.champion),
        _slices(paired.candidate, answers.slices),
        gate_params.slice_margin,
    )
    if answers.candidate is not None and answers.champion is not None:
        groups += paired_tests.on_corruptions(
            answers.candidate, answers.champion, gate_params.corruption_margin
        )
    return paired_tests.table(groups, gate_params.confidence)


def _slices(predictions_: pd.DataFrame, slices: pd.DataFrame | None) -> pd.DataFrame:
    """Return the slices of the test images; only the classes for versions that have no table of slices."""
    if slices is not None:
        return slices
    return pd.DataFrame({"index": predictions_["index"], "class": predictions_["label"].astype(str)})


def _correct(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which images are classified correctly: bool (N,).

    Args:
        frame: One row for each image: ``label``, ``predicted``.
    """
    return (frame["label"] == frame["predicted"]).to_numpy()
