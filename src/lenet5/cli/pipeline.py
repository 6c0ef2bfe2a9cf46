"""Commands that run the pipeline, and show its state, its settings and its UIs."""

import logging
import shlex
import signal
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from lenet5.cli import completion
from lenet5.cli.app import PIPELINE, UI_PORTS, Json, app, checkout, format_value, print_json, print_versions
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.system.terminal import console, errors, print_line

log = logging.getLogger(__name__)


@app.command(rich_help_panel=PIPELINE)
def run(
    force: Annotated[
        bool, typer.Option("--force", help="Run every stage, even if its inputs have not changed.")
    ] = False,
    force_stage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Run this stage, even if its inputs have not changed. Can be repeated.",
            autocompletion=completion.stages,
        ),
    ] = None,
    placement: Annotated[
        Literal["auto", "here", "strict"],
        typer.Option(
            help="Where to run a stage for which dvc.yaml names a work pool. auto: on a live worker, else on "
            "this machine. here: on this machine. strict: on a live worker; without one, the run fails."
        ),
    ] = "auto",
) -> None:
    """Run the pipeline as a Prefect flow, from the source images to the promotion gate.

    Only stages whose inputs have changed are run. The flow runs in this process and reports to
    PREFECT_API_URL, or to an embedded server. Without PREFECT_API_URL, a run with nothing to do starts no
    flow. The training runs on a GPU worker if one is alive and both
    machines share MLFLOW_TRACKING_URI and LENET5_DVC_REMOTE. Exit code 3: the gate rejected the candidate, or
    held it back because its test data are other data. A candidate that is as good as the champion is not
    promoted, and the exit code is 0.

    Example: `lenet5 run --force-stage train`

    Needs: a git checkout and the source data that params.yaml names.

    Next: `lenet5 ui`, `lenet5 predict IMAGE`, `lenet5 history`.
    """
    checkout()
    from lenet5.cli import run_display
    from lenet5.orchestration import local_run

    live = run_display.is_live(log=log.isEnabledFor(logging.INFO))
    try:
        with run_display.raising_on_sigterm() as signals, run_display.shown(live=live) as progress:
            result = local_run.run(
                force_stage or (), everything=force, placement=placement, observer=progress
            )
    except KeyboardInterrupt:
        again = ["lenet5", "run", *progress.still_forced(force_stage or (), everything=force)]
        print_line(
            f"Interrupted. {progress.what_is_kept()} `{shlex.join(again)}` goes on from there.", to=errors
        )
        raise typer.Exit(128 + (signals[-1] if signals else signal.SIGINT)) from None
    if result.verdict:
        print_line(result.verdict)
    versions = {version.number: version for version in (result.version, result.holder) if version}
    print_versions(list(versions.values()))
    print_line(run_display.summary(result))


