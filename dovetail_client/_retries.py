"""When something is tried again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from dovetail_client.errors import APIError, ConnectionFailedError, DovetailError

BASE_SECONDS, CAP_SECONDS = 0.5, 30.0

# A service that wants more patience than this gets an error instead: the caller knows better what to do.
LONGEST_ASKED_SECONDS = 120.0

TEMPORARY_STATUSES = frozenset({429, 502, 503, 504})


class Patience:
    """Bears failures, with pauses.

    Args:
        max_failures: In a row.
        sleep: Waits so many seconds.

    Attributes:
        num_failures: Since something went well.
    """

    def __init__(self, max_failures: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.num_failures = 0
        self._max_failures, self._sleep = max_failures, sleep

    def renew(self) -> None:
        """To be called when something went well."""
        self.num_failures = 0

    async def bear(self, error: DovetailError) -> None:
        """Waits before another try.

        Raises:
            DovetailError: The error, if it is one too many or the service asks for more than two minutes.
        """
        self.num_failures += 1
        asked = error.retry_after_seconds if isinstance(error, APIError) else None
        if self.num_failures > self._max_failures or (asked or 0) > LONGEST_ASKED_SECONDS:
            raise error
        await self._sleep(backoff_seconds(self.num_failures, asked))


def backoff_seconds(num_failures: int, asked_seconds: float | None = None) -> float:
    """How long to wait: what the service asked for, else twice as long each time, up to half a minute.

    Half of it is chance, so that clients that failed together do not come back together; a time that was
    asked for is only lengthened.
    """
    if asked_seconds is not None:
        return asked_seconds + random.uniform(0, 0.1 * min(asked_seconds, 10))
    limit = min(BASE_SECONDS * 2 ** min(num_failures - 1, 16), CAP_SECONDS)
    return random.uniform(limit / 2, limit)


def is_temporary(error: DovetailError) -> bool:
    """Whether the same request may fare better later."""
    if isinstance(error, APIError):
        # In progress: the first attempt, whose answer was lost, is still at work.
        return error.status in TEMPORARY_STATUSES or error.code == "idempotency_in_progress"
    return isinstance(error, ConnectionFailedError)


def has_done_nothing(error: DovetailError) -> bool:
    """Whether the failed request surely changed nothing: it never arrived, or was turned away unread."""
    if isinstance(error, APIError):
        return error.status == 429
    return isinstance(error, ConnectionFailedError) and error.is_unsent
