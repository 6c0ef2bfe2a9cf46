"""What is printed: no credentials, and no control character that another program chose."""

import io
import logging
import os
import pty
import subprocess
import sys
import warnings
from contextlib import suppress

import pytest
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from lenet5.system import logs, terminal

HOSTILE = "\x1b]0;owned\x07 \x9b31mred \r\x1b[2J https://me:hidden@one.example/x"
SCRIPT = f"""
import logging, sys
from rich.table import Table
from rich.tree import Tree
from lenet5.system import logs, terminal
logs.configure()
text = {HOSTILE!r}
terminal.print_line(text)
table = Table(text)
table.add_row(text)
terminal.console.print(table, Tree(text))
logging.getLogger("lenet5.test").error("%s", text)
logging.getLogger("another.package").warning("%s", text)
"""


def rendered(*things: object, color: bool) -> str:
    console = terminal._SafeConsole(file=io.StringIO(), force_terminal=color, width=200)
    console.print(*things)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.mark.parametrize("kind", ["text", "table", "tree", "styled"])
def test_no_foreign_control_character_is_printed(kind: str) -> None:
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    thing = {"text": HOSTILE, "table": table, "tree": Tree(HOSTILE), "styled": Text(HOSTILE, "bold red")}[
        kind
    ]
    plain = rendered(thing, color=False)
    assert not set(plain) & set("\x1b\x07\x9b\r")
    assert "\\x1b]0;owned" in plain
    colored = rendered(thing, color=True)
    assert "\x1b]0" not in colored
    assert "\x1b[2J" not in colored
    assert not set(colored) & set("\x07\x9b\r")


def test_a_table_keeps_its_layout() -> None:
    table = Table("name", "value")
    table.add_row("\x1b[31mred", "1")
    table.add_row("plain", "2")
    lines = rendered(table, color=False).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_a_real_terminal_gets_no_foreign_sequence() -> None:
    primary, secondary = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=secondary, stderr=secondary) as process:
        os.close(secondary)
        output = b""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(primary, 65536):
                output += chunk
        os.close(primary)
    assert process.returncode == 0, output
    assert output.count(b"\\x1b]0;owned") == 6
    for sequence in (b"\x1b]0", b"\x1b[2J", b"\x07", "\x9b".encode(), b"hidden"):
        assert sequence not in output


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_messages_of_every_package_are_masked(
    capsys: pytest.CaptureFixture[str], log_format: logs.Format
) -> None:
    logs.configure(verbose=2, log_format=log_format)
    logging.getLogger("lenet5.x").info("at %s", "https://me:hidden@one.example")
    shown = capsys.readouterr().err
    shown += warnings.formatwarning("at https://me:hidden@one.example", UserWarning, "file.py", 1)
    assert shown.count("one.example") == 2
    assert "hidden" not in shown


CAPTURED = """
from rich.syntax import Syntax
from rich.table import Table
from lenet5.system.terminal import console, errors
for each in (console, errors):
    each.rule("a title")
    each.print(Syntax("+ new", "diff"))
    table = Table("name", "value")
    table.add_row("a  b", "c")
    each.print(table)
    each.print("right", justify="right", end="")
"""


def test_nothing_that_is_captured_is_as_wide_as_the_console() -> None:
    done = subprocess.run([sys.executable, "-c", CAPTURED], capture_output=True, text=True, check=True)
    for output in (done.stdout, done.stderr):
        lines = output.splitlines()
        assert lines[:2] == ["a title", "+ new"]
        assert any("a  b │ c" in line for line in lines), "blanks in the middle stay"
        assert all(line == line.rstrip() for line in lines)
        assert max(map(len, lines[:-1])) < 40


def test_a_terminal_has_a_rule_of_its_width() -> None:
    output = io.StringIO()
    terminal._SafeConsole(file=output, force_terminal=True, width=60, color_system=None).rule("a title")
    assert output.getvalue().startswith("──")
    assert len(output.getvalue().rstrip("\n")) == 60