@app.command(rich_help_panel=PIPELINE)
def recipe(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a recipe. Without it, all are listed.", autocompletion=completion.recipes
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """List recipes (parameters that go together), or print one as options of `dvc exp run`.

    Example: `lenet5 recipe accuracy`

    Needs: the files in recipes/.

    Next: dvc exp run $(lenet5 recipe fast)
    """
    from lenet5.stages import recipes

    paths, params = checkout()
    names = [name] if name else recipes.names(paths.recipes)
    chosen = {each: recipes.load(paths.recipes, each) for each in names}
    for each in chosen.values():
        each.apply(params)  # raises an error if a recipe does not fit params.yaml
    if as_json:
        print_json({each: content.model_dump() for each, content in chosen.items()})
    elif name:
        print(chosen[name].options)
    else:
        table = Table("recipe", "purpose", "changes in params.yaml")
        for label, content in chosen.items():
            table.add_row(label, escape(content.about), format_value(content.overrides))
        console.print(table)
        print_line("Next: dvc exp run $(lenet5 recipe fast)")


@app.command(rich_help_panel=PIPELINE)
def experiments(
    commits: Annotated[int, typer.Option(min=1, help="Show the experiments of this many commits.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare the experiments of `dvc exp run`: metrics, and the parameters that they changed.

    `dvc exp show` has every parameter and every file in a column of its own. This table fits a terminal.

    Needs: a git checkout in which the pipeline ran.

    Example: `lenet5 experiments --commits 3`

    Next: `dvc exp apply NAME` brings an experiment into the workspace, `dvc metrics diff NAME` compares it.
    """
    from lenet5.core.results import Evaluation
    from lenet5.system import experiments as dvc_experiments

    paths, _ = checkout()
    rows = dvc_experiments.collect(paths.root, commits)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    columns = list(Evaluation.model_fields)
    table = Table("experiment", *(name.replace("_", "\n") for name in columns), "changed parameters")
    for row in rows:
        state = f" ({row.state})" if row.state else ""
        figures = [f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in columns]
        table.add_row(
            escape(f"{'  ' if row.base else ''}{row.name}{state}"), *figures, escape(", ".join(row.changed))
        )
    console.print(table)


@app.command(rich_help_panel=PIPELINE)
def status(
    of_settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting with its value and its origin instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which stages are out of date, which version is champion, and which services answer.

    Example: `lenet5 status --json`

    Needs: a checkout; a service that does not answer is part of the answer.

    Next: `lenet5 run` if a stage is out of date; `lenet5 status --settings` if an address is wrong.
    """
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
        table.add_row(subject, format_value(facts or None))
    console.print(table)


@app.command(rich_help_panel=PIPELINE)
def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.", min=1, max=65535)] = UI_PORTS[
        "mlflow"
    ],
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect UI.", min=1, max=65535)] = UI_PORTS[
        "prefect"
    ],
    tensorboard_port: Annotated[int, typer.Option(help="Port of TensorBoard.", min=1, max=65535)] = UI_PORTS[
        "tensorboard"
    ],
) -> None:
    """Serve MLflow, Prefect and TensorBoard for this checkout on 127.0.0.1 until Ctrl-C.

    Example: `lenet5 ui --mlflow-port 5001`

    Needs: three free ports; the runs must be in the embedded store. A tracking server has its own UI.

    Next: open the addresses that the command prints.
    """
    paths, _ = checkout()
    from lenet5.cli import ui_servers

    ui_servers.serve(paths, mlflow_port, prefect_port, tensorboard_port)


@app.command(rich_help_panel=PIPELINE)
def env() -> None:
    """Print the settings in force as shell exports, secrets included, for bare `mlflow`, `prefect` and `dvc`.

    Needs: a checkout.

    Next: eval "$(lenet5 env)"
    """
    from lenet5.system import settings

    for name, value in sorted(settings.exports(Paths.find()).items()):
        print(f"export {name}={shlex.quote(value)}")


@app.command(rich_help_panel=PIPELINE)
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended without a risk. Nothing is deleted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check this machine and this checkout, and say how to mend what is wrong.

    Python, packages, git, disk, variables, clock, embedded databases, DVC's cache, registry, servers.
    Exit code 4: something is wrong.

    Example: `lenet5 doctor --repair`

    Needs: a checkout.

    Next: what the column "fix" says; `lenet5 doctor --repair`.
    """
    from lenet5.cli import doctor as checks

    paths, _ = checkout()
    findings = []
    table = Table("", "subject", "found", "fix")
    for finding in checks.diagnose(paths):
        mended = finding.repair() if repair and not finding.ok and finding.repair else None
        findings.append(
            {
                "subject": finding.subject,
                "ok": finding.ok or mended is not None,
                "found": finding.found,
                "fix": finding.fix,
                "repaired": mended,
            }
        )
        mark = "✓" if finding.ok else "repaired" if mended else "✗"
        table.add_row(mark, finding.subject, escape(finding.found), escape(mended or finding.fix))
    wrong = [finding for finding in findings if not finding["ok"]]
    if as_json:
        print_json(findings)
    else:
        console.print(table)
        print_line(
            f"{len(wrong)} of {len(findings)} checks found something to mend." if wrong else "All is well."
        )
    if wrong:
        raise typer.Exit(DataError.exit_code)


def _print_settings(paths: Paths, as_json: bool) -> None:
    from lenet5.system import settings

    resolved = settings.resolved(paths)
    if as_json:
        print_json({setting.name: {"value": setting.value, "from": setting.origin} for setting in resolved})
        return
    table = Table("setting", "value", "from", "description")
    for setting in resolved:
        table.add_row(setting.name, escape(setting.value), setting.origin, escape(setting.about))
    console.print(table)
    print_line("Next: change one in the environment or in .env; `.env.example` describes them.")
