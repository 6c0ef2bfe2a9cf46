"""Each scanner of ``make audit`` refuses something, with its own command and this project's configuration.

Passwords and keys are put together here, because the audit reads this file, too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import REPOSITORY
from tools.audit import VULNERABLE

pytestmark = pytest.mark.integration

KEY = "AKIA" + "IOSFODNN7" + "EXAMPLQ"
FOUND_NOTHING, FAILED, NOT_CHECKED = "nothing found", "FAILED", "NOT CHECKED"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A git repository with the configuration of this one and no other file."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def audit(
    folder: Path, scanner: str, *options: str, expect: str = FAILED, environment: dict[str, str] | None = None
) -> str:
    """Run one scanner in a folder; return what it says. ``expect`` is the state that it must report."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools/audit.py", scanner, *options],
        cwd=folder,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(rf"^{scanner} +{expect}", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert done.returncode == (expect == FAILED or (expect == NOT_CHECKED and "--require-all" in options))
    return done.stdout


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("import subprocess\n\nsubprocess.run('ls ' + input(), shell=True)\n", "bad.py:3: B602"),
        ("import pickle\n\npickle.loads(input().encode())\n", "bad.py:3: B301"),
        ("import yaml\n\nyaml.load(input())\n", "bad.py:3: B506"),
        ("import tempfile\n\ntempfile.mktemp()\n", "bad.py:3: B306"),
        (
            "import requests\n\nrequests.get('https://example.org', verify=False, timeout=1)\n",
            "bad.py:3: B501",
        ),
        ("if True\n", "bad.py: not read: syntax error"),
    ],
    ids=["shell", "pickle", "yaml", "race", "certificate", "syntax"],
)
def test_dangerous_code_is_refused(folder: Path, line: str, finding: str) -> None:
    (folder / "bad.py").write_text(line)
    assert finding in audit(folder, "code")
    (folder / "bad.py").write_text("print('harmless')\n")
    audit(folder, "code", expect=FOUND_NOTHING)


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (f"aws_access_key_id = '{KEY}'", "AWS Access Key"),
        ("DATABASE = 'postgresql://lenet5:" + "Xk29vQpL7@db/runs'", "Basic Auth Credentials"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "Private Key"),
        ("password = '" + "correct-horse-battery'", "Secret Keyword"),
        ("token = '" + "9f86d081884c7d659a2feaa0c55ad015'", "Hex High Entropy String"),
    ],
    ids=["aws", "url", "private-key", "password", "hex"],
)
def test_secrets_are_refused_in_every_kind_of_file(folder: Path, line: str, finding: str) -> None:
    names = {"settings.py", "notes.md", "run.sh"}
    for name in names:
        (folder / name).write_text(f"first line\n{line}\n")
    found = re.findall(rf"{finding}\nLocation: +(.*):2$", audit(folder, "secrets"), re.MULTILINE)
    assert set(found) == names


def test_placeholders_and_digests_of_data_are_no_secrets(folder: Path) -> None:
    digest = "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"  # pragma: allowlist secret
    (folder / "params.yaml").write_text(f"sha256:\n  train_images: {digest}\n")
    (folder / "sweep.md").write_text("postgresql+psycopg://user:password@host/sweeps\n")
    audit(folder, "secrets", expect=FOUND_NOTHING)


def test_bad_dockerfile_is_refused(folder: Path) -> None:
    (folder / "Dockerfile").write_text('FROM python:latest\nRUN cd /tmp && sudo ls\nCMD ["python"]\n')
    found = audit(folder, "dockerfile")
    assert "DL3007" in found  # no version
    assert "DL3004" in found  # sudo


@pytest.mark.parametrize("name", ["clean.sh", "ci/run"])
def test_bad_shell_script_is_refused(folder: Path, name: str) -> None:
    script = folder / name
    script.parent.mkdir(exist_ok=True)
    script.write_text("#!/usr/bin/env bash\nfolder=$1\nrm -rf $folder/*\n")
    assert "SC2086" in audit(folder, "shell")  # not quoted


@pytest.mark.parametrize("scanner", ["dockerfile", "shell", "vulnerabilities"])
def test_scanner_with_nothing_to_read_is_no_success(folder: Path, scanner: str) -> None:
    assert "the scanner did not work: there is no file to check" in audit(folder, scanner)


def test_folder_without_git_is_no_success(tmp_path: Path) -> None:
    assert "not a git repository" in audit(tmp_path, "secrets")


@contextmanager
def osv(vulnerable: dict[str, str]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A service of the OSV API that reports some packages as vulnerable.

    Args:
        vulnerable: the number of a vulnerability by ``name==version``.

    Yields:
        The variables that let pip-audit ask this service, and the packages that it was asked about.
    """
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(f"{query['package']['name']}=={query['version']}")
            number = vulnerable.get(asked[-1])
            found = {"vulns": [{"id": number, "summary": "a planted one", "affected": []}]} if number else {}
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/query"
        yield {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url}, asked
        server.shutdown()


LOCK = """\
numpy==2.4.6 \\
    --hash=sha256:0000
scipy==1.17.1 ; python_full_version < '3.12' \\
    --hash=sha256:1111
scipy==1.18.0 ; python_full_version >= '3.12' \\
    --hash=sha256:2222
pywin32==312 ; sys_platform == 'win32' \\
    --hash=sha256:3333
"""


@pytest.mark.parametrize("planted", ["scipy==1.18.0", "pywin32==312"])
def test_known_vulnerability_in_a_lock_is_refused_on_every_platform(folder: Path, planted: str) -> None:
    (folder / "requirements.lock").write_text(LOCK)
    with osv({VULNERABLE: "CVE-2019-10906", planted: "PYSEC-2026-1"}) as (variables, asked):
        found = audit(folder, "vulnerabilities", environment=variables)
    assert "PYSEC-2026-1" in found
    assert set(asked) == {VULNERABLE, *re.findall(r"^\w+==[\d.]+", LOCK, re.MULTILINE)}


def test_lock_without_known_vulnerability_passes(folder: Path) -> None:
    (folder / "requirements.lock").write_text(LOCK)
    with osv({VULNERABLE: "CVE-2019-10906"}) as (variables, _):
        audit(folder, "vulnerabilities", "--require-all", expect=FOUND_NOTHING, environment=variables)


def test_service_that_knows_nothing_is_not_taken_for_no_vulnerability(folder: Path) -> None:
    (folder / "requirements.lock").write_text(LOCK)
    with osv({}) as (variables, _):
        said = audit(folder, "vulnerabilities", expect=NOT_CHECKED, environment=variables)
    assert f"the service does not report {VULNERABLE}, which is vulnerable" in said


@pytest.mark.parametrize("options", [(), ("--require-all",)], ids=["default", "required"])
def test_service_that_does_not_answer_is_reported(folder: Path, options: tuple[str, ...]) -> None:
    (folder / "requirements.lock").write_text(LOCK)
    nobody = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": "http://127.0.0.1:9/v1/query"}
    audit(folder, "vulnerabilities", *options, expect=NOT_CHECKED, environment=nobody)


def test_every_exception_in_the_code_names_its_reason() -> None:
    exceptions = [
        line
        for folder in ("src", "pipelines", "benchmarks", "docker", "tools")
        for script in (REPOSITORY / folder).rglob("*.py")
        for line in script.read_text().splitlines()
        if "# nosec" in line
    ]
    assert exceptions
    for line in exceptions:
        assert re.search(r"# nosec B\d{3} # \w+", line), line
