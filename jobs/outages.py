"""One error for all the ways in which Redis fails to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from jobs.errors import StoreUnavailableError


@contextmanager
def reported_outage() -> Iterator[None]:
    """Turns what the client raises when Redis does not answer into our error.

    Raises:
        StoreUnavailableError: If Redis does not answer in time.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
        raise StoreUnavailableError("the store does not answer; try again in a moment") from error
