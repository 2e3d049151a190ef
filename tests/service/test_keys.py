"""Keys over HTTP, and what an administrator sees of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.api_keys import Scope
from service import auth
from tests.service.conftest import Api
from tests.service.made import fail, make_job

FUTURE = (datetime.now(UTC) + timedelta(days=1)).isoformat()


@pytest.fixture
def admin(api_with_keys: Api) -> dict[str, str]:
    return api_with_keys.make_key(Scope.ADMIN)[1]


def make(api: Api, admin: dict[str, str], **body: Any) -> Any:
    answer = api.http.post("/v1/keys", json={"name": "archive", **body}, headers=admin)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/keys/{answer.json()['id']}"
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def test_a_key_works_until_it_is_revoked_and_its_secret_is_shown_once(
    api_with_keys: Api, admin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_KEPT_SECONDS", 0.0)
    http = api_with_keys.http
    made = make(api_with_keys, admin, limits={"weight": 3}, expires_at=FUTURE)
    headers = {"Authorization": f"Bearer {made.pop('secret')}"}
    assert http.get("/v1/me", headers=headers).json()["name"] == "archive"
    assert http.get("/v1/keys", headers=headers).status_code == 403
    path = f"/v1/keys/{made['id']}"
    assert http.get(path, headers=admin).json() == made
    assert http.get("/v1/keys", headers=admin).json()["data"][-1] == made
    assert (made["limits"]["weight"], made["scopes"]) == (3, ["jobs:read", "jobs:write"])
    assert http.delete(path, headers=admin).status_code == 204
    assert http.get("/v1/me", headers=headers).status_code == 401
    assert http.get(path, headers=admin).status_code == 404
    assert http.delete(path, headers=admin).status_code == 404


def test_jobs_and_webhooks_of_a_key_stay_when_its_secret_changes(
    api_with_keys: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_KEPT_SECONDS", 0.0)
    key, old = api_with_keys.make_key()
    job = make_job(api_with_keys.context, owner=key.id)
    signing = api_with_keys.http.get("/v1/webhooks/secret", headers=old).json()
    _, secret = api_with_keys.context.keys.rotate(key.id, overlap=timedelta(hours=1))
    new = {"Authorization": f"Bearer {secret}"}
    for headers in (old, new):
        assert api_with_keys.http.get(f"/v1/jobs/{job.id}", headers=headers).status_code == 200
    assert api_with_keys.http.get("/v1/webhooks/secret", headers=new).json() == signing
    api_with_keys.context.keys.rotate(key.id, overlap=timedelta(), secret=secret)
    assert api_with_keys.http.get(f"/v1/jobs/{job.id}", headers=old).status_code == 401
    assert api_with_keys.http.get(f"/v1/jobs/{job.id}", headers=new).status_code == 200


def test_a_change_replaces_what_it_names(api_with_keys: Api, admin: dict[str, str]) -> None:
    made = make(api_with_keys, admin, limits={"weight": 3}, expires_at=FUTURE)
    del made["secret"]
    path = f"/v1/keys/{made['id']}"
    changed = api_with_keys.http.patch(path, json={"limits": {"requests_per_minute": 7}}, headers=admin)
    limits = {**made["limits"], "weight": 1, "requests_per_minute": 7}
    assert changed.json() == {**made, "limits": limits}
    forever = api_with_keys.http.patch(path, json={"expires_at": None, "scopes": ["admin"]}, headers=admin)
    assert (forever.json()["expires_at"], forever.json()["scopes"]) == (None, ["admin"])


def test_a_wrong_key_is_refused_with_what_is_accepted(api_with_keys: Api, admin: dict[str, str]) -> None:
    for body, said in (
        ({"name": ""}, "body.name"),
        ({"scopes": ["jobs:fly"]}, "'jobs:read', 'jobs:write', 'metrics:read' or 'admin'"),
        ({"scopes": []}, "body.scopes"),
        ({"limits": {"weight": 0}}, "body.limits.weight"),
        ({"limits": {"max_stored_bytes": False}}, "body.limits.max_stored_bytes"),
        ({"limits": {"wieght": 2}}, "body.limits.wieght"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "it is over already"),
        ({"expires_at": "2099-01-01T00:00:00"}, "timezone"),
    ):
        answer = api_with_keys.http.post("/v1/keys", json={"name": "archive", **body}, headers=admin)
        assert answer.status_code == 422, body
        assert said in answer.json()["detail"]


def test_the_first_key_is_not_made_by_whoever_is_there(api: Api) -> None:
    """From then on nobody else could go on."""
    answer = api.http.post("/v1/keys", json={"name": "archive"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "dovetail keys create" in answer.json()["detail"]
    assert api.http.get("/v1/jobs").status_code == 200


def test_an_administrator_sees_the_jobs_of_one_and_of_all(api_with_keys: Api, admin: dict[str, str]) -> None:
    http, context = api_with_keys.http, api_with_keys.context
    (one, one_headers), (two, _) = api_with_keys.make_key(), api_with_keys.make_key()
    jobs = [make_job(context, owner=owner) for owner in (one.id, two.id, "local", one.id, two.id, one.id)]
    newest_first = [job.id for job in reversed(jobs)]
    context.keys.revoke(two.id)

    def listed(headers: dict[str, str], **query: str | int) -> list[str]:
        found: list[str] = []
        while True:
            page = http.get("/v1/jobs", params=query, headers=headers).json()
            found += [job["id"] for job in page["data"]]
            if not page["has_more"]:
                return found
            query["after"] = page["next"]

    assert listed(admin) == []
    assert listed(admin, owner="all") == newest_first
    assert listed(admin, owner="all", limit=2) == newest_first
    assert listed(admin, owner="all", limit=1, order="asc") == newest_first[::-1]
    assert listed(admin, owner=two.id) == [jobs[4].id, jobs[1].id]
    fail(context, jobs[1].id)
    assert listed(admin, owner="all", status="failed", limit=1) == [jobs[1].id]
    assert http.get("/v1/jobs", params={"owner": "all"}, headers=admin).json()["data"][0]["owner"] == one.id

    assert listed(one_headers, owner=one.id) == listed(one_headers) == [jobs[5].id, jobs[3].id, jobs[0].id]
    for owner in ("all", two.id, "local"):
        assert http.get("/v1/jobs", params={"owner": owner}, headers=one_headers).status_code == 403
