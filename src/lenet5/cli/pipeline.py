"""Commands that run the graph, and the servers and settings around it."""

import os
import shlex
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from lenet5.cli.app import PIPELINE, Json, app, checkout, print_json, print_versions, say
from lenet5.core.paths import Paths
from lenet5.system.terminal import console


@app.command(rich_help_panel=PIPELINE)
def run(
    force: Annotated[bool, typer.Option("--force", help="Run every stage, even if nothing changed.")] = False,
    force_stage: Annotated[
        list[str] | None, typer.Option(help="Run this stage even if nothing changed; can be repeated.")
    ] = None,
    placement: Annotated[
        Literal["auto", "here", "strict"],
        typer.Option(
            help="Where a stage that names a work pool runs. auto: there when a worker is alive, else here; "
            "here; strict: there, or it is an error."
        ),
    ] = "auto",
) -> None:
    """Run the whole graph as a Prefect flow, then ask the promotion gate.

    Stages whose inputs have not changed are not run again. The flow runs in this process; set
    PREFECT_API_URL to report to a server. The training goes to a GPU worker when one is alive and both
    machines share MLFLOW_TRACKING_URI and LENET5_DVC_REMOTE. A candidate that the gate keeps back as a tie
    is no failure; one that it rejects is: exit code 3.
    """
    checkout()
    from lenet5.orchestration import local_run

    promoted = local_run.run(force_stage or (), everything=force, placement=placement)
    if promoted.verdict:
        console.print(str(promoted.verdict), markup=False)
    shown = {version.number: version for version in (promoted.version, promoted.holder) if version}
    print_versions(list(shown.values()))
    console.print(
        "Next: `make ui` to look at the runs, `lenet5 predict IMAGE` to use the champion, `lenet5 history`."
    )


@app.command(rich_help_panel=PIPELINE)
def recipe(
    name: Annotated[str, typer.Argument(help="A recipe; none: show all of them.")] = "",
    as_json: Json = False,
) -> None:
    """Print what a recipe changes in params.yaml, as options of `dvc exp run`.

    Use it as: dvc exp run $(lenet5 recipe fast)
    """
    from lenet5.stages import recipes

    paths, params = checkout()
    found = {
        each: recipes.load(paths.recipes, each) for each in ([name] if name else recipes.names(paths.recipes))
    }
    for its in found.values():
        its.apply(params)
    if as_json:
        print_json({each: its.model_dump() for each, its in found.items()})
    elif name:
        print(found[name].options)
    else:
        table = Table("recipe", "what for", "changes in params.yaml")
        for each, its in found.items():
            table.add_row(each, its.about, say(its.overrides))
        console.print(table)
        console.print("Next: dvc exp run $(lenet5 recipe fast)")


@app.command(rich_help_panel=PIPELINE)
def status(
    of_settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting in force, and where it comes from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what is up to date, which version is champion, each service and whether it answers."""
    if of_settings:
        _print_settings(Paths.find(), as_json)
        return
    paths, params = checkout()
    from lenet5.cli import status_report

    report = status_report.report(paths, params)
    if as_json:
        print_json(report)
        return
    table = Table(show_header=False)
    for subject, facts in report.items():
        table.add_row(subject, say(facts or {}) or "none")
    console.print(table)


@app.command(rich_help_panel=PIPELINE)
def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.", min=1, max=65535)] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect UI.", min=1, max=65535)] = 4200,
) -> None:
    """Serve the MLflow and Prefect UIs on this machine until Ctrl-C."""
    paths, _ = checkout()
    from lenet5.cli import ui_servers

    ui_servers.serve(paths, mlflow_port, prefect_port)


@app.command(rich_help_panel=PIPELINE)
def env() -> None:
    """Print the settings in force as shell exports, for bare `mlflow`, `prefect` and `dvc`.

    Use it as: eval "$(lenet5 env)"
    """
    from lenet5.system import settings

    paths = Paths.find()
    names = {
        *settings.embedded(paths),
        *(fact.name for fact in settings.facts(paths) if fact.origin == ".env"),
    }
    settings.apply(paths)
    for name in sorted(names):
        print(f"export {name}={shlex.quote(os.environ[name])}")


def _print_settings(paths: Paths, as_json: bool) -> None:
    from lenet5.system import settings

    facts = settings.facts(paths)
    if as_json:
        print_json({fact.name: {"value": fact.value, "from": fact.origin} for fact in facts})
        return
    table = Table("setting", "value", "from", "what it is")
    for fact in facts:
        table.add_row(fact.name, escape(fact.value), fact.origin, fact.about)
    console.print(table)
    console.print("Next: set one in the environment or in .env; `.env.example` tells of each.")
