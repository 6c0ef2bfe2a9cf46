"""Commands that write HTML pages: the report of a version, two versions side by side, an explanation."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lenet5.cli import completion
from lenet5.cli.app import MODELS, Json, app, checkout, output_file, print_json
from lenet5.cli.models import ImagesArgument, VersionArgument, VersionOption
from lenet5.core import files
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import print_line

if TYPE_CHECKING:
    from lenet5.registry.model_versions import Version

Output = Annotated[
    Path | None,
    typer.Option(
        help="The file to write. Default: a file below .lenet5/reports.",
        show_default=False,
        callback=output_file,
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


@app.command("report", rich_help_panel=MODELS)
def write_report(
    version: VersionArgument = "champion",
    output: Output = None,
    open_page: Open = False,
) -> None:
    """Write the report page of a version, with the verdict of the gate and a comparison with the champion.

    The champion is compared with the version that it replaced. The gate is asked again, and nothing is
    promoted. The page of the last evaluation in this checkout, without the verdict, is reports/report.html.

    Example: `lenet5 report champion --open`

    Needs: the model registry, and a version that was registered with its page.

    Next: `lenet5 compare VERSION VERSION`; `lenet5 lineage VERSION`.
    """
    paths, params = checkout()
    from lenet5.pages import version_report

    found, page = version_report.of_version(paths, params, version)
    _write(output or _folder(paths) / f"{_label(found)}.html", page, open_page)


@app.command("compare", rich_help_panel=MODELS)
def compare_versions(
    left: VersionArgument,
    right: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="The version to judge against the first one.",
            autocompletion=completion.versions,
        ),
    ],
    output: Output = None,
    open_page: Open = False,
) -> None:
    """Write one page with the reports of two versions side by side, and what differs between them.

    The gate judges the second version as if the first one were the champion. Nothing is promoted.

    Example: `lenet5 compare champion challenger --open`

    Needs: the model registry, and two versions that were registered with their pages.

    Next: `lenet5 diff VERSION VERSION` prints the differences.
    """
    paths, params = checkout()
    from lenet5.pages import version_report

    both, page = version_report.of_two(paths, params, left, right)
    _write(output or _folder(paths) / f"{'-and-'.join(map(_label, both))}.html", page, open_page)


@app.command("explain", rich_help_panel=MODELS)
def explain_pictures(
    images: ImagesArgument,
    version: VersionOption = "champion",
    output: Annotated[Path, typer.Option(help="The file to write.", callback=output_file)] = Path(
        "explain.html"
    ),
    open_page: Open = False,
    as_json: Json = False,
) -> None:
    """Write a page that shows what the champion sees in pictures, and what its answers rest on.

    It shows each picture as the model gets it, the probabilities, the feature maps layer by layer, and an
    occlusion map: how much the probability of the answer falls when a patch covers a part of the picture.

    Example: `lenet5 explain four.png --open`

    Needs: the model registry and a champion, as `lenet5 predict` does.

    Next: open the page in a browser.
    """
    paths, params = checkout()
    from lenet5.pages import explanation

    answers, page = explanation.explain(paths, params.register_.model_name, version, images)
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            print_line(f"{answer['image']}: {answer['class']}, probability {answer['probability']:.3f}")
    _write(output, page, open_page, quiet=as_json)


def _folder(paths: Paths) -> Path:
    return LocalState(paths.root).reports


def _label(version: "Version") -> str:
    return f"{version.name.replace(' ', '-')}-{version.number}"


def _write(target: Path, page: str, open_page: bool, *, quiet: bool = False) -> None:
    """Write a page, say where it is, and open it if a user asks for that."""
    files.write_text(target, page)
    if not quiet:
        print_line(f"page: {target}")
    if open_page:
        webbrowser.open(target.absolute().as_uri())
