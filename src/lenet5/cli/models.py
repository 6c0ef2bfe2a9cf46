"""Commands about registered versions: which there are, who is champion and why, where they come from."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from lenet5.cli.app import MODELS, Json, app, as_dict, checkout, print_json, print_versions, say
from lenet5.core.errors import Refused, UsageError
from lenet5.core.quiet import quiet_libraries
from lenet5.system.terminal import console, errors

Wanted = Annotated[str, typer.Argument(metavar="VERSION", help="A version number, or an alias: @champion.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]
_DIGEST = 6
"""Fewest characters by which a digest or a commit may be named."""


@app.command(rich_help_panel=MODELS)
def versions(
    data: Annotated[
        str | None, typer.Option(help="Only those that saw this data: a SHA-256, or how it begins.")
    ] = None,
    commit: Annotated[str | None, typer.Option(help="Only those of this git commit.")] = None,
    as_json: Json = False,
) -> None:
    """List the registered versions, the newest first.

    --data takes the digest of a data set, as `lenet5 lineage` shows it, or of a file, as params.yaml pins it.
    """
    for option, digest in (("--data", data), ("--commit", commit)):
        if digest is not None and len(digest) < _DIGEST:
            raise UsageError(
                f"{option} is too short to name one thing.",
                expected=f"{_DIGEST} characters or more",
                found=repr(digest),
            )
    paths, params = checkout()
    from lenet5.registry import lineage, model_versions
    from lenet5.tracking import store

    name = params.register_.model_name
    with store.reachable(paths):
        known = model_versions.versions(store.connect(paths), name)
    found = lineage.select(known, data=data, commit=commit)
    if as_json:
        print_json([as_dict(version) for version in found])
    elif found:
        print_versions(found)
    elif known:
        console.print(
            f"None of the {len(known)} versions of {name}. `lenet5 lineage VERSION` shows what one saw."
        )
    else:
        console.print(f"{name} has no versions yet. Next: `lenet5 run` makes one.")


@app.command(rich_help_panel=MODELS)
def promote(
    version: Annotated[
        str | None, typer.Argument(help="A version number or an alias; the challenger when left out.")
    ] = None,
    to: Annotated[str, typer.Option(help="The alias it is to have.")] = "champion",
    force: Annotated[
        bool, typer.Option("--force", help="Overrule a no of the gate; needs --reason.")
    ] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Ask the promotion gate about a version; move the alias if it says yes, change nothing if it says no.

    The gate compares it with the champion on the same test images, one by one. Exit code 3: it was not
    promoted, because it was rejected, or kept back as a tie.
    """
    paths, params = checkout()
    from lenet5.registry import promotion

    done = promotion.promote(paths, params, version, alias=to, force=force, reason=reason)
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
            }
        )
    elif verdict:
        console.print(str(verdict), markup=False)
    if verdict and not done.moved:
        raise Refused(
            f"Version {number} is not made {to}: {verdict.why}",
            do="nothing has changed; --force --reason '…' overrules the gate",
        )
    if not as_json:
        now = done.holder.number if done.holder else None
        if now != number:
            console.print(f"version {number} was made {to}, and {'none' if now is None else now} is since")
        else:
            console.print(f"version {number} is {to} {'now' if done.moved else 'already'}")
        console.print("Next: `lenet5 history`; `lenet5 rollback --reason '…'` goes back.")


@app.command(rich_help_panel=MODELS)
def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the history.")],
    to: Annotated[
        str | None, typer.Option(help="A former champion; the last one when left out.", metavar="VERSION")
    ] = None,
    alias: Annotated[str, typer.Option(help="The alias to give back.")] = "champion",
    as_json: Json = False,
) -> None:
    """Make a former champion the champion again, without asking the gate.

    The version that is withdrawn is not promoted again by `lenet5 run`; only by `lenet5 promote --force`.
    A second rollback undoes the first.
    """
    paths, params = checkout()
    from lenet5.registry import promotion

    done = promotion.rollback(paths, params, reason=reason, to=to, alias=alias)
    if as_json:
        print_json({"version": done.version.number, "withdrawn": done.withdrawn})
        return
    console.print(f"version {done.version.number} is {alias} again; version {done.withdrawn} is withdrawn")
    console.print("Next: `lenet5 history`; `lenet5 rollback --to VERSION --reason '…'` goes further back.")


@app.command(rich_help_panel=MODELS)
def history(as_json: Json = False) -> None:
    """Show who was champion when, and why: every move of an alias, the latest first."""
    paths, params = checkout()
    from lenet5.registry import promotion

    lines = promotion.history(paths, params)
    if as_json:
        print_json([line.entry.model_dump(mode="json") | {"happened": line.happened} for line in lines])
        return
    if not lines:
        console.print("Nothing was promoted yet. Next: `lenet5 run`, or `lenet5 promote`.")
        return
    table = Table("time", "alias", "from", "to", "what", "by", "reason")
    for line in lines:
        move = line.entry
        table.add_row(
            f"{move.time.astimezone():%Y-%m-%d %H:%M:%S}",
            move.alias,
            say(move.before),
            say(move.to),
            move.kind if line.happened else f"{move.kind}, not ended",
            escape(move.by),
            escape(move.reason),
        )
    console.print(table)


