"""What the OpenAPI document of the service allows, and what it does not, sent to a real service."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.conftest import Project
from tests.serving.test_service import Running, serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(finished.copy(tmp_path_factory.mktemp("openapi"))) as running:
        yield running


@pytest.fixture
def document(service: Running) -> object:
    return schemathesis.openapi.from_url(f"{service.address}/openapi.json")


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_finds_a_defect(case: schemathesis.Case[Any]) -> None:
    response = case.call(timeout=30)
    case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])
    if response.status_code >= 400:
        assert response.json(), "a refusal says why"
