"""Commands that take the graph to other machines: deployments, workers, new data."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lenet5.cli.app import WORKERS, Json, app, checkout, print_json
from lenet5.core.quiet import quiet_libraries
from lenet5.system.terminal import console


@app.command(rich_help_panel=WORKERS)
def deploy(
    activate: Annotated[
        list[str] | None,
        typer.Option(help="A schedule of prefect.yaml that is to run from now on; can be repeated."),
    ] = None,
    pause: Annotated[
        list[str] | None, typer.Option(help="A schedule that is to run no longer; can be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Apply prefect.yaml to the Prefect server: pools, queues, limits, deployments, automations.

    Can be called any number of times. Schedules are paused until they are asked for, and stay as somebody
    left them.
    """
    paths, _ = checkout()
    with quiet_libraries():
        from lenet5.orchestration import deploy as deployment
    done = deployment.deploy(paths, activate=activate or (), pause=pause or ())
    if as_json:
        print_json([vars(each) for each in done])
        return
    table = Table("deployment", "pool/queue", "schedule", "what it does")
    for each in done:
        schedule = f"{each.schedule}, {'active' if each.active else 'paused'}" if each.schedule else ""
        table.add_row(each.name, each.pool, schedule, escape(each.description))
    console.print(table)
    console.print(
        "Next: `lenet5 worker --pool cpu` takes the runs (`make up` starts one, too); "
        "`prefect deployment run lenet5/train` asks for one; `lenet5 deploy --activate nightly`.",
        markup=False,
    )


@app.command(rich_help_panel=WORKERS)
def worker(
    pool: Annotated[str, typer.Option(help="The work pool: cpu, or gpu on a machine that has one.")] = "cpu",
    limit: Annotated[
        int | None, typer.Option(help="Flow runs at a time on this machine.", min=1, show_default="no limit")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Its name at the server; host and process by default.")
    ] = None,
) -> None:
    """Run flow runs of a work pool on this machine, until SIGTERM or Ctrl-C.

    Each gets a workspace of its own at its commit. The machine needs this package, and in its environment
    PREFECT_API_URL, MLFLOW_TRACKING_URI, LENET5_GIT_URL and LENET5_DVC_REMOTE.
    """
    paths, _ = checkout()
    with quiet_libraries():
        from lenet5.orchestration import worker as prefect_worker
    prefect_worker.work(paths, pool, limit=limit, name=name)


@app.command(rich_help_panel=WORKERS)
def pin(as_json: Json = False) -> None:
    """Take what the source of the data holds now: pin its digests in params.yaml.

    Nothing is trusted by it but the origin: the data is still validated before it reaches a model.
    """
    paths, params = checkout()
    from lenet5.stages.ingest import stage as ingest
    from lenet5.stages.params import pin_checksums as write

    before = params.ingest.sha256
    found = ingest.source_checksums(paths, params.ingest)
    changed = [key for key, digest in found.model_dump().items() if getattr(before, key) != digest]
    if changed:
        write(paths.params, found)
    if as_json:
        print_json({"changed": changed, "sha256": found.model_dump()})
    elif changed:
        told = f"{paths.params} pins what {params.ingest.source} holds; changed: {', '.join(changed)}"
        console.print(told, markup=False)
        console.print("Next: `lenet5 run`; commit params.yaml with dvc.lock.")
    else:
        console.print(f"{params.ingest.source} holds what params.yaml pins", markup=False)
