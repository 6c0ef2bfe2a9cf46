"""The summary page: one self-contained HTML file that answers "what was checked, and what came of it?"."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lenet5.stages.validate.check_result import CheckResult

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def render(
    outcomes: Sequence[CheckResult], *, images: Mapping[str, int], data_digest: str, links: Mapping[str, str]
) -> str:
    """One row a check, failed ones first; ``links`` are further pages, as title → relative path."""
    failed = sum(not outcome.success for outcome in outcomes)
    answer = f"{failed} of {len(outcomes)} checks failed" if failed else f"all {len(outcomes)} checks passed"
    rows = "\n".join(_row(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.success))
    pages = " · ".join(f'<a href="{escape(path)}">{escape(title)}</a>' for title, path in links.items())
    counts = ", ".join(f"{count:,} {split}" for split, count in images.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Validation: {answer}</title>
<style>
{_STYLE}</style>
</head>
<body>
<h1>Validation: <span class="{"bad" if failed else "good"}">{answer}</span></h1>
<dl>
<dt>Images</dt><dd>{counts}</dd>
<dt>Data</dt><dd><code>{data_digest}</code></dd>
<dt>Great Expectations</dt><dd>{pages}</dd>
</dl>
<div class="scroll">
<table>
<thead><tr><th></th><th>Check</th><th>Expected</th><th>Seen</th><th class="count">Images</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</body>
</html>
"""


def _row(outcome: CheckResult) -> str:
    kind, mark = ("good", "✔") if outcome.success else ("bad", "✘")
    blamed = "—" if outcome.unexpected is None else f"{outcome.unexpected:,}"
    return (
        f'<tr class="{kind}"><th>{mark}</th>'
        f"<td>{escape(outcome.name)}<small>{escape(outcome.what)}</small></td>"
        f"<td>{escape(outcome.expected)}</td><td>{escape(outcome.seen)}</td>"
        f'<td class="count">{blamed}</td></tr>'
    )
