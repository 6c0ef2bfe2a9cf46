"""The command line: ``lenet5 --help``. Nothing heavy is imported before a command needs it."""

import importlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lenet5 import __version__, settings
from lenet5.errors import Lenet5Error, UsageError
from lenet5.paths import Paths
from lenet5.terminal import console, print_error, quiet_libraries

if TYPE_CHECKING:
    from lenet5.params import Params
    from lenet5.promotion import Promotion
    from lenet5.tracking.registry import Version

EXIT_CODES = """
Exit codes: 0 success · 1 a defect · 2 wrong usage, parameter or setting · 3 a gate said no ·
4 the data is missing, damaged or fails validation · 5 training diverged · 6 a source or server is not there
"""

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
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    force: Annotated[bool, typer.Option(help="Run every stage, even if nothing changed.")] = False,
) -> None:
    """Run the whole graph as a Prefect flow, then ask the promotion gate.

    Stages whose inputs have not changed are not run again. The flow runs in this process; set
    PREFECT_API_URL to report to a server.
    """
    _open()
    with quiet_libraries():
        flow = importlib.import_module("pipelines.flow")
    promoted = flow.run(force=force)
    _print_checks(promoted)
    _print_versions([promoted.version])
    console.print("Next: `make ui` to look at the runs, `lenet5 predict IMAGE` to use the champion.")


@app.command()
def promote(
    version: Annotated[
        str | None, typer.Argument(help="A version number or an alias; the challenger when left out.")
    ] = None,
) -> None:
    """Ask the promotion gate; move the alias champion if it says yes, change nothing if it says no."""
    paths, params = _open()
    from lenet5 import promotion

    done = promotion.promote(paths, params.section("register"), version)
    _print_checks(done)
    console.print(
        f"version {done.version.number} is champion now" if done.moved else "it is the champion already"
    )
    console.print("Next: `lenet5 versions`; `lenet5 predict IMAGE` uses the champion.")


@app.command()
def versions(as_json: Json = False) -> None:
    """List the registered versions, the newest first."""
    paths, params = _open()
    from lenet5.tracking import registry, store

    name = params.section("register").model_name
    with store.reachable():
        found = registry.versions(store.connect(paths), name)
    if as_json:
        _print_json([_as_dict(version) for version in found])
    elif found:
        _print_versions(found)
    else:
        console.print(f"{name} has no versions yet. Next: `lenet5 run` makes one.")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="PNG or JPEG files, any size, one digit each.")],
    version: Annotated[str, typer.Option(help="A version number or an alias.")] = "champion",
    as_json: Json = False,
) -> None:
    """Read handwritten digits with the champion."""
    paths, params = _open()
    from lenet5 import inference

    answers = inference.predict(paths, params.section("register").model_name, version, images)
    if as_json:
        _print_json(answers)
        return
    table = Table("image", "digit", "probability", "next best")
    for answer in answers:
        table.add_row(
            answer["image"],
            f"[bold]{answer['digit']}[/]",
            f"{answer['probability']:.3f}",
            f"{answer['next_digit']} ({answer['next_probability']:.3f})",
        )
    console.print(table)


@app.command()
def status(as_json: Json = False) -> None:
    """Show what is up to date, which version is champion, and whether the servers answer."""
    paths, params = _open()
    from lenet5 import health

    report = health.report(paths, params.section("register").model_name)
    if as_json:
        _print_json(report)
        return
    table = Table(show_header=False)
    for subject, facts in report.items():
        table.add_row(
            subject, ", ".join(f"{name} {_say(fact)}" for name, fact in (facts or {}).items()) or "none"
        )
    console.print(table)


@app.command()
def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.", min=1, max=65535)] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect UI.", min=1, max=65535)] = 4200,
) -> None:
    """Serve the MLflow and Prefect UIs on this machine until Ctrl-C."""
    paths, _ = _open()
    from lenet5 import servers

    servers.serve(paths, mlflow_port, prefect_port)


@app.command()
def env() -> None:
    """Print the embedded settings as shell exports, for bare `mlflow`, `prefect` and `dvc`.

    Use it as: eval "$(lenet5 env)"
    """
    for name, value in settings.embedded(Paths.find()).items():
        print(f"export {name}={shlex.quote(os.environ.get(name, value))}")


def _open() -> tuple[Paths, "Params"]:
    """The checkout, its settings in force, its parameters checked."""
    from lenet5.params import load

    paths = Paths.find()
    settings.apply(paths)
    return paths, load(paths.params)


def _print_checks(promotion: "Promotion") -> None:
    for check in promotion.checks:
        console.print(str(check))


def _print_versions(found: Sequence["Version"]) -> None:
    table = Table("version", "aliases", "test accuracy", "data", "commit", "registered")
    for version in found:
        row = _as_dict(version)
        table.add_row(
            str(version.number),
            ", ".join(version.aliases),
            f"{row['accuracy']:.4f}" if row["accuracy"] is not None else "",
            (row["data"] or "")[:12],
            (row["commit"] or "")[:8] + ("+" if row["dirty"] else ""),
            f"{version.created.astimezone():%Y-%m-%d %H:%M}",
        )
    console.print(table)


def _as_dict(version: "Version") -> dict[str, Any]:
    accuracy = version.tags.get("evaluate.accuracy")
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "accuracy": None if accuracy is None else float(accuracy),
        "data": version.tags.get("lenet5.raw_data"),
        "commit": version.tags.get("mlflow.source.git.commit"),
        "dirty": version.tags.get("git.dirty") == "true",
        "registered": version.created.isoformat(),
        "run_id": version.run_id,
    }


def _say(fact: object) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list):
        return ", ".join(fact) or "nothing"
    return "none" if fact is None else str(fact)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _add_stage(name: str) -> None:
    about = importlib.import_module(f"lenet5.{name}").__doc__

    @app.command(name, help=about, rich_help_panel="Stages (`dvc repro` runs them in order)")
    def stage() -> None:
        paths, params = _open()
        with quiet_libraries():
            door = importlib.import_module(f"lenet5.{name}.stage")
        door.run(paths, params.section(name))
        if "DVC_STAGE" not in os.environ:
            console.print("Next: `dvc repro` runs what depends on it, and records all of it in dvc.lock.")


# A stage is a room: a folder of this package with a stage.py.
for _door in sorted(Path(__file__).parent.glob("*/stage.py")):
    _add_stage(_door.parent.name)


def main() -> None:
    """Entry point: our own errors become a message and an exit code; anything else is a defect."""
    try:
        app()
    except Lenet5Error as error:
        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        print_error(f"{error.filename}: {error.strerror}")
        sys.exit(UsageError.exit_code)


if __name__ == "__main__":
    main()
