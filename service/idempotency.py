"""`Idempotency-Key`: a request that is sent twice acts once.

Follows draft-ietf-httpapi-idempotency-key-header-07: the same key with the same request gives the first
answer again, with another request 422, while the first is still being worked on 409.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from service.errors import ConflictError, InvalidRequestError
from service.repeating import repeating

HEADER = "Idempotency-Key"
_KEPT_SECONDS = 24 * 3600
# A request holds its key while it is worked on. One that dies with its process lets go of it soon, and its
# repetition can act.
_HELD_SECONDS = 15
_RENEW_SECONDS = 3.0
_MAX_LENGTH = 255


@dataclass
class IdempotentCall:
    """One request with a key.

    Attributes:
        earlier: Id of what the first request made; None if this is the first.
    """

    earlier: str | None
    _made: str | None = None

    def finish(self, resource_id: str) -> None:
        """Remembers what this request made."""
        self._made = resource_id


@asynccontextmanager
async def idempotent(
    client: redis.asyncio.Redis, *, owner: str, key: str | None, fingerprint: str
) -> AsyncIterator[IdempotentCall]:
    """Runs the block once per key; without a key always.

    Args:
        client: Of the store.
        owner: Whose key it is.
        key: Of the request's header.
        fingerprint: Of the request: what must be the same for it to be the same request.

    Raises:
        InvalidRequestError: If the key is malformed or came with another request.
        ConflictError: If the first request with this key is still being worked on.
    """
    if key is None:
        yield IdempotentCall(None)
        return
    key = key.strip().strip('"')
    if not 1 <= len(key) <= _MAX_LENGTH or not key.isprintable():
        raise InvalidRequestError(f"{HEADER} has 1 to {_MAX_LENGTH} printable characters")
    name = f"dv:idempotency:{owner}:{hashlib.sha256(key.encode()).hexdigest()}"
    redis_client: Any = client
    working = json.dumps({"fingerprint": fingerprint, "id": None})
    if await redis_client.set(name, working, nx=True, ex=_HELD_SECONDS):
        call = IdempotentCall(None)
        try:
            async with repeating(
                "idempotency.hold", lambda: redis_client.expire(name, _HELD_SECONDS), seconds=_RENEW_SECONDS
            ):
                yield call
        finally:
            if call._made is None:
                await redis_client.delete(name)
        done = json.dumps({"fingerprint": fingerprint, "id": call._made})
        await redis_client.set(name, done, ex=_KEPT_SECONDS)
        return
    earlier = json.loads(await redis_client.get(name) or working)
    if earlier["fingerprint"] != fingerprint:
        raise InvalidRequestError(
            f"this {HEADER} came before with another request; use a new one", code="idempotency_conflict"
        )
    if earlier["id"] is None:
        error = ConflictError(
            f"the first request with this {HEADER} is still being worked on", code="idempotency_in_progress"
        )
        error.headers = {"Retry-After": "2"}
        raise error
    yield IdempotentCall(earlier["id"])


def fingerprint_of(*parts: Any) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
