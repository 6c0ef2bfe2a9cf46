"""Commands that use versions: a service that answers requests, its log, and scoring of many files."""

import ipaddress
import logging
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lenet5.cli.app import MODELS, Json, app, checkout, output_file, print_json
from lenet5.cli.models import VersionOption
from lenet5.core.errors import DataError, UsageError
from lenet5.system.terminal import console, count_progress, print_line

log = logging.getLogger(__name__)

_CLASSES = 25
"""Largest number of classes in a table."""
_LISTED = 10
"""Largest number of names in a message."""


@app.command(rich_help_panel=MODELS)
def serve(
    version: Annotated[
        str,
        typer.Option(
            metavar="VERSION", help="An alias, which is followed when it moves, or a number, which is pinned."
        ),
    ] = "@champion",
    host: Annotated[
        str, typer.Option(help="Address to listen on. Other than this machine's own need LENET5_SERVE_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1, max=64)] = 1,
    poll: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time between two looks at the registry.", min=0.1)
    ] = 5.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which clients ask the service. Can be repeated."),
    ] = None,
    max_megabytes: Annotated[int, typer.Option(help="Largest body of a request.", min=1, max=1000)] = 32,
    rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="Requests per second of one client. Without it: no limit.", min=0.1),
    ] = None,
    log_pixels: Annotated[
        bool, typer.Option("--log-pixels", help="Keep the images in the inference log, and not only digests.")
    ] = False,
    log_days: Annotated[
        float,
        typer.Option(metavar="DAYS", help="Age after which parts of the inference log are removed.", min=0),
    ] = 30.0,
    log_megabytes: Annotated[
        float, typer.Option(help="Size beyond which the oldest parts of the log are removed.", min=1)
    ] = 1000.0,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Serve the version that was served last, and never ask the registry."),
    ] = False,
    build_context: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Serve nothing; write what `docker build` needs for an image of this version.",
        ),
    ] = None,
) -> None:
    """Answer HTTP requests with the champion, and with the next one as soon as the alias moves.

    A page to draw on is at the address that the command prints, and the description of all routes at /docs.
    POST /predict takes PNG, JPEG, NPY, JSON and forms; /invocations and /v2 speak the protocols of MLflow and
    KServe. /health/ready, /metrics. Every answer is in the inference log in .lenet5/serving/log. The registry
    may be down: the last served version answers. Ctrl-C and SIGTERM let running requests end.

    Example: `lenet5 serve --workers 2`

    Needs: a version with this alias (`lenet5 run`).

    Next: open http://127.0.0.1:8080 in a browser, or
    curl --data-binary @digit.png -H "Content-Type: image/png" http://127.0.0.1:8080/predict
    """
    paths, params = checkout()
    if build_context is not None:
        from lenet5.serving import build_context as context

        name = params.register_.model_name
        number = context.write(paths, name, version, build_context)
        print_line(f"{build_context}: version {number} of {name}")
        print_line(f"Next: docker build --tag {name}:{number} {shlex.quote(str(build_context))}")
        return
    from lenet5.serving import model_watch, server
    from lenet5.serving.access import Limits, host_names
    from lenet5.serving.service import ServiceOptions
    from lenet5.system import settings

    key = settings.load(paths).lenet5_serve_key
    if key is None and not _is_this_machine(host):
        raise UsageError(
            f"Other machines could use the service at {host}.",
            expected="an API key",
            found="no LENET5_SERVE_KEY",
            fix="set LENET5_SERVE_KEY in .env, for example to the output of `openssl rand -hex 32`",
        )
    if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
        raise UsageError(
            "Clients cannot send this LENET5_SERVE_KEY.",
            expected="letters, digits and punctuation of ASCII, without spaces",
            found="another character",
            fix="set LENET5_SERVE_KEY in .env, for example to the output of `openssl rand -hex 32`",
        )
    limits = Limits(
        hosts=host_names(host, tuple(allow_host or ())),
        key=key.get_secret_value().encode() if key else None,
        max_bytes=max_megabytes * 1_000_000,
        max_total_bytes=max(128, 2 * max_megabytes) * 1_000_000,
        rate=rate,
    )
    options = ServiceOptions(
        root=paths.root,
        model_name=params.register_.model_name,
        reference=version,
        limits=limits,
        poll_seconds=poll,
        metrics_folder=None,
        log_pixels=log_pixels,
        log_days=log_days,
        log_megabytes=log_megabytes,
        offline=offline,
    )
    if offline:
        model_watch.last_served(paths, options.model_name, version)  # an error before anything starts

    def announce() -> None:
        print_line(f"{options.model_name} {version}: http://{f'[{host}]' if ':' in host else host}:{port}")
        print_line("Ctrl-C stops the service.")

    server.run(options, host, port, workers, on_listening=announce)
    print_line("stopped")


