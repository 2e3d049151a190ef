"""The API does what its description says, for whatever schemathesis thinks of."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from benchmarks.installation import Installation

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="session")
def api_schema(installation: Installation) -> schemathesis.BaseSchema:
    """The description that the server gives of itself, without the streams that end when a job does."""
    schema = schemathesis.openapi.from_url(f"{installation.url}/openapi.json")
    return schema.exclude(path_regex=r"/(events|stream)$")


schema = schemathesis.pytest.from_fixture("api_schema")


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_its_promises(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS, timeout=30)
