"""Commands that use versions: a service that answers requests."""

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from lenet5.cli.app import MODELS, app, checkout
from lenet5.core.errors import UsageError
from lenet5.system.terminal import print_line


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

    POST /predict takes PNG, JPEG, NPY, JSON and forms; /invocations and /v2 speak the protocols of MLflow and
    KServe. /health/ready, /metrics. Every answer is in the inference log in .lenet5/serving/log. The registry
    may be down: the last served version answers. Ctrl-C and SIGTERM let running requests end.

    Example: `lenet5 serve --workers 2`

    Needs: a version with this alias (`lenet5 run`).

    Next: curl --data-binary @digit.png -H "Content-Type: image/png" http://127.0.0.1:8080/predict
    """
    paths, params = checkout()
    if build_context is not None:
        from lenet5.serving import build_context as context

        name = params.register_.model_name
        number = context.write(paths, name, version, build_context)
        print_line(f"{build_context}: version {number} of {name}")
        print_line(f"Next: docker build --tag {name}:{number} {build_context}")
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
    print_line(f"{options.model_name} {version}: http://{host}:{port}/predict")
    print_line("Ctrl-C stops the service.")
    server.run(options, host, port, workers)
    print_line("stopped")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
