"""A promoter as a process of its own, which can be killed or held at any of its writes to the registry.

    python -m tests.tracking.promoter ROOT MODEL VERSION [--die-after N] [--hold METHOD]

With ``--hold`` it says "held" before its first call of that method, and goes on when it is sent a line.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from lenet5 import promotion
from lenet5.errors import Lenet5Error
from lenet5.paths import Paths
from tests.tracking import factory

WRITES = (
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("root", type=Path)
    options.add_argument("model")
    options.add_argument("version")
    options.add_argument("--die-after", type=int)
    options.add_argument("--hold")
    given = options.parse_args()
    writes = 0
    held = False

    def watched(name: str) -> Any:
        real = getattr(MlflowClient, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal writes, held
            if writes == given.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
            if name == given.hold and not held:
                held = True
                print("held", flush=True)
                sys.stdin.readline()
            return real(*arguments, **named)

        return call

    for name in WRITES:
        setattr(MlflowClient, name, watched(name))
    try:
        promotion.promote(
            Paths(given.root), factory.params(given.model), given.version, force=True, reason="a test"
        )
    except Lenet5Error as error:
        print(error)
        sys.exit(error.exit_code)
    print(f"done after {writes} writes")


if __name__ == "__main__":
    main()
