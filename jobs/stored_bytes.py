"""How many bytes each customer's objects take; jobs count theirs in their own scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from jobs import keys
from jobs._scripts.stored import STORE
from jobs.errors import StoredBytesLimitError


class StoredBytes:
    """The bytes that are counted for each owner, by job or upload. Thread-safe.

    Args:
        client: Of the store's database, without `decode_responses`.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._store = client.register_script(STORE)

    def of(self, owner: str) -> int:
        """All that an owner has stored."""
        return int(self._client.hget(keys.STORED(owner), "sum") or 0)

    def set(self, owner: str, sizes: Mapping[str, int], *, limit: int = 0) -> None:
        """Says what some jobs or uploads take from now on.

        Args:
            owner: Whose they are.
            sizes: Bytes by id; 0 for what is gone.
            limit: Of all that the owner may have; 0 for any number.

        Raises:
            StoredBytesLimitError: If that would be more. Nothing is counted then.
        """
        pairs = [item for pair in sizes.items() for item in pair]
        stored = int(self._store(args=[owner, limit, *pairs]))
        if stored >= 0:
            raise StoredBytesLimitError(stored, sum(sizes.values()), limit)
