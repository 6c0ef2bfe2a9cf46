"""What came of a check: an expectation's result in words, numbers and rows to blame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lenet5.stages.validate.suite import NamedExpectation

KEYS = {"images": ["split", "index"], "classes": ["split", "label"]}
"""The columns that name a row of each table."""

_EXAMPLES = 5


@dataclass(frozen=True)
class CheckResult:
    name: str
    what: str
    expected: str
    seen: str
    success: bool
    divergence: float | None
    """Nats, for a check of drift that had something to compare."""
    unexpected: int | None
    """Images that are not as expected; a limit may allow some. None where no image is to blame."""
    rows: pd.DataFrame
    """Which images those are, where the check failed: split, index."""


def read(check: NamedExpectation, table: str, result: Mapping[str, Any]) -> CheckResult:
    """Turn one result of Great Expectations (its JSON form, complete format) into an outcome."""
    details, success = result["result"], bool(result["success"])
    blames = table == "images" and "unexpected_index_list" in details
    rows = details["unexpected_index_list"] if blames and not success else []
    return CheckResult(
        check.name,
        check.what,
        check.expected,
        _seen(result, KEYS[table]),
        success,
        divergence=_divergence(details),
        unexpected=int(details["unexpected_count"]) if blames else None,
        rows=pd.DataFrame(rows, columns=KEYS["images"]),
    )


def offenders(images: pd.DataFrame, outcomes: Sequence[CheckResult]) -> pd.DataFrame:
    """The rows of ``images`` that fail a check, and in ``failed`` the names of those checks."""
    blamed = [outcome.rows.assign(failed=outcome.name) for outcome in outcomes if len(outcome.rows)]
    if not blamed:
        return images.iloc[:0].assign(failed="")
    failed = pd.concat(blamed).groupby(KEYS["images"], as_index=False)["failed"].agg(" ".join)
    return images.merge(failed, on=KEYS["images"])


def _seen(result: Mapping[str, Any], keys: Sequence[str]) -> str:
    details = result["result"]
    if "observed_value" in details:
        divergence = _divergence(details)
        return "no values to compare" if divergence is None else f"{divergence:.4f} nats"
    if "unexpected_count" not in details:
        return f"no answer: {_raised(result['exception_info'])}"
    count, total = details["unexpected_count"], details["element_count"]
    if count == 0:
        return f"as expected in all {total:,} rows"
    column = result["expectation_config"]["kwargs"]["column"]
    return f"{count:,} of {total:,}: {_examples(details['unexpected_index_list'], column, keys)}"


def _divergence(details: Mapping[str, Any]) -> float | None:
    value = details.get("observed_value")
    # rounding errors can leave a divergence of zero a little below it
    return None if value is None else round(max(float(value), 0.0), 6)


def _examples(rows: Sequence[Mapping[str, Any]], column: str, keys: Sequence[str]) -> str:
    if keys == KEYS["classes"]:
        examples, prefix = [f"{row['split']} {row['label']} has {_text(row[column])}" for row in rows], ""
    else:  # tens of thousands of images may share a value: name the values
        examples, prefix = list(dict.fromkeys(_text(row[column]) for row in rows)), f"{column} "
    more = ", …" if len(examples) > _EXAMPLES else ""
    return prefix + ", ".join(examples[:_EXAMPLES]) + more


def _raised(info: Mapping[str, Any]) -> str:
    # flat, or one a metric that the expectation needs; the traces go on for pages
    raised = [info] if "exception_message" in info else info.values()
    return "; ".join(dict.fromkeys(each["exception_message"] for each in raised))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
