"""Commands for other machines and for new data: deployments, workers, checksums."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lenet5.cli.app import WORKERS, Json, app, checkout, print_json
from lenet5.core.quiet import quiet_libraries
from lenet5.system.terminal import console, print_line


@app.command("deploy", rich_help_panel=WORKERS)
def apply_deployments(
    activate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Activate this schedule of prefect.yaml. Can be repeated."),
    ] = None,
    pause: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Pause this schedule of prefect.yaml. Can be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Apply prefect.yaml to the Prefect server: work pools, queues, limits, deployments, automations.

    The command can be repeated. A new schedule is paused; the state of an existing schedule does not change
    unless an option names it.

    Example: `lenet5 deploy --activate nightly`

    Needs: PREFECT_API_URL.

    Next: `lenet5 worker --pool cpu`; `lenet5 deploy --activate nightly`.
    """
    paths, _ = checkout()
    with quiet_libraries():
        from lenet5.orchestration import deploy
    deployed = deploy.deploy(paths, activate=activate or (), pause=pause or ())
    if as_json:
        print_json([vars(each) for each in deployed])
        return
    table = Table("deployment", "pool/queue", "schedule", "description")
    for each in deployed:
        schedule = f"{each.schedule}, {'active' if each.active else 'paused'}" if each.schedule else ""
        table.add_row(each.name, each.pool, schedule, escape(each.description))
    console.print(table)
    print_line(
        "Next: `lenet5 worker --pool cpu` runs them (`make up` starts a worker too); "
        "`prefect deployment run lenet5/train` starts a training; `lenet5 deploy --activate nightly`."
    )


@app.command("worker", rich_help_panel=WORKERS)
def start_worker(
    pool: Annotated[
        str, typer.Option(help="The work pool: cpu, or gpu on a machine that has a GPU.")
    ] = "cpu",
    limit: Annotated[
        int | None,
        typer.Option(help="Concurrent flow runs on this machine.", min=1, show_default="no limit"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the worker at the server.", show_default="host name and process number"),
    ] = None,
) -> None:
    """Run the flow runs of a work pool on this machine, until SIGTERM or Ctrl-C.

    Each flow run gets its own workspace: a checkout of its commit.

    Example: `lenet5 worker --pool gpu --limit 1`

    Needs: PREFECT_API_URL, MLFLOW_TRACKING_URI, LENET5_GIT_URL and LENET5_DVC_REMOTE in the environment or in
    .env, and the packages that requirements.lock pins.

    Next: `prefect deployment run lenet5/train`, from any machine.
    """
    paths, _ = checkout()
    with quiet_libraries():
        from lenet5.orchestration import worker
    worker.work(paths, pool, limit=limit, name=name)


@app.command("pin", rich_help_panel=WORKERS)
def pin_source(as_json: Json = False) -> None:
    """Write the checksums of the data at the source into params.yaml, to accept new data.

    The source and its additions are read to their ends first; params.yaml is unchanged if they cannot be
    used. The stage validate still checks the new data before a training uses it.

    Example: `lenet5 pin && lenet5 run`

    Needs: read access to ingest.source.

    Next: `lenet5 run`; commit params.yaml with dvc.lock.
    """
    paths, params = checkout()
    from lenet5.stages.ingest import stage as ingest
    from lenet5.stages.params import pin_checksums

    pinned = params.ingest.pins.by_name
    pins = ingest.current_pins(paths, params.ingest)
    changed = [name for name, digest in pins.by_name.items() if pinned[name] != digest]
    if changed:
        pin_checksums(paths.params, pins.base, pins.additions)
    if as_json:
        print_json({"changed": changed, "sha256": pins.by_name})
    elif changed:
        print_line(
            f"{paths.params} pins the checksums of {params.ingest.source}; changed: {', '.join(changed)}"
        )
        print_line("Next: `lenet5 run`; commit params.yaml with dvc.lock.")
    else:
        print_line(f"{params.ingest.source} has the checksums that params.yaml pins")
