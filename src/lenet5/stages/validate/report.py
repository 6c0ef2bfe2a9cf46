"""The result as numbers for ``metrics/validation.json``, as a table for a person, and as an error's words."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from lenet5.core.results import CheckSummary, Validation
from lenet5.stages.validate.check_result import CheckResult


def result(outcomes: Sequence[CheckResult], *, images: Mapping[str, int], data_digest: str) -> Validation:
    """What the stages behind and ``dvc metrics diff`` read."""
    return Validation(
        success=all(outcome.success for outcome in outcomes),
        data_digest=data_digest,
        images=dict(images),
        drift={o.name: o.divergence for o in outcomes if "_drift_" in o.name},
        unexpected_images={o.name: o.unexpected for o in outcomes if o.unexpected is not None},
        checks=[
            CheckSummary(
                name=outcome.name,
                what=outcome.what,
                expected=outcome.expected,
                seen=outcome.seen,
                success=outcome.success,
                failed_rows=len(outcome.rows),
            )
            for outcome in outcomes
        ],
    )


def table(failed: Sequence[CheckResult]) -> Table:
    """The failed checks, for a terminal."""
    table = Table(title="Failed checks", title_justify="left")
    for heading in ("check", "expected", "seen"):
        table.add_column(heading, overflow="fold")
    table.add_column("rows", justify="right")
    for outcome in failed:
        table.add_row(
            f"{outcome.name}\n[dim]{outcome.what}[/]", outcome.expected, outcome.seen, _rows(outcome)
        )
    return table


def message(failed: Sequence[CheckResult], evaluated: int) -> str:
    """What failed, one check a line, for whoever sees only the error."""
    lines = [
        f"  {outcome.name}: expected {outcome.expected}; seen {outcome.seen}; rows: {_rows(outcome)}"
        for outcome in failed
    ]
    return "\n".join([f"The raw data fails {len(failed)} of {evaluated} checks:", *lines])


def _rows(outcome: CheckResult) -> str:
    # a drifted distribution has no image that is to blame for it
    return "—" if outcome.unexpected is None else f"{len(outcome.rows):,}"
