"""How much one customer has under way in this process: requests, open streams, uploads,
deliveries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from service.errors import QuotaError

Kind = Literal["requests", "streams", "uploads", "deliveries"]
_RETRY_SECONDS: dict[Kind, int] = {"requests": 1, "streams": 10, "uploads": 10, "deliveries": 2}


class InFlight:
    """Counts what is under way, by customer. Only from the event loop."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Kind, str]] = Counter()

    @contextmanager
    def hold(self, kind: Kind, owner: str, limit: int) -> Iterator[None]:
        """Counts one more while the block runs.

        Args:
            kind: Of what.
            owner: Whose.
            limit: How many they may have at the same time; 0 for any number.

        Raises:
            QuotaError: If it is one too many.
        """
        key = (kind, owner)
        if limit and self._counts[key] >= limit:
            raise QuotaError(
                f"{self._counts[key]} {kind} of your key are under way, {limit} are accepted at a time; wait "
                "for one to end",
                retry_after_seconds=_RETRY_SECONDS[kind],
            )
        self._counts[key] += 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
