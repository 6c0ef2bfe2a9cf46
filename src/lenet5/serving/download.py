"""Store the ONNX file of a version in ``.lenet5/models``: ``python -m lenet5.serving.download NAME VERSION``.

It runs as a process of its own, because MLflow's client takes seconds and 200 MB that a server does not need.
It prints one JSON object with the keys ``version`` and ``digest``.
"""

import hashlib
import json
import sys

from lenet5.core.paths import Paths
from lenet5.serving import mlflow_child, predictor


def _answer(paths: Paths, name: str, reference: str) -> None:
    number, content = predictor.required_onnx_file(paths, name, reference)
    print(json.dumps({"version": number, "digest": hashlib.sha256(content).hexdigest()}))


if __name__ == "__main__":
    sys.exit(mlflow_child.main(_answer))
