"""Commands about the data set of a checkout."""

import difflib
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from lenet5.cli import completion
from lenet5.cli.app import checkout, data, output_file
from lenet5.core import files
from lenet5.core.errors import DataError, UsageError
from lenet5.core.text import did_you_mean, mask_urls
from lenet5.system.terminal import byte_progress, console, print_line

if TYPE_CHECKING:
    from lenet5.stages.ingest.inspection import Found
    from lenet5.stages.ingest.params import Format

_CLASSES = 20
"""Largest number of classes in the table."""


@data.command("init")
def init(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a file, a URL that fsspec reads (https://, s3://, gs://), or `sklearn:digits`."
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            help="idx, npz, folder, table, parquet or sklearn; auto looks at the names of the files.",
            autocompletion=completion.formats,
        ),
    ] = "auto",
    name: Annotated[
        str | None,
        typer.Option(help="Name of the data set. Default: the last part of SOURCE.", show_default=False),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            help="Licence of the data, as an SPDX identifier such as MIT or CC-BY-4.0.", show_default=False
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names for classes that are numbered from 0: `cat,dog`, or a file with a name in each line.",
            show_default=False,
        ),
    ] = None,
    transpose: Annotated[
        bool,
        typer.Option("--transpose", help="Exchange rows and columns, as the IDX files of EMNIST need it."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what was found and what would change, and write nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
) -> None:
    """Set this checkout up for the images of SOURCE: look at them, then write params.yaml and their profile.

    Writes params.yaml (source, checksums, classes, sizes, limits), data/reference.* (what is usual in this
    data) and data/card.yaml (what the data set is), after showing the difference. docs/your-data.md has an
    example for each kind of source.

    Exit code 4: the data cannot be used.

    Example: `lenet5 data init ~/photographs --dry-run`

    Next: `lenet5 run`.
    """
    paths, params = checkout()
    kind = _format(format)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError(
            "`lenet5 data init` asks before it writes, and nobody can answer here.",
            expected="a terminal, or an option that answers",
            found="standard input is no terminal",
            fix="add --yes to write, or --dry-run to see what would change",
        )
    from lenet5.orchestration import new_data

    with new_data.proposal(
        paths,
        params,
        source,
        format=kind,
        name=name,
        licence=licence,
        classes=_names(classes) if classes else (),
        transpose=transpose,
        progress=byte_progress(),
    ) as made:
        _print_found(made.found)
        print_line(made.reference)
        if made.refused:
            from lenet5.stages.validate import report

            console.print(report.table(made.refused))
        changed = False
        for path, text in ((paths.params, made.params), (paths.data_card, made.card)):
            old = files.read_text(path) if path.exists() else ""
            lines = difflib.unified_diff(
                old.splitlines(), text.splitlines(), f"{path.name} now", f"{path.name} new", n=0, lineterm=""
            )
            if difference := "\n".join(lines):
                changed = True
                console.print(Syntax(difference, "diff", background_color="default"))
        if dry_run:
            print_line("Nothing was written. Next: the same command without --dry-run.")
            return
        if changed and not yes and not typer.confirm("Write these changes?"):
            print_line("Nothing was written.")
            return
        made.write(paths)
        refused = made.refused
    print_line(f"params.yaml, data/card.yaml and data/reference.* describe {made.found.images:,} images now.")
    if licence is None:
        print_line("The licence of the data is not stated: write it to data/card.yaml.")
    if refused:
        print_line(
            "Next: look at the failed checks above; correct the source, or change the limits under validate "
            "in params.yaml; then `lenet5 run`."
        )
        return
    print_line("Next: `lenet5 run`; commit the changed files when its result is good.")


@data.command("add")
def add(
    source: Annotated[str, typer.Argument(help="A source as in `lenet5 data init`, with the same classes.")],
    format: Annotated[
        str, typer.Option(help="As in `lenet5 data init`.", autocompletion=completion.formats)
    ] = "auto",
) -> None:
    """Add the images of SOURCE to train. The test images stay, so that versions can be compared.

    Writes the source and its checksums to ingest.additions in params.yaml. data/raw/manifest.json then says
    which image comes from which source.

    Exit code 4: the images or the labels do not fit the data set.

    Example: `lenet5 data add ~/more-photographs`

    Next: `lenet5 run`.
    """
    paths, params = checkout()
    from lenet5.orchestration import new_data
    from lenet5.stages import params as all_params

    section = new_data.with_addition(paths, params, source, _format(format), byte_progress())
    all_params.write(paths.params, {"ingest.additions": section.model_dump()["additions"]})
    print_line(
        f"{mask_urls(source)} is pinned in {paths.params} as ingest.additions.{len(section.additions) - 1}."
    )
    print_line("Next: `lenet5 run`.")


@data.command("show")
def show() -> None:
    """Open the validation page: every check, classes, ink, sample images, and images that fail a check.

    Example: `lenet5 data show`

    Needs: reports/validation (`lenet5 validate`).

    Next: data/quarantine/rows.csv lists all failing images.
    """
    paths, _ = checkout()
    page = paths.data_docs / "summary.html"
    if not page.is_file():
        raise DataError("There is no validation page.", expected=page, fix="`lenet5 validate` writes it")
    print_line(f"page: {page}")
    webbrowser.open(page.absolute().as_uri())


@data.command("card")
def export_card(
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write. Default: standard output.", show_default=False, callback=output_file
        ),
    ] = None,
) -> None:
    """Export data/card.yaml as Croissant 1.0 (JSON-LD): name, licence, citation, files with their SHA-256.

    Dataset hubs and search engines read this format. The text holds no clock: equal data gives equal bytes.

    Example: `lenet5 data card --output croissant.json`

    Needs: data/card.yaml, and data/raw (lenet5 ingest).
    """
    paths, _ = checkout()
    from lenet5.core import card, dataset
    from lenet5.registry import croissant
    from lenet5.tracking.data_set import DataSet

    described = DataSet(card.load(paths.data_card), dataset.load_manifest(paths.raw))
    text = croissant.export(paths.root, paths.raw, described)
    if output is None:
        print(text, end="")
    else:
        files.write_text(output, text)
        print_line(f"data card: {output}")


