"""Run the stage ``validate``: check the raw data; write the results, Data Docs and failing rows."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import (
    check_result,
    engine,
    frames,
    pictures,
    reference,
    report,
    suite,
    summary,
    tables,
)
from lenet5.stages.validate.check_result import CheckResult
from lenet5.stages.validate.params import Validate


class ValidationFailed(DataError):
    """The raw data fails a check.

    Args:
        what: the failed checks, as text.
        failed: their results.
        found: where the failing rows and all results are.
        fix: what the user can do.
    """

    def __init__(self, what: str, failed: Sequence[CheckResult], *, found: str, fix: str) -> None:
        super().__init__(what, found=found, fix=fix)
        self.failed = failed


def run(paths: Paths, params: Validate) -> str:
    """Check ``data/raw``; write the results, Data Docs and, to ``data/quarantine``, failing rows.

    Returns:
        The number of checks that passed and the path of the summary page, in one line.

    Raises:
        ValidationFailed: the data fails a check. All results are written before.
        DataError: the data is damaged or missing, or the reference profile cannot be used.
    """
    _remove_earlier_results(paths)
    raw = dataset.load(paths.raw)
    known = reference.load(paths.reference, params)
    reference.require_same_data(paths.reference, known.profile, raw.manifest)
    described = tables.build(raw.splits, params, known)
    checks = suite.checks(params, described, known.profile)
    counts = {name: len(raw.splits[name].images) for name in frames.SPLITS if name in raw.splits}
    digest = raw.manifest.digest
    with files.replacing(paths.data_docs) as partial:
        results = engine.evaluate(described.by_name(), checks, partial)
        rows = check_result.failing_rows(described.images, results)
        page = summary.render(
            results,
            images=counts,
            data_digest=digest,
            links=_links(partial),
            pictures=pictures.prepare(raw.splits, described, rows, known.profile),
        )
        (partial / "summary.html").write_text(page, encoding="utf-8")
    report.validation(results, images=counts, data_digest=digest).write(paths.validation)

    failed = [result for result in results if not result.success]
    summary_page, quarantine = paths.data_docs / "summary.html", paths.quarantine / "rows.csv"
    if not failed:
        numbers = " and ".join(f"{count:,} {split}" for split, count in counts.items())
        return f"{len(results)} checks passed on {numbers} images; Data Docs: {summary_page}"
    rows = frames.add_details(rows, raw.splits, known.profile.names)
    if len(rows):
        files.write_csv(quarantine, rows)
    failing = f"{len(rows):,} failing images in {quarantine}" if len(rows) else "no single failing image"
    raise ValidationFailed(
        report.message(failed, len(results)),
        failed,
        found=f"{failing}; all checks in {summary_page}",
        fix="correct the source; or, if the data is right, change the limits under validate in params.yaml "
        "(`lenet5 validate --update-reference` updates the reference profile)",
    )


def _remove_earlier_results(paths: Paths) -> None:
    """Remove the results of an earlier run, so that an interrupted run leaves none of them."""
    paths.validation.unlink(missing_ok=True)
    for folder in (paths.data_docs, paths.quarantine):
        if folder.exists():
            shutil.rmtree(folder)


def _links(site: Path) -> dict[str, str]:
    """Return the pages of Data Docs by title; their own index lists them with scripts from the network."""
    results = sorted(site.glob("validations/**/*.html"))
    return {"Data Docs": "index.html"} | {
        f"results for {path.stem.removeprefix('data_raw-')}": path.relative_to(site).as_posix()
        for path in results
    }
