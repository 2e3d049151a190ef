"""Settings that do not work are named, without telling secrets."""

from __future__ import annotations

import pytest

from cli._settings import read_settings
from cli.errors import UsageError
from jobs.settings import ServiceSettings, WorkerSettings


def test_a_wrong_value_is_named_with_what_was_received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_SEGMENT_SECONDS", "-3")
    with pytest.raises(UsageError, match=r"DOVETAIL_SEGMENT_SECONDS: .* received '-3'"):
        read_settings(WorkerSettings, {})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("15m", 900),
        ("36 h", 129_600),
        ("7d", 604_800),
        ("PT1M30S", 90),
    ],
)
def test_durations_are_written_with_and_without_units(
    written: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOVETAIL_RESULT_TTL", written)
    assert read_settings(WorkerSettings, {}).result_ttl.total_seconds() == seconds


@pytest.mark.parametrize("written", ["soon", "", "7w", "-5m", "P7"])
def test_a_duration_that_is_none_is_told_what_one_looks_like(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOVETAIL_RESULT_TTL", written)
    with pytest.raises(UsageError, match=f"DOVETAIL_RESULT_TTL: .* 7d, .*received {written!r}"):
        read_settings(WorkerSettings, {})


def test_contradicting_values_are_told_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_REDIS_URL", "redis://:hunter2@localhost/0")
    monkeypatch.setenv("DOVETAIL_LEASE_TTL", "90")
    with pytest.raises(UsageError, match=r"lease_ttl \(90 s\) must be below") as caught:
        read_settings(ServiceSettings, {})
    assert "hunter2" not in str(caught.value)


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_PORT", "1")
    monkeypatch.setenv("DOVETAIL_HOST", "::1")
    settings = read_settings(ServiceSettings, {"port": 2, "host": None})
    assert (settings.port, settings.host) == (2, "::1")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("dove=/models/a,dove=/models/b", "models has dove more than once"),
        ("=/models/a", "models has =/models/a; write NAME"),
        ("dove=", "models has dove=; write NAME"),
    ],
)
def test_names_of_models_must_be_names(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    monkeypatch.setenv("DOVETAIL_MODELS", value)
    with pytest.raises(UsageError, match=message):
        read_settings(WorkerSettings, {})


@pytest.mark.parametrize("value", ["plan,join", '["plan", "join"]', " plan , join"])
def test_kinds_of_tasks_are_named_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert read_settings(WorkerSettings, {}).only == ("plan", "segment", "join")
    monkeypatch.setenv("DOVETAIL_ONLY", value)
    assert read_settings(WorkerSettings, {}).only == ("plan", "join")
    assert read_settings(WorkerSettings, {"only": "segment"}).only == ("segment",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("segments", "DOVETAIL_ONLY: Input should be 'plan', 'segment' or 'join', received 'segments'"),
        ("plan,fetch", "DOVETAIL_ONLY: Input should be 'plan', 'segment' or 'join', received 'fetch'"),
        (" , ", "no kind of task is named; write some of plan, segment, join, received"),
    ],
)
def test_other_kinds_of_tasks_are_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("DOVETAIL_ONLY", value)
    with pytest.raises(UsageError, match=message):
        read_settings(WorkerSettings, {})
