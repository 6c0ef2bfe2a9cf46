"""The peers' own environment: none of their packages is installed into the product's."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import console

REQUIREMENTS = Path(__file__).with_name("peers.txt")


def python(paths: Paths) -> Path:
    """The interpreter of an environment with the packages of ``peers.txt``; it is made when there is none.

    pip installs, not uv: pip follows a machine's own configuration, which may offer a CPU build of PyTorch
    in place of gigabytes of CUDA.

    Raises:
        Unavailable: pip could not install them.
    """
    folder = LocalState(paths.root).folder / "bench" / "peers"
    interpreter = folder / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    complete = folder / "installed"
    if complete.exists() and complete.read_text() == wanted:
        return interpreter
    console.print(f"installing the peers of {REQUIREMENTS.name} into {folder}: about a minute")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    # bytecode is compiled now, as the product's is, and not by the first import of a measured process
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--compile", "-r", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(
            "The peers cannot be installed.",
            expected=f"pip install -r {REQUIREMENTS}",
            found=done.stderr.strip()[-1000:],
            fix="reach a package index, or leave out the parts that compare with peers",
        )
    complete.write_text(wanted)
    return interpreter
