"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from typing import Any

from tenacity import RetryCallState, retry_if_exception, retry_if_result, stop_after_attempt

from dovetail_client._answers import retry_after_seconds, to_error
from dovetail_client._calls import Answer, Call
from dovetail_client.errors import ConnectionFailedError

BASE_SECONDS, CAP_SECONDS = 0.5, 30.0

# A service that wants more patience than this gets an error instead: the caller knows better what to do.
LONGEST_ASKED_SECONDS = 120.0

TEMPORARY_STATUSES = frozenset({429, 502, 503, 504})


def backoff_seconds(num_failures: int, asked_seconds: float | None = None) -> float:
    """How long to wait: what the service asked for, else twice as long each time, up to half a minute.

    Half of it is chance, so that clients that failed together do not come back together; a time that was
    asked for is only lengthened.
    """
    if asked_seconds is not None:
        return asked_seconds + random.uniform(0, 0.1 * min(asked_seconds, 10))
    limit = min(BASE_SECONDS * 2 ** min(num_failures - 1, 16), CAP_SECONDS)
    return random.uniform(limit / 2, limit)


def retry_policy(call: Call, *, max_retries: int) -> dict[str, Any]:
    """Arguments for tenacity. When patience ends, the last answer is returned, the last error raised."""

    def is_worthwhile(error: BaseException) -> bool:
        return isinstance(error, ConnectionFailedError) and (call.may_repeat or error.is_unsent)

    def is_temporary(answer: Answer) -> bool:
        # An answer 429 means that nothing was done, so it may be repeated even without a key.
        if not (call.may_repeat or answer.status == 429):
            return False
        if answer.status == 409:
            # The first attempt, whose answer was lost, is still at work.
            return to_error(answer).code == "idempotency_in_progress"
        asked = retry_after_seconds(answer.headers) or 0.0
        return answer.status in TEMPORARY_STATUSES and asked <= LONGEST_ASKED_SECONDS

    return {
        "retry": retry_if_exception(is_worthwhile) | retry_if_result(is_temporary),
        "wait": _wait_seconds,
        "stop": stop_after_attempt(max_retries + 1),
        "retry_error_callback": _last_outcome,
    }


def _wait_seconds(state: RetryCallState) -> float:
    outcome = state.outcome
    asked = None
    if outcome is not None and not outcome.failed:
        asked = retry_after_seconds(outcome.result().headers)
    return backoff_seconds(state.attempt_number, asked)


def _last_outcome(state: RetryCallState) -> Answer:
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer
