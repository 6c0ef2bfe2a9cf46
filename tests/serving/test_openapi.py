"""What the OpenAPI document of the service allows, and what it does not, sent to a real service."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conftest import Project
from tests.serving.test_service import Running, serving

if TYPE_CHECKING:
    import schemathesis

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(finished.copy(tmp_path_factory.mktemp("openapi"))) as running:
        yield running


def test_no_request_finds_a_defect(service: Running, subtests: pytest.Subtests) -> None:
    # two seconds, which only the process of this test needs to spend
    import schemathesis
    from schemathesis.core.result import Ok

    document = schemathesis.openapi.from_url(f"{service.address}/openapi.json")
    results = list(document.get_all_operations())
    operations = [result.ok() for result in results if isinstance(result, Ok)]
    assert len(operations) == len(results), "the document has a mistake"
    assert {operation.path for operation in operations} >= {"/predict", "/feedback", "/invocations"}
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def no_defect(case: "schemathesis.Case[Any]") -> None:
            response = case.call(timeout=300)
            case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])
            if response.status_code >= 400:
                assert response.json(), "a refusal says why"

        with subtests.test(operation.label):
            no_defect()
