"""Ask MLflow's client in a child process: its import takes seconds and 200 MB that a server does not need.

The service calls :func:`ask`; the module that runs in the child calls :func:`main`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from lenet5.core.errors import Lenet5Error, Unavailable
from lenet5.core.paths import Paths
from lenet5.system import logs, settings
from lenet5.system.process import environment_for_child, signal_number
from lenet5.system.terminal import print_error

_TIMEOUT_SECONDS = 300.0
_NICE = 10
"""Niceness of the child process, which imports MLflow for seconds while requests are answered."""
_SHOWN_LINES = 4
"""Number of lines of the child's standard error that a message shows."""


def ask(paths: Paths, what: str, module: str, *arguments: str) -> str:
    """Run a module in a child process, and return its standard output.

    Args:
        paths: the checkout, where the child runs.
        what: the sentence of the error when it fails.
        module: such as ``lenet5.serving.download``.
        arguments: of the module.

    Raises:
        Unavailable: the child failed, took too long, or was ended by a signal.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=paths.root,
            env=environment_for_child({}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(what, found=f"no answer in {_TIMEOUT_SECONDS:.0f} seconds") from None
    if child.returncode:
        lines = [line.strip() for line in child.stderr.strip().splitlines()[-_SHOWN_LINES:]]
        if number := signal_number(child.returncode):
            killed = f"{signal.Signals(number).name} ended the child process that asks MLflow"
            # after Ctrl-C, the lines are its stack trace
            lines = [killed, *(lines if number != signal.SIGINT else [])]
        raise Unavailable(what, found="; ".join(lines) or f"exit code {child.returncode}")
    return child.stdout


def main(answer: Callable[..., None]) -> int:
    """Call a function with the checkout and the words of the command line, and return the exit code."""
    os.nice(_NICE)
    logs.configure()
    paths = Paths.find()
    try:
        settings.apply(paths)
        answer(paths, *sys.argv[1:])
    except Lenet5Error as error:
        print_error(error)
        return error.exit_code
    return 0
