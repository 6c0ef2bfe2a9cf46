"""A promoter as a separate process, which can be held or killed before any of its writes to the registry.

    python -m tests.registry.promoter ROOT MODEL VERSION [--hold METHOD]

prints "held" before its first call of that method, and continues after a line on standard input.

    python -m tests.registry.promoter ROOT

reads lines "MODEL VERSION WRITES". For each line it promotes in a forked child that is killed after that many
writes, and prints the exit code of the child. A fork has all modules loaded and no connection; a new process
would take seconds.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.registry import promotion
from tests.registry import factory

WRITES = (
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
)


def promote(root: Path, model: str, version: str, *, hold: str = "", die_after: int | None = None) -> int:
    """Promote a version by force; return the exit code."""
    writes = 0
    held = False

    def intercepted(name: str) -> Any:
        real = getattr(MlflowClient, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal writes, held
            if writes == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
            if name == hold and not held:
                held = True
                print("held", flush=True)
                sys.stdin.readline()
            return real(*arguments, **named)

        return call

    for name in WRITES:
        setattr(MlflowClient, name, intercepted(name))
    try:
        promotion.promote(Paths(root), factory.params(model), version, force=True, reason="a test")
    except Lenet5Error as error:
        print(error, flush=True)
        return error.exit_code
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("model", nargs="?")
    parser.add_argument("version", nargs="?")
    parser.add_argument("--hold", default="")
    options = parser.parse_args()
    if options.model:
        sys.exit(promote(options.root, options.model, options.version, hold=options.hold))
    for line in sys.stdin:
        model, version, writes = line.split()
        if (child := os.fork()) == 0:
            os._exit(promote(options.root, model, version, die_after=int(writes)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
