"""Commands that move the alias of a model version, and show the log of these moves."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lenet5.cli import completion
from lenet5.cli.app import MODELS, Json, app, checkout, format_value, print_json
from lenet5.core.errors import Refused
from lenet5.system.terminal import console, print_line


@app.command("promote", rich_help_panel=MODELS)
def promote_version(
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION",
            help="A version number or an alias. Default: the challenger, or the champion if there is none.",
            show_default=False,
            autocompletion=completion.versions,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="The alias that the version gets.", autocompletion=completion.aliases)
    ] = "champion",
    force: Annotated[
        bool, typer.Option("--force", help="Promote it even if the gate rejects it. Needs --reason.")
    ] = False,
    accept_new_data: Annotated[
        bool,
        typer.Option(
            "--accept-new-data",
            help="Judge on the test images of the version alone when those of the champion are other data. "
            "Needs --reason.",
        ),
    ] = False,
    reason: Annotated[str, typer.Option(help="The reason, for the promotion log.")] = "",
    as_json: Json = False,
) -> None:
    """Compare a version with the champion, and move the alias if the version passes the promotion gate.

    The gate compares both on the same test images, one by one; if they were evaluated on different ones, on
    both sets. It also compares them under each corruption and on each slice of the images of the version. If
    the version does not pass, nothing changes. Exit code 3: not promoted, because the gate rejected the
    version, found no difference, or saw that the test data of the two differ in kind.

    Example: `lenet5 promote 3`

    Needs: the model registry.

    Next: `lenet5 history`; `lenet5 rollback --reason '…'` undoes a promotion.
    """
    paths, params = checkout()
    from lenet5.registry import promotion

    done = promotion.promote(
        paths, params, version, alias=to, force=force, accept_new_data=accept_new_data, reason=reason
    )
    number, verdict = done.version.number, done.verdict
    if as_json:
        print_json(
            {
                "version": number,
                "moved": done.moved,
                "decision": verdict.decision if verdict else None,
                "why": verdict.why if verdict else None,
                "limits": {check.name: check.passed for check in verdict.checks} if verdict else {},
                "comparison": vars(verdict.comparison) if verdict and verdict.comparison else None,
                "groups": verdict.groups.to_dict("records")
                if verdict and verdict.groups is not None
                else None,
                "new_data": asdict(verdict.change) if verdict and verdict.change else None,
                "accepted_new_data": verdict.accepted if verdict else False,
            }
        )
    elif verdict:
        print_line(verdict)
    if verdict and not done.moved:
        fix = "nothing has changed; to promote it nevertheless, add --force --reason '…'"
        if verdict.decision == "other_data":
            fix = promotion.how_to_accept(done, to)
        raise Refused(f"Version {number} was not promoted to {to}: {verdict.why}", fix=fix)
    if as_json:
        return
    holder = done.holder.number if done.holder else None
    if holder != number:
        print_line(f"version {number} became {to}; since then, the alias moved to {format_value(holder)}")
    else:
        print_line(f"version {number} is {to} {'now' if done.moved else 'already'}")
    print_line("Next: `lenet5 history`; `lenet5 rollback --reason '…'` undoes a promotion.")


@app.command("rollback", rich_help_panel=MODELS)
def roll_back(
    reason: Annotated[str, typer.Option(help="The reason, for the promotion log.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="A version that held the alias before. Default: the last one.",
            metavar="VERSION",
            show_default=False,
            autocompletion=completion.versions,
        ),
    ] = None,
    alias: Annotated[
        str, typer.Option(help="The alias to move back.", autocompletion=completion.aliases)
    ] = "champion",
    as_json: Json = False,
) -> None:
    """Give the alias back to a version that held it before. The gate is not used.

    `lenet5 run` does not promote the withdrawn version again; only `lenet5 promote --force` does. A second
    rollback undoes the first.

    Example: `lenet5 rollback --reason 'worse on photographs'`

    Needs: the model registry and a former champion.

    Next: `lenet5 history`; `lenet5 rollback --to VERSION --reason '…'` goes further back.
    """
    paths, params = checkout()
    from lenet5.registry import promotion

    done = promotion.rollback(paths, params, reason=reason, to=to, alias=alias)
    if as_json:
        print_json({"version": done.version.number, "withdrawn": done.withdrawn})
        return
    print_line(f"version {done.version.number} is {alias} again; version {done.withdrawn} is withdrawn")
    print_line("Next: `lenet5 history`; `lenet5 rollback --to VERSION --reason '…'` goes further back.")


@app.command("history", rich_help_panel=MODELS)
def show_history(as_json: Json = False) -> None:
    """Show the promotion log: every move of an alias, with user and reason, latest first.

    Example: `lenet5 history`

    Needs: the model registry.

    Next: `lenet5 lineage VERSION`.
    """
    paths, params = checkout()
    from lenet5.registry import promotion_history

    lines = promotion_history.history(paths, params)
    if as_json:
        print_json([line.entry.model_dump(mode="json") | {"happened": line.happened} for line in lines])
        return
    if not lines:
        print_line("The promotion log is empty. Next: `lenet5 run`, or `lenet5 promote`.")
        return
    table = Table("time", "alias", "from", "to", "what", "by", "reason")
    for line in lines:
        entry = line.entry
        table.add_row(
            f"{entry.time.astimezone():%Y-%m-%d %H:%M:%S}",
            entry.alias,
            format_value(entry.before),
            format_value(entry.to),
            entry.kind if line.happened else f"{entry.kind}, not completed",
            escape(entry.by),
            escape("\n".join([entry.reason, *_accuracies(entry.figures)])),
        )
    console.print(table)


def _accuracies(figures: Mapping[str, float]) -> list[str]:
    """Return a line with the accuracies on old and new test data, if a change has them."""
    if "champion_accuracy" not in figures:
        return []
    new = f"champion {figures['champion_accuracy']:.4f}, candidate {figures['accuracy']:.4f}"
    old = "no old test images"
    if "old_data_accuracy" in figures:
        champion, candidate = figures["old_data_champion_accuracy"], figures["old_data_accuracy"]
        old = f"champion {champion:.4f}, candidate {candidate:.4f} on the old ones"
    return [f"accuracy: {new} on the new test images; {old}"]
