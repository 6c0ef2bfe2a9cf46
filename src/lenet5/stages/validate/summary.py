"""Render the summary of a validation as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lenet5.core import html
from lenet5.stages.validate.check_result import CheckResult
from lenet5.stages.validate.pictures import Pictures


def render(
    check_results: Sequence[CheckResult],
    *,
    images: Mapping[str, int],
    data_digest: str,
    links: Mapping[str, str],
    pictures: Pictures | None = None,
) -> str:
    """Return the page, with one table row for each check; failed checks come first.

    Args:
        check_results: the results of all checks.
        images: the number of images by split.
        data_digest: the digest of the raw dataset.
        links: further pages: title → relative path.
        pictures: what the page shows of the data; None: nothing.
    """
    total, failed = len(check_results), sum(not result.success for result in check_results)
    return html.render(
        "summary.html.j2",
        [Path(__file__).parent],
        verdict=f"{failed} of {total} checks failed" if failed else f"all {total} checks passed",
        failed=failed,
        check_results=sorted(check_results, key=lambda result: result.success),
        images=images,
        data_digest=data_digest,
        links=links,
        pictures=pictures,
    )