def _moment(text: str | None) -> datetime | None:
    """Return a time: ISO 8601, in UTC unless it says otherwise, or a number of days or hours before now.

    Raises:
        UsageError: it is none of them.
    """
    if text is None:
        return None
    if match := re.fullmatch(r"([0-9]{1,5})([dh])", text):
        hours = int(match[1]) * (24 if match[2] == "d" else 1)
        return datetime.now(UTC) - timedelta(hours=hours)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "This is no time.",
            expected="2026-11-27, 2026-11-27T10:15, or 7d or 12h before now (UTC)",
            found=repr(text),
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command(rich_help_panel=MODELS)
def traffic(
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="First time (UTC): 2026-11-27, 2026-11-27T10:15, or 7d or 12h before now.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time after the last answer.", show_default=False)
    ] = None,
    below: Annotated[
        float, typer.Option(metavar="SHARE", help="Count answers with a lower confidence.", min=0, max=1)
    ] = 0.9,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Write the labelled images of this time, which `lenet5 data add` reads.",
            show_default=False,
            callback=output_file,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Summarise the inference log: requests, classes, confidence, and what people said about the answers.

    The confidence is calibrated, so its mean estimates the accuracy on images like the test images. Labels of
    POST /feedback measure it. A torn or damaged file is named; exit code 4 says that answers cannot be read,
    or that there are none.

    Example: `lenet5 traffic --since 7d`

    Needs: answers of `lenet5 serve` or `lenet5 batch`; for --export, of `lenet5 serve --log-pixels`.

    Next: `lenet5 traffic --export corrected.parquet`, then `lenet5 data add corrected.parquet`.
    """
    paths, _ = checkout()
    first, last = _moment(since), _moment(until)
    if first and last and first >= last:
        raise UsageError(
            "No answer can be in this time.",
            expected="--since before --until",
            found=f"{first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M}",
        )
    from lenet5.serving import traffic as inference_traffic
    from lenet5.system.state import LocalState

    folder = LocalState(paths.root).serving
    summary = inference_traffic.summarise(folder, since=first, until=last, low_confidence=below)
    known = inference_traffic.references(paths, summary)
    report = inference_traffic.as_json(summary, known)
    if as_json:
        print_json(report)
    else:
        _print_traffic(report, below)
    if export:
        left_out = inference_traffic.export(folder, export, since=first, until=last)
        if left_out:
            log.warning("%d labelled answers are left out: the log does not hold their pixels", left_out)
        if not as_json:
            print_line(
                f"{export} is written. Next: `lenet5 data add {shlex.quote(str(export))}`, then `lenet5 run`."
            )
    lost = [each for each in summary.unreadable if each.lost]
    if lost:
        raise DataError(
            f"{len(lost)} files of the log cannot be read; the others are counted.",
            expected="complete Parquet files",
            found=", ".join(str(each.file) for each in lost),
            fix="restore the files, or remove them",
        )


@app.command(rich_help_panel=MODELS)
def batch(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES", help="PNG and JPEG pictures, NPY files, Parquet files, and folders of them."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.parquet", help="File to write.", callback=output_file),
    ] = Path("answers.parquet"),
    version: VersionOption = "@champion",
    to_log: Annotated[
        bool, typer.Option("--log/--no-log", help="Add the answers to the inference log, too.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Score many images, and write the answers to a Parquet file, without a service.

    The output has the columns of the inference log, and the column `source`: the file; `row` is the position
    in it. It appears when all images are scored. A picture, or a row of a Parquet file, that cannot be used
    does not hold up the others: each is reported, and exit code 4 says that there is one.

    A Parquet file has its images in the column `image` or `pixels`: pictures, raw pixels, or lists of pixels.
    So a log with pixels can be scored by another version.

    Example: `lenet5 batch scans/ digits.npy --output answers.parquet`

    Needs: the model registry and a champion, as `lenet5 predict` does.

    Next: `lenet5 traffic` summarises the log.
    """
    paths, params = checkout()
    from lenet5.serving import batch as scoring

    unusable: list[dict[str, Any]] = []
    files_to_score = scoring.inputs(sources, output)

    def on_unusable(name: str, error: DataError) -> None:
        unusable.append({"source": name, "error": error.as_dict()})
        if not as_json:
            log.error("%s", error)

    with count_progress() as progress:
        task = progress.add_task("scored", total=None)
        done = scoring.score(
            paths,
            params.register_.model_name,
            version,
            progress.track(files_to_score, description="files"),
            output,
            logged=to_log,
            on_unusable=on_unusable,
            on_scored=lambda images: progress.update(task, completed=images),
        )
    if as_json:
        counts = {"version": done.version, "files": done.files, "images": done.images}
        print_json({"output": str(output), **counts, "unusable": unusable})
    else:
        print_line(
            f"{output}: {done.images:,} images of {done.files:,} files, scored by version {done.version}"
        )
    if unusable:
        names = [each["source"] for each in unusable]
        more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        raise DataError(
            f"Of the files or rows, {len(unusable):,} cannot be used; the others have answers.",
            found=", ".join(names[:_LISTED]) + more,
        )


