"""Report the results of all checks: as JSON, as a table for a terminal, and as the text of an error."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from lenet5.core.results import CheckSummary, Validation
from lenet5.stages.validate.check_result import CheckResult


def validation(
    check_results: Sequence[CheckResult], *, images: Mapping[str, int], data_digest: str
) -> Validation:
    """Return the content of ``reports/validation.json``.

    Args:
        check_results: the results of all checks.
        images: the number of images by split.
        data_digest: the digest of the raw dataset.
    """
    return Validation(
        success=all(result.success for result in check_results),
        data_digest=data_digest,
        images=dict(images),
        drift={result.name: result.divergence for result in check_results if "_drift_" in result.name},
        unexpected_images={
            result.name: result.unexpected for result in check_results if result.unexpected is not None
        },
        checks=[
            CheckSummary(
                name=result.name,
                what=result.what,
                expected=result.expected,
                seen=result.seen,
                success=result.success,
                failed_rows=len(result.rows),
            )
            for result in check_results
        ],
    )


def table(failed: Sequence[CheckResult]) -> Table:
    """Return the failed checks as a table for a terminal."""
    table = Table(title="Failed checks", title_justify="left")
    for heading in ("check", "expected", "seen"):
        table.add_column(heading, overflow="fold")
    table.add_column("rows", justify="right")
    for result in failed:
        table.add_row(f"{result.name}\n[dim]{result.what}[/]", result.expected, result.seen, _rows(result))
    return table


def message(failed: Sequence[CheckResult], total: int) -> str:
    """Return the failed checks, one line each, for an error.

    Args:
        failed: the results of the failed checks.
        total: the number of all checks.
    """
    lines = [
        f"  {result.name}: expected {result.expected}; seen {result.seen}; rows: {_rows(result)}"
        for result in failed
    ]
    return "\n".join([f"The raw data fails {len(failed)} of {total} checks:", *lines])


def _rows(result: CheckResult) -> str:
    # a check of a whole distribution, such as drift, rejects no single image
    return "—" if result.unexpected is None else f"{len(result.rows):,}"
