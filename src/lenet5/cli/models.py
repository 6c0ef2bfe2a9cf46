"""Commands that read the model registry: list, trace, compare, reproduce and use versions."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from lenet5.cli import completion
from lenet5.cli.app import (
    MODELS,
    Json,
    app,
    checkout,
    format_value,
    print_json,
    print_versions,
    version_as_dict,
)
from lenet5.core.errors import DataError, Refused, UsageError
from lenet5.core.quiet import quiet_libraries
from lenet5.system.terminal import console, errors, print_line

log = logging.getLogger(__name__)

ImagesArgument = Annotated[
    list[Path], typer.Argument(help="PNG or JPEG files of any size, with one object in each.")
]
VersionOption = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        help="The version to use: a number or an alias.",
        autocompletion=completion.versions,
    ),
]
VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        help="A version number, or an alias such as @champion.",
        autocompletion=completion.versions,
    ),
]
_SHORTEST_PREFIX = 6
"""Characters of a digest or a commit that --data and --commit need."""


@app.command("versions", rich_help_panel=MODELS)
def list_versions(
    data: Annotated[
        str | None,
        typer.Option(metavar="SHA256", help="Only versions that used this data: a SHA-256 or its beginning."),
    ] = None,
    commit: Annotated[
        str | None,
        typer.Option(metavar="COMMIT", help="Only versions of this git commit: its hash or its beginning."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the registered versions, newest first.

    --data takes the digest of a data set, as `lenet5 lineage` prints it, or of a source file, as params.yaml
    pins it. The last column says what a version was made from that the champion was not: parameters, data,
    code, packages.

    Example: `lenet5 versions --json`

    Needs: the model registry.

    Next: `lenet5 lineage VERSION`, `lenet5 diff VERSION VERSION`.
    """
    for option, prefix in (("--data", data), ("--commit", commit)):
        if prefix is not None and len(prefix) < _SHORTEST_PREFIX:
            raise UsageError(
                f"The value of {option} is too short.",
                expected=f"{_SHORTEST_PREFIX} characters or more",
                found=repr(prefix),
            )
    paths, params = checkout()
    from lenet5.registry import comparison, lineage, model_versions
    from lenet5.tracking import store

    name = params.register_.model_name
    with store.reachable(paths):
        client = store.connect(paths)
        versions = model_versions.versions(client, name)
        selected = lineage.select(versions, data=data, commit=commit)
        changes = comparison.since_champion(client, versions, selected)
    if as_json:
        print_json(
            [version_as_dict(each) | {"changed": list(changes.get(each.number, ()))} for each in selected]
        )
    elif selected:
        print_versions(selected, changes)
    elif versions:
        print_line(
            f"None of the {len(versions)} versions of {name} matches. "
            "Next: `lenet5 lineage VERSION` prints the data and the commit of a version."
        )
    else:
        print_line(f"{name} has no versions yet. Next: {model_versions.FIRST_VERSION}.")


@app.command("lineage", rich_help_panel=MODELS)
def show_lineage(version: VersionArgument, as_json: Json = False) -> None:
    """Show the origin of a version: run, code, data, environment, gate decision and promotions.

    Example: `lenet5 lineage @champion`

    Needs: the model registry.

    Next: `lenet5 reproduce VERSION`, `lenet5 versions --data SHA256`.
    """
    paths, params = checkout()
    from lenet5.registry import lineage

    facts = lineage.of(paths, params, version)
    if as_json:
        print_json(facts)
        return
    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    tree = Tree(f"[bold]{facts['name']} version {facts['version']}[/]{aliases}")
    in_title = ("name", "version", "aliases")
    _add_branches(tree, {name: value for name, value in facts.items() if name not in in_title})
    console.print(tree)


@app.command("bom", rich_help_panel=MODELS)
def show_bill_of_materials(
    version: VersionArgument,
    packages: Annotated[
        bool, typer.Option("--packages", help="The packages with their hashes (SBOM) instead of the model.")
    ] = False,
) -> None:
    """Print the bill of materials of a version: CycloneDX 1.6 in JSON, without a clock or a random number.

    It names the files of the model, data, hyper-parameters, metrics, code and packages, each with its
    digest.

    Example: `lenet5 bom @champion > model.cdx.json`

    Needs: the model registry.

    Next: `lenet5 bom @champion > model.cdx.json` stores it in a file.
    """
    paths, params = checkout()
    from lenet5.registry import bom

    wanted = bom.PACKAGES if packages else bom.MODEL
    print(bom.read(paths, params.register_.model_name, version, wanted), end="")