def _format(name: str) -> "Format":
    """Return the name of a format.

    Raises:
        UsageError: there is no such format.
    """
    from lenet5.stages.ingest.params import Format

    for known in get_args(Format):
        if name == known:
            return cast("Format", known)
    raise UsageError(
        "There is no such format.",
        expected=", ".join(get_args(Format)),
        found=name,
        fix=did_you_mean(name, get_args(Format)) or "choose one of them",
    )


def _names(classes: str) -> list[str]:
    """Return the names that the option gives: in itself, or in a file."""
    file = Path(classes)
    if "," not in classes and file.is_file():
        return [line.strip() for line in files.read_text(file).splitlines() if line.strip()]
    return [name.strip() for name in classes.split(",")]


def _print_found(found: "Found") -> None:
    """Print what a source holds: a table of classes and splits, then the rest in lines."""
    splits = list(found.counts)
    print_line(f"{mask_urls(found.source)}: {found.images:,} images, read as {found.format}")
    table = Table("class", *splits)
    for name in found.classes[:_CLASSES]:
        table.add_row(escape(name), *(f"{found.counts[split][name]:,}" for split in splits))
    if len(found.classes) > _CLASSES:
        table.add_row(f"… {len(found.classes) - _CLASSES} more", *("" for _ in splits))
    table.add_section()
    table.add_row("all", *(f"{sum(found.counts[split].values()):,}" for split in splits))
    console.print(table)
    sizes = ", ".join(f"{height}x{width}" for height, width in list(found.sides)[:3])
    more = f" and {len(found.sides) - 3} other sizes" if len(found.sides) > 3 else ""
    colour = "RGB" if found.channels == 3 else "grey"
    print_line(
        f"{sizes}{more}, {colour}, {found.dtype} from {found.minimum:g} to {found.maximum:g} "
        f"→ {found.size}x{found.size} ({found.fit})"
    )
    for note in found.notes:
        print_line(f"Note: {note}")
