"""`dovetail keys`: limits of a key, and keys of secrets that come from outside."""

from __future__ import annotations

import json
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import app
from jobs.api_keys import ApiKeyStore, KeyLimits, Scope
from jobs.specs import Priority
from tests.cli.conftest import Dovetail
from tests.redis_server import RedisServer, redis_server, session_redis

__all__ = ["redis_server", "session_redis"]
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def keys(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> ApiKeyStore:
    monkeypatch.setenv("DOVETAIL_REDIS_URL", redis_server.url)
    return ApiKeyStore(redis.Redis.from_url(redis_server.url))


def ensure(path: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["keys", "ensure", "tests", "--secret-file", str(path), *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_secret_is_made_written_and_shown_once(keys: ApiKeyStore, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    code, shown, _ = ensure(path)
    assert code == 0
    secret = path.read_text().strip()
    assert shown.strip() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = keys.find(secret)
    assert key is not None
    assert (key.name, key.scopes) == ("tests", (Scope.READ, Scope.WRITE))

    code, shown, said = ensure(path)
    assert (code, shown) == (0, "")
    assert key.id in said
    assert [found.id for found in keys.list()] == [key.id]


def test_a_given_secret_becomes_the_key_and_comes_back_after_revoking(
    keys: ApiKeyStore, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    code, shown, _ = ensure(path, "--scope", "metrics:read")
    assert (code, shown) == (0, "")
    key = keys.find(SECRET)
    assert key is not None
    assert key.scopes == (Scope.METRICS,)
    keys.revoke(key.id)
    assert keys.find(SECRET) is None
    assert ensure(path)[0] == 0
    assert keys.find(SECRET) is not None


def test_a_key_made_otherwise_stays_as_it_is(keys: ApiKeyStore, tmp_path: Path) -> None:
    key, secret = keys.create("mine", scopes=(Scope.READ,))
    path = tmp_path / "secret"
    path.write_text(secret)
    assert ensure(path)[0] == 0
    assert keys.list() == [key]


@pytest.mark.parametrize(
    "content", ["", "short", "a secret with spaces that is long enough", "é" * 40], ids=str
)
def test_what_is_no_secret_is_refused(keys: ApiKeyStore, tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    code, _, said = ensure(path)
    assert code == ExitCode.USAGE
    assert "at least 32 visible ASCII characters" in " ".join(said.split())
    assert not keys.list()


@pytest.mark.parametrize("name", [".", "missing/secret"])
def test_a_file_that_cannot_be_used_is_named(keys: ApiKeyStore, tmp_path: Path, name: str) -> None:
    code, _, said = ensure(tmp_path / name)
    assert code == ExitCode.USAGE
    assert "secret" in said
    assert not keys.list()


def rotate(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["keys", "rotate", *arguments])
    return result.exit_code, result.stdout.strip(), result.stderr


def test_a_key_gets_another_secret_and_stays_the_key_that_it_was(keys: ApiKeyStore) -> None:
    key, first = keys.create(
        "studio", limits=KeyLimits(weight=3), expires_at=datetime(2100, 1, 1, tzinfo=UTC)
    )
    code, second, said = rotate(key.id)
    assert (code, second != first) == (0, True)
    assert "the old one works for 24 h" in said
    for secret in (first, second):
        assert keys.find(secret) == key.model_copy(update={"hint": second[:7]})
    # At once, as after a leak: of both.
    code, third, _ = rotate(key.id, "--overlap-hours", "0")
    assert code == 0
    assert [keys.find(secret) is not None for secret in (first, second, third)] == [False, False, True]
    keys.revoke(key.id)
    assert keys.find(third) is None


def test_an_old_secret_ends_with_its_own_overlap_and_with_its_key(keys: ApiKeyStore) -> None:
    key, first = keys.create("studio")
    _, second = keys.rotate(key.id, overlap=timedelta(seconds=2))
    keys.rotate(key.id, overlap=timedelta(days=1))
    assert keys.find(first)
    deadline = time.monotonic() + 10
    while keys.find(first):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert keys.find(second)
    keys.revoke(key.id)
    assert keys.find(second) is None


def test_a_secret_that_was_chosen_elsewhere_may_follow(keys: ApiKeyStore, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    key, _ = keys.create("studio")
    path.write_text(f"{SECRET}\n")
    for _ in range(2):  # harmless to repeat
        assert rotate(key.id, "--secret-file", str(path))[:2] == (0, "")
        found = keys.find(SECRET)
        assert found is not None
        assert found.id == key.id
    assert ensure(path)[0] == 0
    assert [found.id for found in keys.list()] == [key.id], "the start of the API makes no other key of it"


@pytest.mark.parametrize("content", ["", "short", SECRET])
def test_a_secret_that_a_key_may_not_have_changes_nothing(
    keys: ApiKeyStore, tmp_path: Path, content: str
) -> None:
    keys.ensure("another", SECRET)
    key, secret = keys.create("studio")
    path = tmp_path / "secret"
    path.write_text(content)
    code, shown, said = rotate(key.id, "--secret-file", str(path))
    assert (code, shown) == (ExitCode.USAGE, "")
    reason = "is that of key_" if content == SECRET else "at least 32 visible ASCII characters"
    assert reason in " ".join(said.split())
    assert keys.find(secret) == key


def test_rotating_what_does_not_exist_is_no_bug(keys: ApiKeyStore) -> None:
    code, _, said = rotate("key_unknown")
    assert code == ExitCode.SERVICE
    assert "there is no key 'key_unknown'" in said


def test_revoking_what_does_not_exist_is_no_bug(keys: ApiKeyStore) -> None:
    result = CliRunner().invoke(app, ["keys", "revoke", "key_none"])
    assert result.exit_code == ExitCode.SERVICE
    assert result.stderr.strip() == "error: there is no key 'key_none'; `dovetail keys list` shows all"


def test_a_store_that_is_away_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_REDIS_URL", "redis://127.0.0.1:1/0")
    code, _, said = ensure(tmp_path / "secret")
    assert code == ExitCode.SERVICE
    assert said.strip() == "error: the store does not answer; try again in a moment"


def test_limits_of_a_key_are_kept_and_listed(keys: ApiKeyStore, dovetail: Dovetail) -> None:
    limits = {
        "max_requests_at_once": 1,
        "max_streams_at_once": 2,
        "max_uploads_at_once": 3,
        "max_stored_bytes": 4,
        "weight": 5,
    }
    options = [item for name, value in limits.items() for item in (f"--{name.replace('_', '-')}", str(value))]
    options += ["--priority", "low", "--priority", "normal", "--s3-prefix", "s3://films/archive/"]
    made = dovetail("keys", "create", "archive", *options, "--json")
    assert made.exit_code == 0, made.output
    found = keys.find(json.loads(made.stdout)["key"])
    assert found is not None
    assert found.limits == KeyLimits(
        **limits, priorities=(Priority.LOW, Priority.NORMAL), s3_prefixes=("s3://films/archive/",)
    )
    listed = dovetail("keys", "list").stdout
    assert "weight=5, priorities=low+normal" in listed


@pytest.mark.parametrize("prefix", ["films/archive/", "s3://films", "s3://films/archive", "https://films/"])
def test_what_is_no_prefix_is_refused(dovetail: Dovetail, keys: ApiKeyStore, prefix: str) -> None:
    made = dovetail("keys", "create", "archive", "--s3-prefix", prefix)
    assert made.exit_code == ExitCode.USAGE
    assert f"s3://bucket/prefix/, received {prefix!r}" in " ".join(made.stderr.split())
    assert keys.list() == []


def test_an_unknown_priority_is_said_with_the_known_ones(keys: ApiKeyStore, dovetail: Dovetail) -> None:
    refused = dovetail("keys", "create", "archive", "--priority", "urgent")
    assert refused.exit_code == 2
    assert "'urgent'" in refused.stderr
    assert "high, normal, low" in refused.stderr
