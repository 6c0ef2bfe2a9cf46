"""Facts about this machine: processor, packages and user."""

import getpass
import os
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement


def machine() -> dict[str, str]:
    """Describe this machine, so that a reader can compare it with another.

    Returns:
        The keys ``host``, ``processor``, ``instruction_set``, ``cores``, ``system`` and ``python``.
    """
    return {
        "host": socket.gethostname(),
        "processor": _processor(),
        "instruction_set": _instruction_set(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def pinned(requirements: str) -> dict[str, str]:
    """Read the versions that a lock pins for this platform and Python.

    Args:
        requirements: The text of a requirements file, as ``requirements.lock``.

    Returns:
        The version of each package.
    """
    lines = re.findall(r"^[A-Za-z0-9].*?(?=\s*\\?$)", requirements, re.MULTILINE)
    return {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def other_packages(requirements: str) -> dict[str, tuple[str, str]]:
    """Find installed packages whose version differs from the version that a lock pins.

    Args:
        requirements: The text of a requirements file, as ``requirements.lock``.

    Returns:
        For each such package, the pinned version and the installed version.
    """
    differences = {}
    for name, pinned_version in pinned(requirements).items():
        try:
            installed_version = version(name)
        except PackageNotFoundError:  # it belongs to an extra that is not installed
            continue
        if installed_version != pinned_version:
            differences[name] = (pinned_version, installed_version)
    return differences


def user(tracking_username: str | None) -> str:
    """Return ``USER@HOST`` of the person who runs this process.

    Args:
        tracking_username: The user name at the tracking server (``Settings.mlflow_tracking_username``). If it
            is None, the login name on this machine is used.
    """
    return f"{tracking_username or _login()}@{socket.gethostname()}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the numeric user of a container has no name
        return str(os.getuid())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _instruction_set() -> str:
    """Return the instruction set extensions that NumPy detects, such as ``X86_V3 X86_V4``."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return " ".join([*simd.get("baseline", []), *simd.get("found", [])])
