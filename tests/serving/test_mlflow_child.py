"""The child process that asks MLflow's client for the service."""

from pathlib import Path

import pytest

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.serving import mlflow_child

INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
KILLED = (
    "import os, signal, sys\nprint('its last words', file=sys.stderr)\nos.kill(os.getpid(), signal.SIGKILL)\n"
)
FAILED = "import sys\nsys.exit('no route to host')\n"


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (INTERRUPTED, "SIGINT ended the child process"),
        (KILLED, "SIGKILL ended the child process that asks MLflow; its last words"),
        (FAILED, "no route to host"),
    ],
)
def test_error_says_what_ended_the_child_without_a_stack_trace(
    tmp_path: Path, program: str, found: str
) -> None:
    (tmp_path / "asks.py").write_text(program)
    with pytest.raises(Unavailable, match=found) as raised:
        mlflow_child.ask(Paths(tmp_path), "The file cannot be downloaded.", "asks")
    assert "KeyboardInterrupt" not in str(raised.value)
