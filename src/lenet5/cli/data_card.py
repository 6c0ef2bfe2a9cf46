"""Command ``lenet5 data card``: say what the data set is, for people and for programs."""

from pathlib import Path
from typing import Annotated

import typer

from lenet5.cli.app import checkout, data
from lenet5.core import card, dataset, files
from lenet5.system.terminal import print_line


@data.command("card")
def export_card(
    output: Annotated[
        Path | None, typer.Option(help="The file to write. Default: standard output.", show_default=False)
    ] = None,
) -> None:
    """Export data/card.yaml as Croissant 1.0 (JSON-LD): name, licence, citation, files with their SHA-256.

    Dataset hubs and search engines read this format. The text holds no clock: equal data gives equal bytes.

    Needs: data/card.yaml, and data/raw (lenet5 ingest).
    """
    paths, _ = checkout()
    from lenet5.registry import croissant
    from lenet5.tracking.data_set import DataSet

    described = DataSet(card.load(paths.data_card), dataset.load_manifest(paths.raw))
    text = croissant.export(paths.root, paths.raw, described)
    if output is None:
        print(text, end="")
    else:
        files.write_text(output, text)
        print_line(f"data card: {output}")
