"""Store the ONNX file of a version in ``.lenet5/models``: ``python -m lenet5.serving.download NAME VERSION``.

It runs as a process of its own, because MLflow's client takes seconds and 200 MB that a server does not need.
It prints one JSON object with the keys ``version`` and ``digest``.
"""

import hashlib
import json
import sys

from lenet5.core.errors import DataError, Lenet5Error
from lenet5.core.paths import Paths
from lenet5.serving import predictor
from lenet5.system import logs, settings
from lenet5.system.terminal import print_error


def main() -> int:
    """Return the exit code."""
    name, reference = sys.argv[1:]
    logs.configure()
    paths = Paths.find()
    try:
        settings.apply(paths)
        number, content = predictor.onnx_file(paths, name, reference)
        if content is None:
            raise DataError(
                f"Version {number} of {name} has no ONNX file.",
                expected="a version of this release",
                fix=f"`lenet5 reproduce {number}` trains it again",
            )
    except Lenet5Error as error:
        print_error(error)
        return error.exit_code
    print(json.dumps({"version": number, "digest": hashlib.sha256(content).hexdigest()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
