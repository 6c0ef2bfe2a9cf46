"""The summary page lists every check and escapes its texts."""

import pandas as pd

from lenet5.stages.validate import summary
from lenet5.stages.validate.check_result import CheckResult


def result(name: str, *, success: bool, seen: str = "1 of 5", unexpected: int | None = 1234) -> CheckResult:
    return CheckResult(
        name,
        "what",
        "expected",
        seen,
        success,
        divergence=None,
        unexpected=unexpected,
        rows=pd.DataFrame(columns=["split", "index"]),
    )


def render(*results: CheckResult) -> str:
    return summary.render(
        results, images={"train": 60_000, "test": 10_000}, data_digest="d" * 64, links={"Docs": "index.html"}
    )


def test_failed_checks_come_first() -> None:
    page = render(result("good", success=True, unexpected=None), result("bad", success=False))
    assert "<title>Validation: 1 of 2 checks failed</title>" in page
    assert page.index('<tr class="bad">') < page.index("<td>bad<") < page.index("<td>good<")
    assert '<td class="count">1,234</td>' in page
    assert '<td class="count">—</td>' in page
    assert "60,000 train, 10,000 test" in page
    assert '<a href="index.html">Docs</a>' in page


def test_texts_are_escaped() -> None:
    page = render(result("label", success=False, seen="<script>alert('x')</script>"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
