"""Requests generated from the server's own OpenAPI schema: none is a fault of the server's, every error is OpenAI's."""

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings

schemathesis = pytest.importorskip("schemathesis")

# Requests to each of the six operations; COAT_FUZZ=900 makes more than 5,000 in all.
EXAMPLES = int(os.environ.get("COAT_FUZZ", "60"))
OPERATIONS = [
    ("/health", "GET"), ("/metrics", "GET"), ("/v1/models", "GET"), ("/v1/models/{name}", "GET"),
    ("/v1/chat/completions", "POST"), ("/v1/audio/transcriptions", "POST"),
]  # fmt: skip


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(server[0] + "/openapi.json")


def test_every_operation_is_tried(schema):
    found = {(each.ok().path, each.ok().method.upper()) for each in schema.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("valid", [True, False])
def test_no_request_is_the_servers_fault(schema, path, method, valid):
    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE
    statuses = []

    @seed(0)
    @settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(schema[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        response = case.call(timeout=60)
        statuses.append(response.status_code)
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        if response.status_code >= 400:
            error = response.json()["error"]
            assert error["message"]
            assert error.keys() == {"message", "type", "param", "code"}

    try:
        ask()
    except Exception as error:
        if "Unsatisfiable" not in type(error).__name__:  # an operation without parameters has no wrong ones
            raise
        return
    assert statuses
