"""The HTTP application in this process: what a client sees when the service itself has a defect."""

import asyncio
import io
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.types import ASGIApp, Receive

from lenet5.core.dataset import DIGITS
from lenet5.serving import http_app, image_normalization
from lenet5.serving.access import Limits
from lenet5.serving.predictor import Model
from lenet5.serving.service import Service, ServiceOptions

PATHS = ("/predict", "/invocations")


def options(folder: Path) -> ServiceOptions:
    return ServiceOptions(
        root=folder,
        model_name="digits",
        reference="@champion",
        limits=Limits(hosts=frozenset()),
        poll_seconds=60,
        metrics_folder=None,
        log_pixels=False,
        log_days=1,
        log_megabytes=1,
    )


def test_a_defect_is_answered_without_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Service) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(Service, "model", broken)
    application = http_app.create(options(tmp_path))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)  # starts no lifespan
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            json = {"Content-Type": "application/json"}
            posted = [await client.post(path, content=b"{}", headers=json) for path in PATHS]
            return [*posted, await client.get("/metrics")]

    predict, invocations, metrics = asyncio.run(ask())
    assert predict.status_code == invocations.status_code == 500
    assert "secret" not in predict.text + invocations.text
    assert predict.json()["error"]["code"] == "defect"
    assert invocations.json()["error_code"] == "INTERNAL_ERROR"
    assert 'lenet5_requests_total{code="500",route="/predict",version=""} 1.0' in metrics.text


def test_every_refusal_has_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "model", lambda _: None)  # a request that has no answer needs no version
    application = http_app.create(options(tmp_path))
    deep = b'{"request_id":' + b"[" * 1000 + b"]" * 1000 + b"}"

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [
                await client.get("/nothing"),
                await client.put("/predict"),
                await client.post("/feedback", content=deep),
                await client.post("/predict", content=b"x", headers={"Content-Encoding": "gzip"}),
            ]

    answers = asyncio.run(ask())
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (404, "no_route"),
        (405, "wrong_method"),
        (404, "unknown_request"),
        (415, "encoded_body"),
    ]
    assert answers[1].headers["Allow"] == "POST"


def test_small_file_with_many_pixels_is_decoded_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(1, DIGITS, (28, 28), lambda _: pytest.fail("a white picture shows no digit"))
    monkeypatch.setattr(Service, "model", lambda _: SimpleNamespace(model=model))
    convert, decoding = image_normalization.convert, []

    def observed(picture: Image.Image, *arguments: Any) -> Any:
        decoding.append((picture.width, threading.current_thread() is threading.main_thread()))
        return convert(picture, *arguments)

    monkeypatch.setattr(image_normalization, "convert", observed)
    application = http_app.create(options(tmp_path))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            png = {"Content-Type": "image/png"}
            return [await client.post("/predict", content=white(side), headers=png) for side in (28, 3000)]

    answers = asyncio.run(ask())
    assert [answer.json()["error"]["code"] for answer in answers] == ["invalid_picture"] * 2
    assert decoding == [(28, True), (3000, False)]
    assert len(white(3000)) < 32_768


def white(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), 255).save(file, "PNG")
    return file.getvalue()


def predict(application: ASGIApp, receive: Receive) -> list[Any]:
    """Ask for the class of a picture whose body comes from ``receive``; return the messages of the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png"), (b"content-length", b"9")],
    }

    async def ask() -> None:
        await application(scope, receive, send)

    asyncio.run(ask())
    return sent


def test_body_that_does_not_arrive_in_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "model", lambda _: None)
    limits = Limits(hosts=frozenset(), body_seconds=0.2)
    application = http_app.create(replace(options(tmp_path), limits=limits))

    async def receive() -> Any:
        await asyncio.sleep(60)

    sent = predict(application, receive)
    assert sent[0]["status"] == 408
    assert b"slow_body" in sent[1]["body"]


def test_client_that_leaves_in_the_body_is_no_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "model", lambda _: None)
    application = http_app.create(options(tmp_path))
    arriving = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return arriving.pop(0)

    sent = predict(application, receive)
    assert sent[0]["status"] == 400
