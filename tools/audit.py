"""Search this repository for known vulnerabilities, dangerous code and secrets: ``make audit``.

Every scanner but ``vulnerabilities`` works without a network. Exit code 0: no scanner found anything. Exit
code 1: one found something or failed.

``vulnerabilities`` asks a service on the internet. It first asks about a package that is known to be
vulnerable. Without the right answer to that, it reports "not checked", which is an error only with
``--require-all``: an answer that never came must not look like "no vulnerabilities". The variables
``PIP_AUDIT_VULNERABILITY_SERVICE`` and ``PIP_AUDIT_OSV_URL`` choose another service.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["nothing found", "FAILED", "NOT CHECKED"]
BIN = Path(sys.executable).parent

VULNERABLE = "jinja2==2.10"
"""A package with known vulnerabilities (CVE-2019-10906, among others). No service has withdrawn them."""

NOT_SECRETS = (
    # lines with the digests of data and of commits
    "--exclude-lines",
    r'"(commit|made_from|classifier_sha256)": "[0-9a-f]{40,64}"|(train|test)_(images|labels): "?[0-9a-f]{64}'
    # and of the scripts that the page of `dvc plots show` contains
    r'|"vega[a-z-]*@[0-9.]+": "[0-9a-f]{64}"',
    # what documents and tests write in place of a password
    "--exclude-secrets",
    "^(password|secret|hidden|word|not-a-secret)$",
)


@dataclass(frozen=True)
class Result:
    """What one scanner found."""

    state: State
    text: str = ""
    """The findings, or the reason why nothing was checked."""


class Unusable(Exception):
    """A scanner that did not run to its end, or had nothing to read."""


def code() -> Result:
    """Search the product's Python code for dangerous calls; pyproject.toml lists what is allowed, and why."""
    scripts = _tracked(lambda name: name.endswith(".py") and not name.startswith("tests/"))
    done = _run("bandit", "--quiet", "--format", "json", "--configfile", "pyproject.toml", *scripts)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise Unusable(done.stdout + done.stderr) from None
    found = [
        f"{each['filename']}:{each['line_number']}: {each['test_id']} {each['issue_text']}"
        for each in report["results"]
    ]
    # bandit skips a file that it cannot read, and still succeeds
    found += [f"{each['filename']}: not read: {each['reason']}" for each in report["errors"]]
    return Result("FAILED", "\n".join(found)) if found else Result("nothing found")


def secrets() -> Result:
    """Search every text file for passwords, keys and tokens. The locks hold nothing but names and hashes."""
    binary_or_lock = re.compile(r"requirements.*\.lock$|\.(gz|png)$")
    names = _tracked(lambda name: not binary_or_lock.search(name))
    processes = os.cpu_count() or 1
    # without --no-verify, it would send what it finds to the service that the secret seems to be for
    command = ("detect-secrets-hook", "--no-verify", *NOT_SECRETS, "--")
    parts = [names[start::processes] for start in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        return _verdict(list(pool.map(lambda part: _run(*command, *part), filter(None, parts))))


def dockerfile() -> Result:
    """Check the Dockerfile. Exceptions are in it, each with its reason."""
    return _verdict([_run("hadolint", "--no-color", *_tracked(lambda name: "Dockerfile" in Path(name).name))])


def shell() -> Result:
    """Check the shell scripts, those without a suffix included."""

    def is_script(name: str) -> bool:
        with Path(name).open("rb") as file:
            return name.endswith(".sh") or bool(re.match(rb"#!.*\b(ba|da)?sh\s", file.readline(100)))

    return _verdict([_run("shellcheck", "--color=never", *_tracked(is_script))])


def vulnerabilities() -> Result:
    """Ask for known vulnerabilities of every package in every lock, for all platforms and Python versions."""
    locks = _tracked(lambda name: bool(re.search(r"requirements.*\.lock$", name)))
    versions: dict[str, set[str]] = defaultdict(set)
    for lock in locks:
        for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", Path(lock).read_text(), re.MULTILINE):
            versions[name].add(version)
    if not versions:
        raise Unusable(f"no package is pinned in {', '.join(locks)}")
    known = _pip_audit([VULNERABLE])
    if known.returncode == 0 or not re.search(r"Found \d+ known vulnerabilit", known.stderr):
        last = (known.stderr.strip() or "no answer").splitlines()[-1]
        return Result("NOT CHECKED", f"the service does not report {VULNERABLE}, which is vulnerable: {last}")
    pins = [sorted(f"{name}=={version}" for version in found) for name, found in sorted(versions.items())]
    # pip-audit accepts one version of a package in each call; a lock for several Pythons has up to two
    most = max(map(len, pins))
    return _verdict([_pip_audit([pin[at] for pin in pins if at < len(pin)]) for at in range(most)])


SCANNERS = {scanner.__name__: scanner for scanner in (code, secrets, dockerfile, shell, vulnerabilities)}


def _pip_audit(pins: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        # without markers, because pip-audit leaves out the packages of other platforms
        file.write_text("\n".join(pins) + "\n")
        command = ("pip-audit", "--strict", "--disable-pip", "--no-deps", "--progress-spinner", "off")
        return _run(*command, "--cache-dir", str(Path(folder) / "cache"), "--requirement", str(file))


def _tracked(is_wanted: Callable[[str], bool]) -> list[str]:
    """Return the files of the repository, new ones included, that are wanted.

    Raises:
        Unusable: there are none, so a scanner would check nothing and succeed.
    """
    done = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if done.returncode:
        raise Unusable(done.stderr)
    names = [name for name in done.stdout.split("\0") if name and Path(name).is_file() and is_wanted(name)]
    if not names:
        raise Unusable("there is no file to check")
    return sorted(set(names))


def _run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    own = BIN / program
    try:
        return subprocess.run(
            [own if own.exists() else program, *arguments], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise Unusable(f"{program} cannot be started: {error}") from error


def _verdict(runs: Sequence["subprocess.CompletedProcess[str]"]) -> Result:
    failed = [done for done in runs if done.returncode]
    if failed:
        return Result("FAILED", "\n".join(f"{done.stdout}{done.stderr}".strip() for done in failed))
    return Result("nothing found")


def _timed(name: str) -> tuple[str, float, Result]:
    start = time.monotonic()
    try:
        result = SCANNERS[name]()
    except Unusable as error:
        result = Result("FAILED", f"the scanner did not work: {str(error).strip()}")
    return name, time.monotonic() - start, result


def main() -> int:
    parser = argparse.ArgumentParser(description="Search the repository in the working directory.")
    parser.add_argument("scanners", nargs="*", metavar="SCANNER", help=f"{', '.join(SCANNERS)}; default: all")
    parser.add_argument("--require-all", action="store_true", help='treat "not checked" as an error')
    arguments = parser.parse_args()
    if unknown := set(arguments.scanners) - set(SCANNERS):
        parser.error(f"no such scanner: {', '.join(sorted(unknown))}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(_timed, arguments.scanners or SCANNERS))
    for name, _, result in done:
        if result.text:
            print(f"{name}:\n{result.text}\n")
    for name, seconds, result in done:
        print(f"{name:15} {result.state:13} ({seconds:.1f} s)")
    states = {result.state for _, _, result in done}
    return int("FAILED" in states or (arguments.require_all and "NOT CHECKED" in states))


if __name__ == "__main__":
    sys.exit(main())
