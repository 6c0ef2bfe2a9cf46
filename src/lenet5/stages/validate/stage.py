import shutil
from collections.abc import Sequence
from pathlib import Path

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import check_result, engine, frames, page, reference, report, suite
from lenet5.stages.validate.check_result import CheckResult
from lenet5.stages.validate.params import Validate


class ValidationFailed(DataError):
    """The data fails a check."""

    def __init__(self, what: str, failed: Sequence[CheckResult], *, found: str, fix: str) -> None:
        super().__init__(what, found=found, fix=fix)
        self.failed = failed


def run(paths: Paths, params: Validate) -> str:
    """Raw images → ``metrics/validation.json`` and Data Docs; failing rows also → ``data/quarantine``.

    Returns:
        How many checks passed, and where the Data Docs are.

    Raises:
        ValidationFailed: the data fails a check. Everything is written first.
        DataError: the data is damaged or missing, or the reference profile cannot be used.
    """
    _remove_earlier_results(paths)
    raw = dataset.load(paths.raw)
    profile = reference.load(paths.reference, ink_threshold=params.ink_threshold)
    images = frames.images(raw.splits, params.ink_threshold)
    tables = {"images": images, "classes": frames.classes(images)}
    checks = {"images": suite.images(params, images, profile), "classes": suite.classes(params)}
    counts = {name: len(raw.splits[name].images) for name in frames.SPLITS if name in raw.splits}
    digest = raw.manifest.digest
    with files.replacing(paths.data_docs) as aside:
        outcomes = engine.evaluate(tables, checks, aside)
        summary = page.render(outcomes, images=counts, data_digest=digest, links=_links(aside))
        (aside / "summary.html").write_text(summary, encoding="utf-8")
    report.result(outcomes, images=counts, data_digest=digest).write(paths.validation)

    failed = [outcome for outcome in outcomes if not outcome.success]
    summary_page, quarantined = paths.data_docs / "summary.html", paths.quarantine / "rows.csv"
    if not failed:
        counted = " and ".join(f"{count:,} {split}" for split, count in counts.items())
        return f"{len(outcomes)} checks passed on {counted} images; Data Docs: {summary_page}"
    rows = frames.described(check_result.offenders(images, failed), raw.splits)
    if len(rows):
        files.write_csv(quarantined, rows)
    blamed = f"{len(rows):,} images to look at in {quarantined}" if len(rows) else "no single image to blame"
    raise ValidationFailed(
        report.message(failed, len(outcomes)),
        failed,
        found=f"{blamed}; every check in {summary_page}",
        fix="correct the source; or, where the data is right, the limits under validate in params.yaml "
        "(`lenet5 validate --update-reference` makes the reference profile anew)",
    )


def _remove_earlier_results(paths: Paths) -> None:
    """Remove the results of an earlier run, so that an interrupted run leaves none behind."""
    paths.validation.unlink(missing_ok=True)
    for folder in (paths.data_docs, paths.quarantine):
        if folder.exists():
            shutil.rmtree(folder)


def _links(site: Path) -> dict[str, str]:
    """The pages of Data Docs by title: its index needs scripts from the network to list them."""
    results = sorted(site.glob("validations/**/*.html"))
    return {"Data Docs": "index.html"} | {
        f"results for {path.stem.removeprefix('data_raw-')}": path.relative_to(site).as_posix()
        for path in results
    }
