"""A promoter as a process of its own, which can be held or killed at any of its writes to the registry.

    python -m tests.registry.promoter ROOT MODEL VERSION [--hold METHOD]

says "held" before its first call of that method, and goes on when it is sent a line.

    python -m tests.registry.promoter ROOT

reads lines "MODEL VERSION WRITES" and for each one promotes in a new child that is killed after so many
writes; says how the child ended. (A child has all modules and no connection: a new process takes seconds.)
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
    """Promote; the exit code."""
    writes = 0
    held = False

    def watched(name: str) -> Any:
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
        setattr(MlflowClient, name, watched(name))
    try:
        promotion.promote(Paths(root), factory.params(model), version, force=True, reason="a test")
    except Lenet5Error as error:
        print(error, flush=True)
        return error.exit_code
    return 0


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("root", type=Path)
    options.add_argument("model", nargs="?")
    options.add_argument("version", nargs="?")
    options.add_argument("--hold", default="")
    given = options.parse_args()
    if given.model:
        sys.exit(promote(given.root, given.model, given.version, hold=given.hold))
    for line in sys.stdin:
        model, version, writes = line.split()
        if (child := os.fork()) == 0:
            os._exit(promote(given.root, model, version, die_after=int(writes)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
