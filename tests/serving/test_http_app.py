"""The HTTP application in this process: what a client sees when the service itself has a defect."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive

from lenet5.serving import http_app
from lenet5.serving.access import Limits
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
