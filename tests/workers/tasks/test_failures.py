"""What becomes of a task that failed."""

from __future__ import annotations

import errno

import pytest
import redis

from jobs.errors import ObjectNotFoundError, StorageError, StorageFullError, StoreUnavailableError
from media import EncodeError, InputLimitError, NoVideoError, SandboxError, UnreadableInputError
from pipelines.errors import InvalidOptionError, OutOfMemoryError
from workers.errors import InvalidRequestError
from workers.model_shelf import ModelUnavailableError
from workers.segments.description import JobMismatchError
from workers.segments.planning import PlanMismatchError
from workers.tasks.failures import Verdict, crash_error, judge, without_paths


def verdict(error: Exception, number: int = 1) -> Verdict:
    return judge(error, task="segment:7", number=number, max_attempts=4)


def full_disk() -> Exception:
    error = EncodeError("cannot write the segment")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    "error",
    [
        UnreadableInputError("damaged"),
        NoVideoError("no video"),
        InputLimitError("too large"),
        InvalidOptionError("no such thing"),
        InvalidRequestError("contradiction"),
    ],
)
def test_what_another_try_cannot_help_fails_at_once(error: Exception) -> None:
    assert verdict(error).action == "fail"


@pytest.mark.parametrize(
    "error",
    [SandboxError("crashed"), OutOfMemoryError("full"), EncodeError("failed"), PlanMismatchError("changed")],
)
def test_what_may_be_better_elsewhere_is_tried_twice(error: Exception) -> None:
    assert [verdict(error, number).action for number in (1, 2)] == ["retry", "fail"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("bug"),
        ModelUnavailableError("not here"),
        JobMismatchError(["version"]),
        ObjectNotFoundError("gone"),
    ],
)
def test_what_nobody_expects_is_tried_as_often_as_allowed(error: Exception) -> None:
    assert [verdict(error, number).action for number in (1, 2, 3, 4)] == ["retry"] * 3 + ["fail"]


def test_tries_come_ever_slower() -> None:
    delays = [verdict(RuntimeError(), number).delay.total_seconds() for number in (1, 2, 3)]
    assert delays == [1, 2, 4]


@pytest.mark.parametrize(
    "error",
    [
        StorageFullError("full"),
        OSError(errno.EDQUOT, "quota"),
        full_disk(),
        EncodeError("cannot write output.mp4: No space left on device"),
    ],
)
def test_a_full_disk_is_waited_for_however_often(error: Exception) -> None:
    assert [verdict(error, number).action for number in (1, 4, 400)] == ["wait"] * 3


@pytest.mark.parametrize(
    "error", [StorageError("away"), StoreUnavailableError("away"), redis.ConnectionError("away")]
)
def test_an_outage_is_left_to_the_queue(error: Exception) -> None:
    assert verdict(error, 4).action == "rise"


def test_customers_read_no_words_of_code_and_no_paths() -> None:
    error = verdict(KeyError("/srv/secret/key"), 4).error
    assert error.code == "internal_error"
    assert error.message == "an unexpected error (KeyError) while making segment 7; it was tried 4 times"
    error = verdict(UnreadableInputError("/srv/data/jobs/job_1/input is damaged: no frames")).error
    assert (error.code, error.message) == ("unreadable_input", "the file is damaged: no frames")


def test_numbers_and_addresses_are_no_paths() -> None:
    text = "30000/1001 fps, 4/3, see https://example.com/a/b, and/or yuv420p"
    assert without_paths(text) == text


def test_a_crash_is_named() -> None:
    assert crash_error("join", 4).message == "the worker died 4 times while joining the segments"
