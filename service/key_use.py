"""Whether requests need an API key: always where others can reach the server, else from the first key on."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from jobs import keys
from jobs.errors import StoreUnavailableError


class KeyUse:
    """Asked for each request as long as there are no keys, so that the first one counts at once.

    A process that has seen keys goes on asking for them: revoking the last one must not open the door to
    everybody.

    Args:
        client: Of the store.
        is_required: Whether keys are needed even while there are none.
    """

    def __init__(self, client: redis.asyncio.Redis, *, is_required: bool) -> None:
        self._client: Any = client
        self._is_needed: bool | None = True if is_required else None

    async def is_needed(self) -> bool:
        """Whether a request needs a key. While Redis is away, what it last said counts: `/metrics` is to tell
        of the outage, and little else is to be had.

        Raises:
            StoreUnavailableError: If Redis is away and has not said anything yet.
        """
        if not self._is_needed:
            try:
                self._is_needed = bool(await self._client.hlen(keys.API_KEYS()))
            except StoreUnavailableError:
                if self._is_needed is None:
                    raise
        return self._is_needed
