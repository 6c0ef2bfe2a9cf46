"""The machine at hand, and who is at work on it."""

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
    """The machine at hand, for a person who compares two: nothing here decides a byte by itself."""
    return {
        "host": socket.gethostname(),
        "processor": _processor(),
        "instruction_set": _instruction_set(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def pinned(requirements: str) -> dict[str, str]:
    """The versions that a lock pins for this platform and Python, by package."""
    lines = re.findall(r"^[A-Za-z0-9].*?(?=\s*\\?$)", requirements, re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in wanted
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def other_packages(requirements: str) -> dict[str, tuple[str, str]]:
    """Packages that are installed here in another version than a lock pins: pinned, installed."""
    other = {}
    for name, wanted in pinned(requirements).items():
        try:
            installed = version(name)
        except PackageNotFoundError:  # of another platform, or of an extra that is not wanted here
            continue
        if installed != wanted:
            other[name] = (wanted, installed)
    return other


def user() -> str:
    """Who is at work, and where: the name a tracking server knows, or else the one this machine knows."""
    return f"{os.environ.get('MLFLOW_TRACKING_USERNAME') or _login()}@{socket.gethostname()}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's numeric user has no name
        return str(os.getuid())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _instruction_set() -> str:
    """The processor's extensions that NumPy knows and found, such as ``X86_V3 X86_V4``."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return " ".join([*simd.get("baseline", []), *simd.get("found", [])])
