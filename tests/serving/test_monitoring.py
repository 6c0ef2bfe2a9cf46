"""The alert rules and the board in docs/monitoring ask for metrics and labels that `GET /metrics` has."""

import asyncio
import json
import re
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lenet5.serving import http_app
from lenet5.serving.log_queue import VersionAnswers
from lenet5.serving.service import Service, ServiceOptions
from tests.conftest import REPOSITORY
from tests.serving.test_http_app import options

FOLDER = REPOSITORY / "docs" / "monitoring"
METRIC = re.compile(r"\b(lenet5_[a-z_]+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'([a-z]+)(=~|=)"([^"]*)"')
BY = re.compile(r"\bby \(([a-z, ]+)\)")


def rules() -> list[dict[str, str]]:
    [group] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in json.loads((FOLDER / "board.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The labels of each metric of a service that has refused a request and counted an answer."""
    services: list[Service] = []

    class Kept(Service):
        def __init__(self, wanted: ServiceOptions) -> None:
            super().__init__(wanted)
            services.append(self)

    async def ask() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_app, "Service", Kept)
            application = http_app.create(options(tmp_path_factory.mktemp("monitoring")))
        [service] = services
        service.metrics.count(
            VersionAnswers(
                1, "ab", ("0", "1"), np.array([0, 1]), np.array([0.9, 0.8], np.float32), np.eye(2, dtype="f4")
            )
        )
        service.metrics.forget_drift()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(application), base_url="http://127.0.0.1"
        ) as client:
            assert (await client.post("/predict", content=b"")).status_code == 503
            return (await client.get("/metrics")).text

    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(asyncio.run(ask())):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_every_expression_has_a_series(series: dict[str, list[dict[str, str]]]) -> None:
    asked = set()
    for expression in expressions():
        for name, condition in METRIC.findall(expression):
            asked.add(name)
            assert name in series, f"/metrics has no {name}: {expression}"
            for label, operator, value in LABEL.findall(condition):
                values = [labels[label] for labels in series[name] if label in labels]
                pattern = value if operator == "=~" else re.escape(value)
                assert any(re.fullmatch(pattern, each) for each in values), expression
            for group in BY.findall(expression):
                assert set(group.split(", ")) <= set().union(*series[name]), expression
    assert len(asked) > 10


def test_rules_are_complete() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) == 6
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
