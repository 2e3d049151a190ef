"""`dovetail keys`: limits from the command line, kept with the key."""

from __future__ import annotations

import json

import pytest

from jobs.api_keys import ApiKeyStore, KeyLimits
from jobs.connections import impatient_client
from jobs.records import Priority
from tests.cli.conftest import Dovetail
from tests.redis_server import RedisServer, redis_server, session_redis

__all__ = ["redis_server", "session_redis"]


@pytest.fixture(autouse=True)
def own_store(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_REDIS_URL", redis_server.url)


def test_limits_of_a_key_are_kept_and_listed(dovetail: Dovetail, redis_server: RedisServer) -> None:
    limits = {
        "max_requests_at_once": 1,
        "max_streams_at_once": 2,
        "max_uploads_at_once": 3,
        "max_stored_bytes": 4,
        "weight": 5,
    }
    options = [item for name, value in limits.items() for item in (f"--{name.replace('_', '-')}", str(value))]
    priorities = ["--priority", "low", "--priority", "normal"]
    made = dovetail("keys", "create", "archive", *options, *priorities, "--json")
    assert made.exit_code == 0, made.output
    with impatient_client(redis_server.url) as client:
        found = ApiKeyStore(client).find(json.loads(made.stdout)["key"])
    assert found is not None
    assert found.limits == KeyLimits(**limits, priorities=(Priority.LOW, Priority.NORMAL))
    listed = dovetail("keys", "list").stdout
    assert "weight=5, priorities=low+normal" in listed


def test_an_unknown_priority_is_said_with_the_known_ones(dovetail: Dovetail) -> None:
    refused = dovetail("keys", "create", "archive", "--priority", "urgent")
    assert refused.exit_code == 2
    assert "'urgent'" in refused.stderr
    assert "high, normal, low" in refused.stderr
