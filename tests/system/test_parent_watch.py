"""A stage does not outlive the flow that started it."""

import os
import subprocess
import sys
import time

import psutil

FLOW = """
import os, subprocess, sys
from lenet5.system import parent_watch
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], env=os.environ | parent_watch.env_for_child(), start_new_session=True
)
print(child.pid, flush=True)
child.wait()
"""
STAGE = """
import time
from lenet5.system import parent_watch
parent_watch.exit_with_parent()
print("at work", flush=True)
time.sleep(60)
"""


def test_a_stage_ends_itself_when_its_flow_is_killed() -> None:
    flow = subprocess.Popen([sys.executable, "-c", FLOW, STAGE], stdout=subprocess.PIPE, text=True)
    assert flow.stdout is not None
    stage = psutil.Process(int(flow.stdout.readline()))
    assert flow.stdout.readline() == "at work\n"
    flow.kill()
    flow.wait()
    flow.stdout.close()
    assert not stage.is_running() or stage.wait(timeout=15) is None


def test_a_stage_without_a_flow_is_left_alone() -> None:
    script = (
        "import threading; from lenet5.system.parent_watch import exit_with_parent; "
        "exit_with_parent(); print(threading.active_count())"
    )
    bare = {name: value for name, value in os.environ.items() if name != "LENET5_SUPERVISOR"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_another_process_of_the_same_number_is_not_taken_for_the_flow() -> None:
    claimed = {"LENET5_SUPERVISOR": f"{os.getpid()}:{time.time() - 1e6}"}
    command = [sys.executable, "-c", STAGE]
    done = subprocess.run(command, env=os.environ | claimed, capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
