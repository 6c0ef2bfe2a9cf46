"""The least that a service can be: FastAPI, Pillow and ONNX Runtime, without checks, log and metrics."""

import argparse
import io
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image

from lenet5.core.paths import Paths
from lenet5.model import onnx_session


def create() -> FastAPI:
    """Return the application, for the model that `dvc repro` left."""
    session = onnx_session.load(Paths(Path.cwd()).onnx.read_bytes())
    app = FastAPI()

    @app.get("/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, object]:
        image = np.asarray(Image.open(io.BytesIO(await request.body())))
        probabilities = onnx_session.probabilities(session, image[None])[0]
        return {"class": str(probabilities.argmax()), "probabilities": probabilities.tolist()}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    uvicorn.run(
        "benchmarks.contestants.bare_service:create",
        factory=True,
        port=arguments.port,
        workers=arguments.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )


if __name__ == "__main__":
    main()
