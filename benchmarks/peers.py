"""The peers' own environment: nothing of theirs is ever installed into the product's."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from filelock import FileLock

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import console

REQUIREMENTS = Path(__file__).with_name("peers.txt")


def python(paths: Paths) -> Path:
    """The interpreter of an environment that holds ``peers.txt``; it is made when there is none.

    pip installs, not uv: where a machine brings PyTorch built for the processor alone, pip is told of it, and
    nothing fetches gigabytes of CUDA.

    Raises:
        Unavailable: pip could not install them.
    """
    folder = LocalState(paths.root).folder / "bench" / "peers"
    interpreter = folder / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    complete = folder / "installed"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if complete.exists() and complete.read_text() == wanted:
            return interpreter
        console.print(f"installing the peers of {REQUIREMENTS.name} into {folder}: about a minute")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        # compiled beforehand, as the product's is: else the first import of each would pay for it
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
