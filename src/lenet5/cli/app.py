"""What every command shares: the app, the checkout it works in, how answers look."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lenet5 import __version__
from lenet5.core.paths import Paths
from lenet5.system import logs
from lenet5.system.terminal import console
from lenet5.tracking import tags

if TYPE_CHECKING:
    from lenet5.registry.model_versions import Version
    from lenet5.stages.params import Params

EXIT_CODES = """
Exit codes: 0 success · 1 a defect · 2 wrong usage, parameter or setting · 3 a gate said no ·
4 the data is missing, damaged or fails validation · 5 training diverged · 6 a source or server is not there
"""
PIPELINE = "Pipeline"
WORKERS = "Schedules and workers (docs/workers.md)"
MODELS = "Models (a VERSION is a number, or an alias such as @champion)"
STAGES = "Stages (`dvc repro` runs them in order)"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="From raw MNIST digits to a gated, reproducible, registered LeNet-5.",
    epilog=EXIT_CODES,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, show_default=False, help="Log more; -vv: details, too."),
    ] = 0,
    log_format: Annotated[
        logs.Format, typer.Option(help="How messages are logged: text, or json for log collectors.")
    ] = "text",
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logs.configure(verbose=verbose, log_format=log_format)


def checkout() -> tuple[Paths, "Params"]:
    """The checkout, its settings in force, its parameters checked."""
    from lenet5.stages.params import load
    from lenet5.system import settings

    paths = Paths.find()
    settings.apply(paths)
    return paths, load(paths.params)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def say(fact: object) -> str:
    """A fact in words."""
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list):
        return ", ".join(map(str, fact)) or "nothing"
    if isinstance(fact, Mapping):
        return ", ".join(f"{name} {say(value)}" for name, value in fact.items())
    return "none" if fact is None else escape(str(fact))  # a bracket in it is no markup


def print_versions(found: Sequence["Version"]) -> None:
    table = Table("version", "aliases", "test accuracy", "data", "commit", "registered")
    for version in found:
        row = as_dict(version)
        table.add_row(
            str(version.number),
            ", ".join(version.aliases),
            f"{row['accuracy']:.4f}" if row["accuracy"] is not None else "",
            (row["data"] or "")[:12],
            (row["commit"] or "")[:8] + ("+" if row["dirty"] else ""),
            f"{version.created.astimezone():%Y-%m-%d %H:%M}",
        )
    console.print(table)


def as_dict(version: "Version") -> dict[str, Any]:
    accuracy = version.tags.get(f"{tags.METRICS}accuracy")
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "accuracy": None if accuracy is None else float(accuracy),
        "data": version.tags.get(tags.RAW_DATA),
        "commit": version.tags.get(tags.COMMIT),
        "dirty": version.tags.get(tags.DIRTY) == "true",
        "registered": version.created.isoformat(),
        "run_id": version.run_id,
    }
