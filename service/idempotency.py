"""`Idempotency-Key`: a request that is sent twice acts once.

Follows draft-ietf-httpapi-idempotency-key-header-07: the same key with the same request gives the first
answer again, with another request 422, while the first is still being worked on 409.

The id of what a request will make is written down under its key before anything is made. Whatever dies or
gets lost afterwards, the next request with the key knows under which id to look, and makes nothing else.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import redis
import redis.asyncio
import structlog

from jobs import keys
from jobs.clock import LUA_NOW_MS, milliseconds
from jobs.errors import JobsError, QueueFullError, StoreUnavailableError
from jobs.settings import ServiceSettings
from jobs.specs import new_id
from service.errors import ConflictError, InvalidRequestError, ServiceError, from_jobs_error
from service.repeating import repeating

_log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
_KEPT_SECONDS = 24 * 3600
# After a kill a client asks again and again; its patience is not much longer than this.
_LONGEST_HELD = timedelta(seconds=10)
_MAX_LENGTH = 255

# All of these act only for the request that holds the key: one that was thought dead, and is not, changes
# nothing for its successor.
# KEYS: record. ARGV: holder, fingerprint, id for what is made, held for ms, kept for s.
# Returns what may be done, and the id.
_CLAIM = (
    LUA_NOW_MS
    + """
local now = now_ms()
local fingerprint, id, holder, held_until, is_done = unpack(
  redis.call('HMGET', KEYS[1], 'fingerprint', 'id', 'holder', 'held_until', 'is_done'))
local answer = 'new'
if fingerprint then
  if fingerprint ~= ARGV[2] then return {'other', ''} end
  if is_done then return {'done', id} end
  if holder ~= ARGV[1] and tonumber(held_until) > now then return {'held', id} end
  if holder ~= ARGV[1] then answer = 'begun' end
end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'id', id or ARGV[3], 'holder', ARGV[1],
  'held_until', now + tonumber(ARGV[4]))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return {answer, id or ARGV[3]}
"""
)
# KEYS: record. ARGV: holder, what: "hold" on for ms, "finish", "release" the id for the next request, or
# "forget"; ms.
_CHANGE = (
    LUA_NOW_MS
    + """
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
if ARGV[2] == 'forget' then return redis.call('DEL', KEYS[1]) end
if ARGV[2] == 'finish' then return redis.call('HSET', KEYS[1], 'is_done', 1) end
return redis.call('HSET', KEYS[1], 'held_until', now_ms() + tonumber(ARGV[3]))
"""
)


@dataclass(frozen=True)
class IdempotentCall:
    """One request, with a key or without.

    Attributes:
        id: Of what the request makes, or has made.
        is_done: Whether it was made before.
        may_exist: Whether an earlier request may have made it, and not lived to say so.
    """

    id: str
    is_done: bool = False
    may_exist: bool = False


@asynccontextmanager
async def idempotent(
    client: redis.asyncio.Redis,
    *,
    owner: str,
    key: str | None,
    fingerprint: str,
    prefix: str,
    held: timedelta,
) -> AsyncIterator[IdempotentCall]:
    """Runs the block once per key; without a key always. A block that ends without an error has made what
    its call's id names.

    Args:
        client: Of the store.
        owner: Whose key it is.
        key: Of the request's header.
        fingerprint: Of the request: what must be the same for it to be the same request.
        prefix: Of the id: "job" or "batch".
        held: How long a request that died with its process keeps others from acting.

    Raises:
        InvalidRequestError: If the key is malformed or came with another request.
        ConflictError: If the first request with this key is still being worked on.
    """
    if key is None:
        yield IdempotentCall(new_id(prefix))
        return
    record = _Record(client, owner, _checked(key), milliseconds(held))
    state, resource_id = await record.claim(fingerprint, new_id(prefix))
    if state == "other":
        raise InvalidRequestError(
            f"this {HEADER} came before with another request; use a new one", code="idempotency_conflict"
        )
    if state == "held":
        raise ConflictError(
            f"the first request with this {HEADER} is still being worked on",
            code="idempotency_in_progress",
            headers={"Retry-After": "2"},
        )
    if state == "done":
        yield IdempotentCall(resource_id, is_done=True)
        return
    try:
        async with repeating("idempotency.hold", record.hold, seconds=held.total_seconds() / 4):
            yield IdempotentCall(resource_id, may_exist=state == "begun")
    except BaseException as error:
        # Where an earlier request may still be at it, the id stays.
        await record.end("forget" if state == "new" and _is_refusal(error) else "release")
        raise
    await record.end("finish")


def hold_of(settings: ServiceSettings) -> timedelta:
    """How long the key of a request that died stays held."""
    return min(settings.lease_ttl, _LONGEST_HELD)


def fingerprint_of(*parts: Any) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class _Record:
    """What is kept under a key, for one request with it."""

    def __init__(self, client: redis.asyncio.Redis, owner: str, key: str, held_ms: int) -> None:
        self._name = keys.IDEMPOTENT_REQUEST(owner, hashlib.sha256(key.encode()).hexdigest())
        self._held_ms = held_ms
        self._holder = secrets.token_hex(16)
        self._claim: Any = client.register_script(_CLAIM)
        self._change: Any = client.register_script(_CHANGE)

    async def claim(self, fingerprint: str, resource_id: str) -> tuple[str, str]:
        """Holds the key if nobody else does: "new", "begun", "done", "held" or "other", and the id."""
        arguments: list[str | int] = [self._holder, fingerprint, resource_id, self._held_ms, _KEPT_SECONDS]
        state, found = await self._claim(keys=[self._name], args=arguments)
        return state.decode(), found.decode()

    async def hold(self) -> None:
        """Stays the holder."""
        await self._change(keys=[self._name], args=[self._holder, "hold", self._held_ms])

    async def end(self, how: str) -> None:
        """Lets go of the key. Where that fails, it is free by itself in a moment, and the id stays."""
        try:
            await self._change(keys=[self._name], args=[self._holder, how, 0])
        except (StoreUnavailableError, redis.RedisError) as error:
            _log.warning("idempotency.not_ended", how=how, error=str(error))


def _checked(key: str) -> str:
    key = key.strip().strip('"')
    if not 1 <= len(key) <= _MAX_LENGTH or not key.isprintable():
        raise InvalidRequestError(f"{HEADER} has 1 to {_MAX_LENGTH} printable characters")
    return key


def _is_refusal(error: BaseException) -> bool:
    """Whether an error says that nothing was made; then the request may be mended under its key."""
    if isinstance(error, JobsError):
        return isinstance(error, QueueFullError) or from_jobs_error(error).status < 500
    return isinstance(error, ServiceError) and error.status < 500