@app.command("diff", rich_help_panel=MODELS)
def show_difference(
    left: VersionArgument,
    right: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="The version to compare it with.",
            autocompletion=completion.versions,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say which of two versions is better, and show what differs: parameters, data, metrics, packages, code.

    The first sentence compares the answers to the same test images, as the promotion gate does.

    Example: `lenet5 diff champion challenger`

    Needs: the model registry; for changed source files also a clone that has both commits.

    Next: `lenet5 lineage VERSION`.
    """
    paths, params = checkout()
    from lenet5.registry import lineage

    comparison = lineage.diff(paths, params, left, right)
    if as_json:
        print_json(comparison)
        return
    numbers, sections = comparison["versions"], comparison["differences"]
    if not any(sections.values()):
        print_line(f"versions {numbers[0]} and {numbers[1]} do not differ")
        return
    print_line(comparison["answer"]["sentence"])
    table = Table("", "what", *(f"version {number}" for number in numbers))
    for section, rows in sections.items():
        for index, (name, values) in enumerate(rows.items()):
            table.add_row(
                "" if index else section,
                escape(name),
                *map(format_value, values),
                end_section=index == len(rows) - 1,
            )
    console.print(table)


@app.command("reproduce", rich_help_panel=MODELS)
def reproduce_version(
    version: VersionArgument,
    into: Annotated[
        Path | None,
        typer.Option(
            help="A new or empty folder to work in. The command keeps it. Default: a folder below .lenet5."
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Store the result as a tag of the version.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version again from its commit and its data, and compare the two bit for bit.

    Exit code 3: the result differs. The message shows how much, and the likely cause.

    Example: `lenet5 reproduce @champion`

    Needs: a clone that has the commit of the version, the model registry, and the time of one training.

    Next: with exit code 0, nothing; with exit code 3, `lenet5 lineage VERSION` shows the original
    environment.
    """
    paths, params = checkout()
    with quiet_libraries():
        from lenet5.orchestration import reproduce
    progress = errors if as_json else console  # with --json, standard output holds only the answer
    done = reproduce.reproduce(
        paths, params, version, into=into, record=record, on_line=lambda line: print_line(line, to=progress)
    )
    if as_json:
        compared = {
            row.what: {"recorded": row.recorded, "found": row.found, "same": row.same} for row in done.rows
        }
        print_json(
            {
                "version": done.version.number,
                "identical": done.identical,
                "compared": compared,
                "numbers": done.numbers,
                "causes": done.causes,
                "folder": str(done.folder) if done.folder else None,
            }
        )
    else:
        table = Table("", "recorded", "made again", "same")
        for row in done.rows:
            table.add_row(row.what, _shortened(row.recorded), _shortened(row.found), "✓" if row.same else "✗")
        console.print(table)
    if not done.identical:
        different = ", ".join(row.what for row in done.rows if not row.same)
        raise Refused(
            f"The reproduction of version {done.version.number} differs.",
            expected="the same bytes",
            found="; ".join([f"different: {different}", *done.numbers]),
            fix=f"remove a likely cause: {'; '.join(done.causes)}. The new files are in {done.folder}",
        )
    if not as_json:
        print_line(f"version {done.version.number} is bit-identical")
        if done.folder:
            print_line(f"Next: `git worktree remove --force {done.folder}` removes the new files.")


@app.command(rich_help_panel=MODELS)
def predict(
    images: ImagesArgument,
    version: VersionOption = "champion",
    as_json: Json = False,
) -> None:
    """Classify image files with the champion.

    The model file names the classes, and says how pictures are converted to the images of its data set. A
    picture that cannot be used does not hold up the others: exit code 4 says that there is one. With --json,
    its entry has the key `error` instead of an answer.

    Example: `lenet5 predict four.png seven.jpg`

    Needs: the model registry and a champion. The model file is downloaded once and checked against its
    digest.

    Next: `lenet5 lineage @champion` shows where the model comes from.
    """
    paths, params = checkout()
    from lenet5.serving import predictor

    unusable: dict[str, DataError] = {}
    answers = predictor.predict(
        paths,
        params.register_.model_name,
        version,
        images,
        on_unusable=lambda image, error: unusable.update({str(image): error}),
    )
    if as_json:
        by_image = {answer["image"]: answer for answer in answers}
        by_image |= {image: {"image": image, "error": error.as_dict()} for image, error in unusable.items()}
        print_json([by_image[str(image)] for image in images])
    else:
        _print_answers(answers)
    if len(unusable) == 1 == len(images):
        raise next(iter(unusable.values()))
    if unusable:
        if not as_json:
            for error in unusable.values():
                log.error("%s", error)
        raise DataError(
            f"{len(unusable)} of {len(images)} pictures cannot be used; the others have answers.",
            found=", ".join(unusable),
        )


def _print_answers(answers: Sequence[dict[str, Any]]) -> None:
    """Print a table of answers; nothing without any."""
    if not answers:
        return
    table = Table("image", "class", "probability", "next best")
    for answer in answers:
        table.add_row(
            escape(answer["image"]),
            f"[bold]{escape(answer['class'])}[/]",
            f"{answer['probability']:.3f}",
            f"{escape(answer['next_class'])} ({answer['next_probability']:.3f})",
        )
    console.print(table)


def _shortened(text: str) -> str:
    """Return the first 16 characters of a SHA-256, and any other text as it is."""
    return escape(text[:16] if len(text) == 64 else text)


def _add_branches(tree: Tree, facts: dict[str, Any]) -> None:
    """Add facts to a tree. A mapping or a list becomes a branch; an empty value is left out."""
    for name, value in facts.items():
        if isinstance(value, dict):
            _add_branches(tree.add(f"[bold]{name}[/]"), value)
        elif isinstance(value, list) and value:
            branch = tree.add(f"[bold]{name}[/]")
            for item in value:
                branch.add(format_value(item))
        elif value not in (None, "", []):
            tree.add(f"{name}: {format_value(value)}")
