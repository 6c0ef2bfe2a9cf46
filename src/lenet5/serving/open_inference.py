"""The Open Inference Protocol, version 2, as KServe and MLServer speak it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from lenet5 import __version__
from lenet5.model.onnx_session import PIXELS, PROBABILITIES
from lenet5.serving import request_images
from lenet5.serving.errors import RequestError, brief
from lenet5.serving.model_watch import ServedModel
from lenet5.serving.service import Service, json_response

_INFER_BODY = request_images.json_body(
    {
        "id": {"type": "string"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"type": "string", "enum": [PIXELS]},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "datatype": {"type": "string", "enum": list(request_images.DATATYPES)},
                    "data": {"type": "array", "items": {}},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "enum": [PROBABILITIES]}},
            },
        },
    },
    required=["inputs"],
)


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the routes below ``/v2`` but the probes of the server."""

    @app.get("/v2", summary="The server")
    async def server() -> Response:
        return json_response({"name": "lenet5", "version": __version__, "extensions": []})

    @app.get("/v2/models/{name}", summary="Inputs and outputs of the model")
    @app.get("/v2/models/{name}/versions/{version}", include_in_schema=False)
    async def metadata(name: str, version: str = "") -> Response:
        served = _named(service, name, version)
        return json_response(
            {
                "name": served.name,
                "versions": [str(served.number)],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": PIXELS, "datatype": "UINT8", "shape": [-1, *served.model.shape]}],
                "outputs": [
                    {
                        "name": PROBABILITIES,
                        "datatype": "FP32",
                        "shape": [-1, len(served.model.description.classes)],
                    }
                ],
            }
        )

    @app.get("/v2/models/{name}/ready", summary="The model is loaded")
    @app.get("/v2/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def ready(name: str, version: str = "") -> Response:
        _named(service, name, version)
        return json_response({"ready": True})

    @app.post("/v2/models/{name}/infer", summary="Score images", openapi_extra=_INFER_BODY)
    @app.post("/v2/models/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, name: str, version: str = "") -> Response:
        served = _named(service, name, version)
        body = request_images.json_object(await request.body())
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
            raise RequestError(
                400, "one_input", "The request needs one input.", expected=f"a tensor `{PIXELS}`"
            )
        tensor = inputs[0]
        shape, datatype, data = tensor.get("shape"), tensor.get("datatype"), tensor.get("data")
        if not isinstance(shape, list) or not isinstance(datatype, str) or not isinstance(data, list):
            raise RequestError(
                400,
                "incomplete_tensor",
                "The tensor is not complete.",
                expected="name, shape, datatype and data; binary tensors are not supported",
                found=request_images.first_keys(tensor),
            )
        if tensor.get("name") != PIXELS:
            raise RequestError(
                400,
                "unknown_input",
                "The model has no such input.",
                expected=PIXELS,
                found=brief(tensor.get("name")),
            )
        _check_outputs(body.get("outputs"))
        images = await run_in_threadpool(request_images.of_tensor, shape, datatype, data, served.model)
        answer = await service.answer(served, images, "/v2")
        content: dict[str, Any] = {
            "model_name": served.name,
            "model_version": str(served.number),
            "id": body["id"] if isinstance(body.get("id"), str) else answer.request_id,
            "outputs": [
                {
                    "name": PROBABILITIES,
                    "datatype": "FP32",
                    "shape": list(answer.probabilities.shape),
                    "data": answer.probabilities.ravel(),
                }
            ],
        }
        return json_response(content, headers=answer.headers)


def _check_outputs(outputs: Any) -> None:
    """Accept a request for the one output, or for no particular one.

    Raises:
        RequestError: it names another output.
    """
    if outputs is None:
        return
    wanted = outputs if isinstance(outputs, list) else [outputs]
    names = [output.get("name") if isinstance(output, dict) else output for output in wanted]
    unknown = [brief(name) for name in names if name != PROBABILITIES]
    if unknown:
        raise RequestError(
            400,
            "unknown_output",
            "The model has no such output.",
            expected=PROBABILITIES,
            found=", ".join(unknown[:5]),
        )


def _named(service: Service, name: str, version: str) -> ServedModel:
    """Return the served version.

    Raises:
        RequestError: the request names another model or version, or no version is loaded.
    """
    if name != service.watch.name:
        raise RequestError(
            404, "unknown_model", "There is no such model.", expected=service.watch.name, found=name
        )
    served = service.model()
    if version not in ("", str(served.number)):
        raise RequestError(
            404, "unknown_version", "This version is not served.", expected=str(served.number), found=version
        )
    return served
