"""How many bytes each customer's objects take; jobs count theirs in their own scripts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from jobs import keys
from jobs._scripts.stored import STORE
from jobs.errors import StoredBytesLimitError
from jobs.redis_store import RedisStore


class StoredBytes(RedisStore):
    """The bytes that are counted for each owner, by job or upload."""

    def of(self, owner: str) -> int:
        """All that an owner has stored."""
        return int(self.client.hget(keys.STORED(owner), "sum") or 0)

    def set(self, owner: str, sizes: Mapping[str, int], *, limit: int = 0) -> None:
        """Says what some jobs or uploads take from now on.

        Args:
            owner: Whose they are.
            sizes: Bytes by id; 0 for what is gone.
            limit: Of all that the owner may have; 0 for any number.

        Raises:
            StoredBytesLimitError: If that would be more. Nothing is counted then.
        """
        stored = int(self._run(STORE, owner, limit, *chain.from_iterable(sizes.items())))
        if stored >= 0:
            raise StoredBytesLimitError(stored, sum(sizes.values()), limit)
