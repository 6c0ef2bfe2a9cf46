"""Command ``lenet5 data show``: look at the data set of this checkout."""

import webbrowser

from lenet5.cli.app import checkout, data
from lenet5.core.errors import DataError
from lenet5.system.terminal import print_line


@data.command("show")
def show() -> None:
    """Open the validation page: every check, classes, ink, sample images, and images that fail a check.

    Needs: reports/validation (`lenet5 validate`).

    Next: data/quarantine/rows.csv lists all failing images.
    """
    paths, _ = checkout()
    page = paths.data_docs / "summary.html"
    if not page.is_file():
        raise DataError("There is no validation page.", expected=page, fix="`lenet5 validate` writes it")
    print_line(f"page: {page}")
    webbrowser.open(page.absolute().as_uri())
