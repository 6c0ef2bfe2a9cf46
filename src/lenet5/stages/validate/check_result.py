"""Translate results of Great Expectations into texts, numbers and failing rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lenet5.stages.validate.suite import NamedExpectation

KEYS = {"images": ["split", "index"], "classes": ["split", "class"], "splits": ["split"]}
"""Columns that identify a row, by table."""

_EXAMPLES = 5
"""Largest number of examples in one text."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    name: str
    what: str
    """What the check compares."""
    expected: str
    seen: str
    success: bool
    divergence: float | None
    """Kullback-Leibler divergence in nats, for a check of drift that had images to compare."""
    unexpected: int | None
    """Number of unexpected images; a limit may allow some. None for a check of a whole distribution."""
    rows: pd.DataFrame
    """The unexpected images, if the check failed: ``split``, ``index``."""


def read(check: NamedExpectation, table: str, result: Mapping[str, Any]) -> CheckResult:
    """Translate one result.

    Args:
        check: the check.
        table: the table that it read, a key of ``KEYS``.
        result: the JSON form of the result of Great Expectations, in the format ``COMPLETE``.
    """
    details, success = result["result"], bool(result["success"])
    rejects_images = table == "images" and "unexpected_index_list" in details
    rows = details["unexpected_index_list"] if rejects_images and not success else []
    return CheckResult(
        check.name,
        check.what,
        check.expected,
        _seen(result, KEYS[table]),
        success,
        divergence=_divergence(details),
        unexpected=int(details["unexpected_count"]) if rejects_images else None,
        rows=pd.DataFrame(rows, columns=KEYS["images"]),
    )


def failing_rows(images: pd.DataFrame, check_results: Sequence[CheckResult]) -> pd.DataFrame:
    """Return the images that fail a check.

    Args:
        images: the table of ``frames.images``, with the columns ``split`` and ``index`` among others.
        check_results: the results of all checks.

    Returns:
        The failing rows of ``images`` with all their columns, and ``failed``: the names of the failed checks,
        separated by spaces.
    """
    failing = [result.rows.assign(failed=result.name) for result in check_results if len(result.rows)]
    if not failing:
        return images.iloc[:0].assign(failed="")
    failed = pd.concat(failing).groupby(KEYS["images"], as_index=False)["failed"].agg(" ".join)
    return images.merge(failed, on=KEYS["images"])


def _seen(result: Mapping[str, Any], keys: Sequence[str]) -> str:
    details = result["result"]
    if "observed_value" in details:
        divergence = _divergence(details)
        return "no values to compare" if divergence is None else f"{divergence:.4f} nats"
    if "unexpected_count" not in details:
        return f"no answer: {_exception_messages(result['exception_info'])}"
    count, total = details["unexpected_count"], details["element_count"]
    if count == 0:
        return f"as expected in all {total:,} rows"
    column = result["expectation_config"]["kwargs"]["column"]
    examples = _examples(details["unexpected_index_list"], column, keys)
    return examples if keys == KEYS["splits"] else f"{count:,} of {total:,}: {examples}"


def _divergence(details: Mapping[str, Any]) -> float | None:
    value = details.get("observed_value")
    # rounding can make a divergence of zero slightly negative
    return None if value is None else round(max(float(value), 0.0), 6)


def _examples(rows: Sequence[Mapping[str, Any]], column: str, keys: Sequence[str]) -> str:
    if keys == KEYS["classes"]:
        examples, prefix = [f"{row['split']} {row['class']} has {_text(row[column])}" for row in rows], ""
    elif keys == KEYS["splits"]:
        return "; ".join(f"{row['split']}: {_text(row[column])}" for row in rows)
    else:  # the values are listed and not the rows, because tens of thousands of images can share one value
        examples, prefix = list(dict.fromkeys(_text(row[column]) for row in rows)), f"{column} "
    more = ", …" if len(examples) > _EXAMPLES else ""
    return prefix + ", ".join(examples[:_EXAMPLES]) + more


def _exception_messages(info: Mapping[str, Any]) -> str:
    # the mapping describes one exception, or it holds one for each metric; stack traces are left out
    exceptions = [info] if "exception_message" in info else info.values()
    return "; ".join(dict.fromkeys(exception["exception_message"] for exception in exceptions))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
