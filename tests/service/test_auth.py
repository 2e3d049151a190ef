"""API keys: who may do what, how often, and how soon a revoked key stops working."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from jobs.api_keys import KeyLimits, Scope
from jobs.settings import ServiceSettings
from service.auth import KnownKeys
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import make_job


def test_request_without_a_valid_key_is_unauthorized(api_with_keys: Api) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer dv_wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic ZHY6ZHY="},
        {"Authorization": "Bearer \xff\xfe".encode("latin-1").decode("latin-1")},
    ):
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        response = api_with_keys.http.get("/v1/jobs", headers=sent)
        assert response.status_code == 401, headers
        assert response.json()["code"] == "unauthorized"
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.headers["x-request-id"] == response.json()["request_id"]


@pytest.mark.parametrize(
    "header",
    [
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"),
        *("CF-Connecting-IP", "True-Client-IP", "X-Envoy-External-Address"),
    ],
)
def test_without_keys_nobody_comes_through_a_proxy(api: Api, header: str) -> None:
    """The proxy names this machine as the host, as many do."""
    assert api.http.get("/v1/jobs").status_code == 200
    answer = api.http.get("/v1/jobs", headers={header: "for=203.0.113.7"})
    assert answer.status_code == 403
    problem = answer.json()
    assert problem["code"] == "forbidden"
    assert header.lower() in problem["detail"]
    assert "dovetail keys create" in problem["detail"]
    body = {"source": {"type": "upload", "upload_id": "upl_none"}}
    assert api.http.post("/v1/jobs", json=body, headers={header: "x"}).status_code == 403
    assert api.http.get("/metrics", headers={header: "x"}).status_code == 403


def test_with_keys_proxies_are_welcome(api_with_keys: Api) -> None:
    _, headers = api_with_keys.make_key()
    forwarded = {**headers, "X-Forwarded-For": "203.0.113.7", "Via": "1.1 proxy"}
    assert api_with_keys.http.get("/v1/jobs", headers=forwarded).status_code == 200


def test_first_key_counts_at_once_and_revoking_it_opens_nothing(api: Api) -> None:
    assert api.http.get("/v1/jobs").status_code == 200
    assert api.http.get("/v1/me").json()["auth_required"] is False
    key, headers = api.make_key()
    assert api.http.get("/v1/jobs").status_code == 401
    assert api.http.get("/v1/me", headers=headers).json()["auth_required"] is True
    api.context.keys.revoke(key.id)
    assert api.http.get("/v1/jobs").status_code == 401


def test_scopes_decide_what_a_key_may_do(api_with_keys: Api) -> None:
    http = api_with_keys.http
    _, reader = api_with_keys.make_key(Scope.READ)
    _, writer = api_with_keys.make_key(Scope.WRITE)
    _, admin = api_with_keys.make_key(Scope.ADMIN)
    body = {"source": {"type": "upload", "upload_id": "upl_none"}}
    assert http.get("/v1/jobs", headers=reader).status_code == 200
    assert http.post("/v1/jobs", json=body, headers=reader).status_code == 403
    assert http.get("/v1/jobs", headers=writer).status_code == 403
    assert http.post("/v1/jobs", json=body, headers=writer).status_code == 404
    assert http.get("/v1/jobs", headers=admin).status_code == 200
    assert http.get("/metrics", headers=admin).status_code == 200
    assert http.get("/metrics", headers=reader).json()["code"] == "forbidden"


def test_jobs_of_another_key_do_not_exist(api_with_keys: Api) -> None:
    http = api_with_keys.http
    owner, own = api_with_keys.make_key()
    _, stranger = api_with_keys.make_key()
    job = make_job(api_with_keys.context, owner=owner.id)
    path = f"/v1/jobs/{job.id}"
    assert http.get(path, headers=own).status_code == 200
    assert http.get("/v1/jobs", headers=stranger).json()["data"] == []
    for method, url in [
        ("GET", path),
        ("GET", f"{path}/events"),
        ("POST", f"{path}/cancel"),
        ("POST", f"{path}/retry"),
        ("DELETE", path),
    ]:
        response = http.request(method, url, headers=stranger)
        assert response.status_code == 404, url
        assert response.json()["code"] == "not_found"
    etag = http.get(path, headers=own).headers["etag"]
    assert http.get(path, headers={**stranger, "If-None-Match": etag}).status_code == 404
    assert http.get(path, headers=own).json()["status"] == "queued"


def test_key_that_asks_too_often_is_told_when_to_come_again(api_with_keys: Api) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(requests_per_minute=3))
    _, other = api_with_keys.make_key()
    answers = [api_with_keys.http.get("/v1/jobs", headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    response = api_with_keys.http.get("/v1/jobs", headers=headers)
    assert response.json()["code"] == "rate_limited"
    # Three at the very beginning of a minute: two thirds of them must be over.
    assert 1 <= int(response.headers["retry-after"]) <= 80
    assert response.headers["ratelimit-reset"] == response.headers["retry-after"]
    assert (response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]) == ("3", "0")
    assert api_with_keys.http.get("/v1/jobs", headers=other).status_code == 200


def test_every_answer_to_a_key_says_what_it_may_still_ask_for(api_with_keys: Api) -> None:
    job = make_job(api_with_keys.context)
    _, headers = api_with_keys.make_key(limits=KeyLimits(requests_per_minute=600))
    _, reader = api_with_keys.make_key(Scope.READ, limits=KeyLimits(requests_per_minute=600))
    for asked, path in ((headers, "/v1/jobs"), (headers, f"/v1/jobs/{job.id}"), (reader, "/v1/keys")):
        found = api_with_keys.http.get(path, headers=asked).headers
        assert 590 < int(found["ratelimit-remaining"]) < int(found["ratelimit-limit"]) == 600, path
        # Ten were taken at once, and count as spread over this minute: one is gone a tenth into the next.
        assert 0 <= int(found["ratelimit-reset"]) <= 66
    for path, sent in (("/healthz", {}), ("/v1/jobs", {"Authorization": "Bearer dv_none"})):
        assert "ratelimit-limit" not in api_with_keys.http.get(path, headers=sent).headers


def test_processes_count_requests_together(settings: ServiceSettings) -> None:
    with running_api(settings, uses_keys=True) as one, running_api(settings, uses_keys=True) as two:
        _, headers = one.make_key(limits=KeyLimits(requests_per_minute=2))
        statuses = [api.http.get("/v1/jobs", headers=headers).status_code for api in (one, two, one)]
    assert statuses == [200, 200, 429]


def test_revoked_key_stops_working_within_seconds(api_with_keys: Api) -> None:
    key, headers = api_with_keys.make_key()
    assert api_with_keys.http.get("/v1/me", headers=headers).status_code == 200
    api_with_keys.context.keys.revoke(key.id)
    began = time.monotonic()
    wait_until(lambda: api_with_keys.http.get("/v1/me", headers=headers).status_code == 401, seconds=5)
    assert time.monotonic() - began < 5


def test_polling_looks_a_key_up_once_and_guesses_are_not_kept(api_with_keys: Api) -> None:
    store = api_with_keys.context.keys
    _, headers = api_with_keys.make_key()
    secret = headers["Authorization"].split()[1]
    looked_up: list[str] = []

    class Counting:
        def find(self, asked: str) -> object:
            looked_up.append(asked)
            return store.find(asked)

    async def poll() -> None:
        known = KnownKeys(Counting())  # type: ignore[arg-type]
        for _ in range(5):
            assert await known.find(secret) is not None
            assert await known.find("dv_guess") is None

    asyncio.run(poll())
    assert looked_up.count(secret) == 1
    assert looked_up.count("dv_guess") == 5


def test_browser_signs_in_with_a_cookie_that_only_reads(api_with_keys: Api) -> None:
    _, headers = api_with_keys.make_key()
    secret = headers["Authorization"].split()[1]
    with httpx.Client(base_url=api_with_keys.url, trust_env=False, verify=False) as browser:
        assert browser.post("/v1/session", json={"key": "dv_wrong"}).status_code == 401
        response = browser.post("/v1/session", json={"key": secret})
        assert response.status_code == 204
        cookie = response.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "secure" not in cookie.lower()  # this is http
        assert browser.get("/v1/me").status_code == 200
        assert browser.head("/v1/jobs/job_01k9zq3v5n8w2c7m4t6y1x0abc/content").status_code == 404
        body = {"source": {"type": "upload", "upload_id": "upl_none"}}
        assert browser.post("/v1/jobs", json=body).status_code == 401
        assert browser.delete("/v1/session").status_code == 204
        assert browser.get("/v1/me").status_code == 401


def test_cookie_is_secure_where_customers_come_by_https(settings: ServiceSettings) -> None:
    behind_proxy = settings.model_copy(update={"public_url": "https://video.example.com"})
    with running_api(behind_proxy, uses_keys=True) as api:
        _, headers = api.make_key()
        response = api.http.post("/v1/session", json={"key": headers["Authorization"].split()[1]})
    assert "; Secure" in response.headers["set-cookie"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"key": 5}', b'{"key": ""}', b'{"key": "x", "y": 1}'])
def test_malformed_sign_in_is_refused(api_with_keys: Api, body: bytes) -> None:
    response = api_with_keys.http.post(
        "/v1/session", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("malformed_request", "invalid_request")
