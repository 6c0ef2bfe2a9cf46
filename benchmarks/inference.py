"""How fast the ONNX file answers: ``python -m benchmarks.inference``, after ``lenet5 run``."""

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lenet5 import dataset, onnx_model
from lenet5.paths import Paths
from lenet5.terminal import console

ROUNDS = 5
"""The fastest counts: what else runs on the machine only ever slows it down."""


def main() -> None:
    """Time a session's start, one image, a stream of batches, and the command as a whole process."""
    paths = Paths.find()
    content = paths.onnx.read_bytes()
    images = np.asarray(dataset.load(paths.raw).splits["test"].images)
    session = onnx_model.load(content)
    one = {onnx_model.PIXELS: images[:1]}
    console.print(f"load the model      {_seconds(lambda: onnx_model.load(content)) * 1e3:10.1f} ms")
    console.print(f"one image           {_seconds(lambda: session.run(None, one), 1000) * 1e3:10.3f} ms")
    stream = _seconds(lambda: onnx_model.probabilities(session, images))
    console.print(f"batches of {onnx_model.BATCH:<8} {len(images) / stream:10,.0f} images/s")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "digit.png"
        Image.fromarray(images[0]).save(picture)
        command = ("lenet5", "predict", str(picture))
        whole = _seconds(lambda: subprocess.run(command, cwd=paths.root, capture_output=True, check=True))
    console.print(f"lenet5 predict      {whole:10.2f} s")


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    """Of one call; the first round, which warms caches, does not count."""
    rounds = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - started) / times)
    return min(rounds[1:])


if __name__ == "__main__":
    main()
