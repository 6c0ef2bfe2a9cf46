"""Command ``lenet5 data init``: set the checkout up for another data set."""

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from lenet5.cli.app import checkout, data
from lenet5.core.errors import UsageError
from lenet5.core.text import mask_urls
from lenet5.system.terminal import byte_progress, console, print_line

if TYPE_CHECKING:
    from lenet5.stages.ingest.inspection import Found

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
            help="idx, npz, folder, table, parquet or sklearn; auto looks at the names of the files."
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

    Next: `lenet5 run`.
    """
    paths, params = checkout()
    from lenet5.orchestration import new_data
    from lenet5.stages.ingest.params import Format
    from lenet5.stages.validate import report

    if format not in get_args(Format):
        raise UsageError(
            "There is no such format.",
            expected=", ".join(get_args(Format)),
            found=format,
            fix="choose one of them",
        )
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError(
            "`lenet5 data init` asks before it writes, and nobody can answer here.",
            expected="a terminal, or an option that answers",
            found="standard input is no terminal",
            fix="add --yes to write, or --dry-run to see what would change",
        )
    with new_data.proposal(
        paths,
        params,
        source,
        format=format,  # type: ignore[arg-type]  # it is one of the formats
        name=name,
        licence=licence,
        classes=_names(classes) if classes else (),
        progress=byte_progress(),
    ) as made:
        _print_found(made.found)
        print_line(made.reference)
        if made.refused:
            console.print(report.table(made.refused))
        changed = False
        for path, text in ((paths.params, made.params), (paths.data_card, made.card)):
            old = path.read_text(encoding="utf-8") if path.exists() else ""
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


def _names(classes: str) -> list[str]:
    """Return the names that the option gives: in itself, or in a file."""
    file = Path(classes)
    if "," not in classes and file.is_file():
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
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