def _print_traffic(summary: dict[str, Any], below: float) -> None:
    """Print a summary, as it is for scripts, for people."""
    days = Table("day (UTC)", "requests", "images", "asked before on that day")
    for day in summary["days"]:
        days.add_row(day["day"], *(f"{day[name]:,}" for name in ("requests", "images", "repeated")))
    console.print(days)
    versions = Table(
        "version", "requests", "images", "routes", "estimated accuracy", f"confidence < {below:g}"
    )
    for each in summary["versions"]:
        versions.add_row(
            f"{escape(each['model'])} {each['version']}",
            f"{each['requests']:,}",
            f"{each['images']:,}",
            escape(", ".join(f"{route} {images:,}" for route, images in each["routes"].items())),
            f"{each['estimated_accuracy']:.4f}",
            f"{each['low_confidence']:.2%}",
        )
    console.print(versions)
    print_line("estimated accuracy: the mean of the calibrated confidence; labels measure the accuracy.")
    for each in summary["versions"]:
        _print_classes(each)
    _print_feedback(summary["feedback"])
    for each in summary["unreadable"]:
        print_line(f"{'not read' if each['lost'] else 'torn'}: {each['file']}: {each['problem']}")


def _print_classes(version: dict[str, Any]) -> None:
    """Print the predicted classes of a version; of many, the most frequent ones."""
    known = any(each["reference_share"] is not None for each in version["classes"])
    rows = version["classes"]
    if len(rows) > _CLASSES:
        rows = sorted(rows, key=lambda each: each["images"], reverse=True)[:_CLASSES]
    title = f"{escape(version['model'])} {version['version']}: predicted"
    table = Table(title, "images", "share", *(["share of the test images"] if known else []))
    for each in rows:
        reference = [f"{each['reference_share']:.2%}"] if known else []
        table.add_row(escape(each["class"]), f"{each['images']:,}", f"{each['share']:.2%}", *reference)
    console.print(table)
    if len(version["classes"]) > len(rows):
        print_line(f"{len(version['classes']) - len(rows)} more classes: --json")


def _print_feedback(feedback: dict[str, Any]) -> None:
    if not feedback["labels"]:
        print_line('No labels. POST /feedback takes them: {"request_id": …, "row": 0, "label": "7"}.')
        return
    print_line(f"{feedback['labels']:,} labels, {feedback['joined']:,} of answers in this log and time.")
    if not feedback["joined"]:
        return
    print_line(
        f"accuracy on the labelled images: {feedback['accuracy']:.4f} ({feedback['low']:.4f} to "
        f"{feedback['high']:.4f}, 95 % confidence). People label mistakes more often than right answers."
    )
    if feedback["confused"]:
        table = Table("label", "answered", "images")
        for pair in feedback["confused"]:
            table.add_row(escape(pair["label"]), escape(pair["class"]), f"{pair['images']:,}")
        console.print(table)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
