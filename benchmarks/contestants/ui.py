"""`lenet5 ui` until all its servers answer, and then Ctrl-C.

The last line of its output is the wall time until they answer.
"""

import json
import signal
import socket
import subprocess
import time

from lenet5.core.errors import Lenet5Error

SERVERS = ("mlflow", "prefect", "tensorboard")


def main() -> None:
    options = [word for name in SERVERS for word in (f"--{name}-port", str(_free_port()))]
    started = time.perf_counter()
    with subprocess.Popen(["lenet5", "ui", *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        seconds = time.perf_counter() - started
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
    if process.returncode:
        raise Lenet5Error("`lenet5 ui` failed.", found="".join(lines))
    print(json.dumps({"seconds": round(seconds, 3)}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
