"""Web pages that call the server: only from origins that were allowed."""

import httpx
import pytest

from coat.serving.guard import GuardSettings
from coat.serving.transcription import language_name
from tests.serving.conftest import running

PAGE = "https://example.org"
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def test_a_page_of_an_allowed_origin_may_ask_with_a_key(coat_model):
    guard = GuardSettings(api_key="secret")
    with running(coat_model.model, guard=guard, allowed_origins=(PAGE,)) as (url, _):
        first = httpx.options(url + "/v1/chat/completions", headers=ASKS)  # browsers send no key with it
        assert first.status_code == 200
        assert first.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in first.headers["access-control-allow-headers"].lower()
        body = {"model": "miniature", "messages": [{"role": "user", "content": "Count."}], "max_tokens": 2}
        answer = httpx.post(
            url + "/v1/chat/completions", json=body, headers={"Origin": PAGE, "Authorization": "Bearer secret"}
        )
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        other = httpx.options(url + "/v1/chat/completions", headers={**ASKS, "Origin": "https://elsewhere.org"})
        assert "access-control-allow-origin" not in other.headers


def test_no_page_may_ask_unless_it_was_allowed(client, server):
    answer = httpx.get(server[0] + "/v1/models", headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("given", "name"), [("fr", "French"), ("german", "German"), ("EN", "English")])
def test_languages_are_named(given, name):
    assert language_name(given) == name
