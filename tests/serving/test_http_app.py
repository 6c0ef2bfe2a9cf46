"""The HTTP application in this process: what a client sees when the service itself has a defect."""

import asyncio
from pathlib import Path

import httpx
import pytest

from lenet5.serving import http_app
from lenet5.serving.access import Limits
from lenet5.serving.service import Service, ServiceOptions

PATHS = ("/predict", "/invocations")


def test_a_defect_is_answered_without_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Service) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(Service, "model", broken)
    application = http_app.create(
        ServiceOptions(
            root=tmp_path,
            model_name="digits",
            reference="@champion",
            limits=Limits(hosts=frozenset()),
            poll_seconds=60,
            metrics_folder=None,
            log_pixels=False,
            log_days=1,
            log_megabytes=1,
        )
    )

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
