"""TensorBoard without TensorFlow: it starts with a sixth of the processor time.

    python -m lenet5.system.tensorboard --logdir FOLDER --port 6006

TensorBoard imports TensorFlow when it is installed, and reads local files without it as well. Its package
looks for a module ``notf``, which its build without TensorFlow contains.
"""

import runpy
import sys
from types import ModuleType

from lenet5.system import logs


def main() -> None:
    """Run TensorBoard with the arguments of this process."""
    logs.configure()
    sys.modules["tensorboard.compat.notf"] = ModuleType("tensorboard.compat.notf")
    runpy.run_module("tensorboard.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
