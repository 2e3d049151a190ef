"""What becomes of a task that failed, decided from its error. Pure."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import redis

from jobs.errors import (
    ObjectNotFoundError,
    QuotaExceededError,
    StorageError,
    StorageFullError,
    StoreUnavailableError,
)
from jobs.messages import retry_delay
from jobs.records import JobError
from media import EncodeError, EncoderUnavailableError, MediaError, SandboxError
from pipelines.errors import BackendUnavailableError, CheckpointError, OutOfMemoryError, PipelineError
from workers.errors import UpscaleError, is_disk_full
from workers.run.report import error_code
from workers.segments.description import JobMismatchError
from workers.segments.planning import PlanMismatchError

Action = Literal["fail", "retry", "wait", "rise"]

# A second worker may have more memory, another driver, or simply not crash.
_TWICE = (
    SandboxError,
    EncodeError,
    EncoderUnavailableError,
    OutOfMemoryError,
    BackendUnavailableError,
    PlanMismatchError,
)
# What another worker may have that this one lacks.
_ELSEWHERE = (CheckpointError, JobMismatchError)

_FIRST_BACKOFF, _MAX_BACKOFF = timedelta(seconds=1), timedelta(seconds=60)
FULL_DELAY = timedelta(seconds=15)
FULL_WARNING = "the server had no room left for a while; the job waited and lost nothing"

# From the sandbox comes a message, not the error below it.
_NO_SPACE = os.strerror(errno.ENOSPC)

_PATH = re.compile(r"(?<![\w./:])/(?:[^\s/'\":;,]+/)+[^\s'\":;,]*")


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Attributes:
        action: "fail" the job; "retry" the task, counting the attempt; "wait" and try again, not counting it;
            let the error "rise" to the queue's own retries, not counting it either.
        error: For the job's record.
        delay: Before the next attempt.
    """

    action: Action
    error: JobError
    delay: timedelta = timedelta()


def judge(error: Exception, *, task: str, number: int, max_attempts: int) -> Verdict:
    """Decides about an attempt that ended with an error.

    Args:
        error: Of the attempt.
        task: "plan", "segment:7" or "join".
        number: Of the attempt, from 1.
        max_attempts: After which the job fails.
    """
    public = public_error(error, task=task, number=number)
    if isinstance(error, StorageFullError) or is_disk_full(error) or _NO_SPACE in str(error):
        return Verdict("wait", JobError(code="storage_full", message=FULL_WARNING), FULL_DELAY)
    if isinstance(error, StoreUnavailableError | redis.RedisError) or (
        isinstance(error, StorageError) and not isinstance(error, ObjectNotFoundError)
    ):
        return Verdict("rise", public)
    limit = max_attempts
    if isinstance(error, _TWICE):
        limit = min(limit, 2)
    elif isinstance(error, MediaError | PipelineError | UpscaleError | QuotaExceededError) and not isinstance(
        error, _ELSEWHERE
    ):
        limit = 1
    if number >= limit:
        return Verdict("fail", public)
    return Verdict("retry", public, retry_delay(number, first=_FIRST_BACKOFF, factor=2, longest=_MAX_BACKOFF))


def public_error(error: Exception, *, task: str, number: int) -> JobError:
    """An error for customers: without paths, and without words of code that nobody chose for them."""
    if isinstance(error, ObjectNotFoundError):
        return JobError(code="file_missing", message=f"a file that {_describe(task)} needs is gone")
    if isinstance(error, QuotaExceededError):
        return JobError(code=error.code, message=str(error))
    code = error_code(error)
    if code == "unexpected":
        times = "once" if number == 1 else f"{number} times"
        message = (
            f"an unexpected error ({type(error).__name__}) while {_describe(task)}; it was tried {times}"
        )
        return JobError(code="internal_error", message=message)
    return JobError(code=code, message=without_paths(str(error)))


def crash_error(task: str, num_attempts: int) -> JobError:
    """For a task whose worker died each time."""
    return JobError(
        code="worker_crashed", message=f"the worker died {num_attempts} times while {_describe(task)}"
    )


def without_paths(text: str) -> str:
    """A message without the places of files on the server."""
    return _PATH.sub("the file", text)


def _describe(task: str) -> str:
    name, _, index = task.partition(":")
    return {
        "plan": "planning the job",
        "segment": f"making segment {index}",
        "join": "joining the segments",
    }[name]