@app.command(rich_help_panel=MODELS)
def lineage(version: Wanted, as_json: Json = False) -> None:
    """Show where a version comes from: run, code, data, environment, gate, history."""
    paths, params = checkout()
    from lenet5.registry import lineage as lineages

    facts = lineages.of(paths, params, version)
    if as_json:
        print_json(facts)
        return
    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    tree = Tree(f"[bold]{facts['name']} version {facts['version']}[/]{aliases}")
    _grow(tree, {name: fact for name, fact in facts.items() if name not in ("name", "version", "aliases")})
    console.print(tree)


@app.command(rich_help_panel=MODELS)
def diff(one: Wanted, other: Wanted, as_json: Json = False) -> None:
    """Show what differs between two versions: parameters, data, metrics, packages, graph, code."""
    paths, params = checkout()
    from lenet5.registry import lineage as lineages

    found = lineages.diff(paths, params, one, other)
    if as_json:
        print_json(found)
        return
    if not any(found["differences"].values()):
        console.print(f"versions {found['versions'][0]} and {found['versions'][1]} do not differ")
        return
    table = Table("", "what", *(f"version {number}" for number in found["versions"]))
    for section, rows in found["differences"].items():
        for number, (name, (left, right)) in enumerate(rows.items()):
            table.add_row(
                "" if number else section, name, say(left), say(right), end_section=number == len(rows) - 1
            )
    console.print(table)


@app.command(rich_help_panel=MODELS)
def reproduce(
    version: Wanted,
    into: Annotated[
        Path | None,
        typer.Option(help="A new or empty folder to work in; it is kept. Else one below .lenet5."),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Leave the outcome with the version.")] = False,
    as_json: Json = False,
) -> None:
    """Make a version again from its commit and its data, and compare bit for bit.

    Works in any clone that has the commit and reaches the registry. Exit code 3: it came out different, with
    how far apart and the likely cause.
    """
    paths, params = checkout()
    with quiet_libraries():
        from lenet5.orchestration import reproduce as reproduction
    tell = errors.print if as_json else console.print
    done = reproduction.reproduce(
        paths, params, version, into=into, record=record, tell=lambda line: tell(line, markup=False)
    )
    if as_json:
        rows = {
            row.what: {"recorded": row.recorded, "found": row.found, "same": row.same} for row in done.rows
        }
        print_json(
            {
                "version": done.version.number,
                "identical": done.identical,
                "compared": rows,
                "numbers": done.numbers,
                "causes": done.causes,
                "folder": str(done.folder) if done.folder else None,
            }
        )
    else:
        table = Table("", "recorded", "made again", "same")
        for row in done.rows:
            table.add_row(row.what, _short(row.recorded), _short(row.found), "✓" if row.same else "✗")
        console.print(table)
    if not done.identical:
        other = ", ".join(row.what for row in done.rows if not row.same)
        raise Refused(
            f"Version {done.version.number} came out different.",
            expected="the same bytes",
            found="; ".join([f"other {other}", *done.numbers]),
            do=f"likely causes: {'; '.join(done.causes)}. Look at what was made again: {done.folder}",
        )
    if not as_json:
        console.print(f"version {done.version.number} is bit-identical")
        if done.folder:
            console.print(
                f"Next: look at {done.folder}; `git worktree remove --force` removes it.", markup=False
            )


@app.command(rich_help_panel=MODELS)
def predict(
    images: Annotated[list[Path], typer.Argument(help="PNG or JPEG files, any size, one digit each.")],
    version: Annotated[str, typer.Option(help="A version number or an alias.")] = "champion",
    as_json: Json = False,
) -> None:
    """Read handwritten digits with the champion."""
    paths, params = checkout()
    from lenet5.serving import predictor

    answers = predictor.predict(paths, params.register_.model_name, version, images)
    if as_json:
        print_json(answers)
        return
    table = Table("image", "digit", "probability", "next best")
    for answer in answers:
        table.add_row(
            escape(answer["image"]),
            f"[bold]{answer['digit']}[/]",
            f"{answer['probability']:.3f}",
            f"{answer['next_digit']} ({answer['next_probability']:.3f})",
        )
    console.print(table)


def _short(text: str) -> str:
    """A SHA-256 by its beginning; anything else whole."""
    return text[:16] if len(text) == 64 else text


def _grow(tree: Tree, facts: dict[str, Any]) -> None:
    for name, fact in facts.items():
        if isinstance(fact, dict):
            _grow(tree.add(f"[bold]{name}[/]"), fact)
        elif isinstance(fact, list) and fact:
            branch = tree.add(f"[bold]{name}[/]")
            for item in fact:
                branch.add(say(item))
        elif fact not in (None, "", []):
            tree.add(f"{name}: {say(fact)}")
