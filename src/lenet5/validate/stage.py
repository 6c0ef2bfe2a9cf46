import shutil
from pathlib import Path

from lenet5 import dataset, files, params
from lenet5.errors import DataError
from lenet5.paths import Paths
from lenet5.terminal import console
from lenet5.validate import engine, frames, outcome, page, reference, report, suite


def run(paths: Paths, params: params.Validate) -> None:
    """Raw images → ``metrics/validation.json`` and Data Docs; what fails also → ``data/quarantine``.

    Raises:
        DataError: the data fails a check (everything is written first), is damaged or missing, or the
            reference profile cannot be used.
    """
    _forget(paths)
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
        console.print(f"{len(outcomes)} checks passed on {counted} images; Data Docs: {summary_page}")
        return
    rows = frames.described(outcome.offenders(images, failed), raw.splits)
    if len(rows):
        files.write_csv(quarantined, rows)
    console.print(report.table(failed))
    blamed = f"{len(rows):,} images to look at in {quarantined}" if len(rows) else "no single image to blame"
    raise DataError(
        report.message(failed, len(outcomes)),
        found=f"{blamed}; every check in {summary_page}",
        do="correct the source; or, where the data is right, the limits under validate in params.yaml "
        "(and the reference profile: src/lenet5/validate/reference.py says how)",
    )


def _forget(paths: Paths) -> None:
    """Remove the answers of an earlier run: a run that dies on the way must not leave one behind."""
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
