"""A stage's process: real ones, through DVC, in a project of a few lines."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from lenet5.core.errors import DataError, StorageError, Unavailable
from lenet5.system import process
from lenet5.system.dvc import StageFailed, failure, run_stage, stale_stages

pytestmark = pytest.mark.slow  # real stages, through DVC

MESSAGE = "error: the file is not there.\n  expected: a file\n  fix:      make one"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    (tmp_path / "said.txt").write_text(MESSAGE + "\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  works: {cmd: 'echo one && echo $GREETING > out.txt', outs: [out.txt]}\n"
        f"  refuses: {{cmd: 'cat said.txt >&2; exit {DataError.exit_code}'}}\n"
        "  breaks: {cmd: 'echo no message; exit 9'}\n"
        "  dies: {cmd: 'kill -9 $$'}\n"
        "  ended: {cmd: 'kill -15 $$'}\n"
        "  crashes: {cmd: 'kill -11 $$'}\n"
        "  child_dies: {cmd: 'sh -c \"kill -9 \\$\\$\"; exit $?'}\n"
        "  fills: {cmd: 'echo x > full.txt', outs: [full.txt]}\n"
        "  hangs: {cmd: 'sleep 987654 & echo $! > child.pid; wait'}\n"
    )
    Repo.init(str(tmp_path), no_scm=True).close()
    return tmp_path


def test_output_is_passed_on_line_by_line_without_dvcs_advice(checkout: Path) -> None:
    lines: list[str] = []
    run_stage(checkout, "works", timeout=60, on_line=lines.append, environment={"GREETING": "hello"})
    assert lines[:3] == ["Running stage 'works':", "> echo one && echo $GREETING > out.txt", "one"]
    assert not [line for line in lines if "git add" in line or "autostage" in line or not line]
    assert (checkout / "out.txt").read_text() == "hello\n"


def test_a_stage_that_is_up_to_date_runs_again_only_when_forced(checkout: Path) -> None:
    for force, runs in ((False, True), (False, False), (True, True)):
        lines: list[str] = []
        run_stage(checkout, "works", timeout=60, on_line=lines.append, force=force)
        assert ("one" in lines) == runs


@pytest.fixture
def blocker(checkout: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that works on the output of ``works``, as another command of DVC does."""
    with subprocess.Popen(["sleep", "987654"]) as other:
        info = {"pid": other.pid, "cmd": "dvc repro"}
        locked = {"write": {str(checkout / "out.txt"): info}, "read": {}}
        (checkout / ".dvc/tmp/rwlock").write_text(json.dumps(locked))
        yield other
        other.kill()


def test_a_stage_waits_for_another_command_that_works_on_its_files(
    checkout: Path, blocker: "subprocess.Popen[bytes]"
) -> None:
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            blocker.kill()
            blocker.wait()

    run_stage(checkout, "works", timeout=60, on_line=on_line)
    assert lines[0] == f"waiting for another command of DVC: (PID {blocker.pid}): dvc repro"
    assert "one" in lines
    assert not [line for line in lines if "busy" in line]


def test_a_stage_that_waits_too_long_is_refused(checkout: Path, blocker: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(StageFailed, match=f"is busy.*\n.*PID {blocker.pid}") as failed:
        run_stage(checkout, "works", timeout=5, on_line=lambda line: None)
    assert failed.value.exit_code == Unavailable.exit_code


def test_a_failure_carries_the_stages_own_message_and_exit_code(checkout: Path) -> None:
    with pytest.raises(StageFailed) as failed:
        run_stage(checkout, "refuses", timeout=60, on_line=lambda line: None)
    assert failed.value.exit_code == DataError.exit_code
    assert str(failed.value) == f"stage refuses failed: {MESSAGE.removeprefix('error: ')}"


def test_a_failure_without_a_message_shows_the_last_lines(checkout: Path) -> None:
    with pytest.raises(StageFailed, match="no message") as failed:
        run_stage(checkout, "breaks", timeout=60, on_line=lambda line: None)
    assert failed.value.exit_code == 9


def test_a_stage_that_was_killed_is_said_to_be(checkout: Path) -> None:
    with pytest.raises(StageFailed, match="killed by signal 9") as failed:
        run_stage(checkout, "dies", timeout=60, on_line=lambda line: None)
    assert failed.value.exit_code == Unavailable.exit_code


@pytest.mark.parametrize(
    ("stage", "words", "exit_code"),
    [
        ("dies", r"SIGKILL.*memory.*GB are free", Unavailable.exit_code),
        ("child_dies", r"SIGKILL.*memory", Unavailable.exit_code),
        ("ended", "SIGTERM", Unavailable.exit_code),
        ("crashes", "SIGSEGV.*crash in compiled code", 1),
    ],
)
def test_the_signal_that_ended_a_stage_is_named(
    checkout: Path, stage: str, words: str, exit_code: int
) -> None:
    with pytest.raises(StageFailed, match=words) as failed:
        run_stage(checkout, stage, timeout=60, on_line=lambda line: None)
    assert failed.value.exit_code == exit_code
    assert "fix:" in str(failed.value)


def test_memory_is_named_when_the_kernel_killed_for_it() -> None:
    assert "the kernel killed a process meanwhile" in str(process.death("It died.", 9, memory_kills=1))
    assert "the kernel killed a process meanwhile" not in str(process.death("It died.", 9))
    assert process.memory_kills() >= 0


@pytest.mark.timeout(60)
def test_a_pipe_in_the_graph_is_an_error_before_dvc_waits_for_it(checkout: Path) -> None:
    os.mkfifo(checkout / "out.txt")
    with pytest.raises(DataError, match="a named pipe"):
        run_stage(checkout, "works", timeout=60, on_line=lambda line: None)
    with pytest.raises(DataError, match="a named pipe"):
        stale_stages(checkout)


def test_a_full_disk_below_dvcs_cache_has_its_own_exit_code(checkout: Path) -> None:
    cache = checkout / ".dvc" / "cache"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(cache)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        (cache / "filler").write_bytes(bytes(4096))
        with pytest.raises(StageFailed, match="no space left") as failed:
            run_stage(checkout, "fills", timeout=60, on_line=lambda line: None)
    finally:
        subprocess.run(["umount", str(cache)], check=True)
    assert failed.value.exit_code == StorageError.exit_code
    assert str(cache) in str(failed.value)


@pytest.mark.parametrize("writer", ["dvc", "stage"])
def test_a_full_disk_keeps_its_exit_code_on_the_way_through_dvc(tmp_path: Path, writer: str) -> None:
    lines = {
        "dvc": ["ERROR: unexpected error - [Errno 28] No space left on device"],
        "stage": ["error: There is no space left for x.", "ERROR: failed to run: x, exited with 7"],
    }[writer]
    message, exit_code = failure(tmp_path, lines, 255)
    assert exit_code == StorageError.exit_code
    assert message.startswith("There is no space left")


def test_a_stage_that_takes_too_long_is_killed_with_its_children(checkout: Path) -> None:
    with pytest.raises(StageFailed, match="more than 3 seconds"):
        run_stage(checkout, "hangs", timeout=3, on_line=lambda line: None)
    child = int((checkout / "child.pid").read_text())
    for _ in range(50):
        if not _alive(child):
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} outlived its stage")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
