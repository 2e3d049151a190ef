"""API keys: only their digests are kept, with what each key may do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from jobs import keys
from jobs.clock import redis_now
from jobs.errors import JobsError
from jobs.key_secrets import Holder, InvalidSecretError, check_secret, digest_of, new_secret
from jobs.redis_store import RedisStore
from jobs.specs import Priority, new_id
from jobs.values import Value
from jobs.webhook_secrets import make_secrets

MAX_WEIGHT = 100

# Strict, or false would be 0.
Count = Annotated[int, Field(ge=0, strict=True)]
S3Prefix = Annotated[str, Field(pattern=r"^s3://[^/\s]+/([^\s]+/)?$", max_length=1100)]


class Scope(StrEnum):
    """What a key may do."""

    READ = "jobs:read"
    WRITE = "jobs:write"
    METRICS = "metrics:read"
    ADMIN = "admin"


class KeyLimits(Value):
    """How much a key may ask for; 0 leaves it to the server's settings.

    Attributes:
        requests_per_minute: Requests.
        max_requests_at_once: Requests being answered, by one API process.
        max_streams_at_once: Event streams and growing videos that are open, of one API process.
        max_uploads_at_once: Files that are coming in: resumable uploads that are unfinished, and requests
            with files in them.
        max_unfinished_jobs: Jobs that are queued or in progress.
        max_upload_bytes: Size of one input.
        max_output_pixels: Width times height times frames of one result.
        max_stored_bytes: Inputs, uploads, segments and results together.
        weight: Share of the workers beside other keys: one of weight 3 gets three times what one of weight 1
            gets, as long as both have work of one priority.
        priorities: That its jobs may have; empty for all.
        s3_prefixes: Addresses, s3://bucket/ or s3://bucket/prefix/, below which sources may lie and results
            may be delivered, of the buckets that the server allows; empty for all of them.
    """

    requests_per_minute: Count = 0
    max_requests_at_once: Count = 0
    max_streams_at_once: Count = 0
    max_uploads_at_once: Count = 0
    max_unfinished_jobs: Count = 0
    max_upload_bytes: Count = 0
    max_output_pixels: Count = 0
    max_stored_bytes: Count = 0
    weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT, strict=True)] = 1
    priorities: tuple[Priority, ...] = ()
    s3_prefixes: tuple[S3Prefix, ...] = ()


class ApiKey(Value):
    """A key, without its secret.

    Attributes:
        id: "key_..."; also the owner of its jobs.
        name: For people.
        hint: The first characters of the secret.
        scopes: What it may do.
        limits: How much.
        created_at: UTC.
        expires_at: UTC; None for never.
    """

    id: str
    name: str
    hint: str
    scopes: tuple[Scope, ...]
    limits: KeyLimits = KeyLimits()
    created_at: datetime
    expires_at: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do what the scope names."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class KeyNotFoundError(JobsError):
    """Raised when there is no key of that id."""

    code = "not_found"


class ApiKeyStore(RedisStore):
    """The keys of an installation."""

    def create(
        self,
        name: str,
        *,
        scopes: tuple[Scope, ...] = (Scope.READ, Scope.WRITE),
        limits: KeyLimits | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Makes a key.

        Returns:
            The key and its secret, which cannot be read again.
        """
        secret = new_secret()
        key = ApiKey(
            id=new_id("key"),
            name=name,
            hint=secret[:7],
            scopes=scopes,
            limits=limits or KeyLimits(),
            created_at=datetime.now(UTC),
            expires_at=expires_at,
        )
        self._add(key, secret)
        return key, secret

    def ensure(
        self, name: str, secret: str, *, scopes: tuple[Scope, ...] = (Scope.READ, Scope.WRITE)
    ) -> tuple[ApiKey, bool]:
        """Makes a key of a secret that is chosen elsewhere, unless there is one of it. May run twice at once.

        Returns:
            The key, and whether it is new.

        Raises:
            InvalidSecretError: If the secret could be guessed or does not fit into a header.
        """
        check_secret(secret)
        found = self.find(secret)
        if found is not None:
            return found, False
        # Named by its secret: whoever makes it at the same time makes the same key.
        key_id = f"key_{digest_of(secret)[:26]}"
        key = ApiKey(id=key_id, name=name, hint=secret[:7], scopes=scopes, created_at=datetime.now(UTC))
        self._add(key, secret)
        return key, True

    def find(self, secret: str) -> ApiKey | None:
        """The key of a secret; None if there is none or it has expired."""
        found = self.client.hget(keys.API_KEYS_BY_DIGEST(), digest_of(secret))
        if found is None:
            return None
        holder = Holder.decode(found)
        content = self.client.hget(keys.API_KEYS(), holder.key_id)
        if content is None:
            return None
        key = ApiKey.model_validate_json(content)
        ends = [end for end in (key.expires_at, holder.until) if end is not None]
        return None if ends and min(ends) <= redis_now(self.client) else key

    def list(self) -> list[ApiKey]:
        """All keys, the oldest first."""
        found = [ApiKey.model_validate_json(content) for content in self.client.hvals(keys.API_KEYS())]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def get(self, key_id: str) -> ApiKey:
        """A key by its id.

        Raises:
            KeyNotFoundError: If there is none.
        """
        return _decode(key_id, self.client.hget(keys.API_KEYS(), key_id))

    def change(self, key_id: str, **changes: Any) -> ApiKey:
        """Changes a key.

        Args:
            key_id: Of the key.
            changes: New values by the names of `ApiKey`, which are taken as they are.

        Raises:
            KeyNotFoundError: If there is none, or it is revoked meanwhile.
        """

        def change(pipeline: Any) -> ApiKey:
            found = _decode(key_id, pipeline.hget(keys.API_KEYS(), key_id))
            changed = ApiKey.model_validate({**found.model_dump(), **changes})
            pipeline.multi()
            pipeline.hset(keys.API_KEYS(), key_id, changed.model_dump_json())
            return changed

        return self._transaction(change, keys.API_KEYS())

    def rotate(self, key_id: str, *, overlap: timedelta, secret: str | None = None) -> tuple[ApiKey, str]:
        """Gives a key another secret. Jobs, limits and the secret of its webhooks stay.

        Args:
            key_id: Of the key.
            overlap: How long the present secret works too. Those before it keep their own end.
            secret: That was chosen elsewhere; None makes one.

        Returns:
            The key and its new secret.

        Raises:
            KeyNotFoundError: If there is none, or it is revoked meanwhile.
            InvalidSecretError: If the secret is another key's, or none that a key may have.
        """
        new = new_secret() if secret is None else secret
        check_secret(new)

        def rotate(pipeline: Any) -> ApiKey:
            key = _decode(key_id, pipeline.hget(keys.API_KEYS(), key_id)).model_copy(update={"hint": new[:7]})
            holders = {
                digest: Holder.decode(text)
                for digest, text in pipeline.hgetall(keys.API_KEYS_BY_DIGEST()).items()
            }
            mine = holders.get(digest_of(new).encode())
            if mine is not None and mine.key_id != key_id:
                raise InvalidSecretError(f"the secret is that of {mine.key_id} already; choose another one")
            now = redis_now(self.client)
            pipeline.multi()
            for digest, holder in holders.items():
                if holder.key_id == key_id:
                    until = min(holder.until or now + overlap, now + overlap)
                    if until > now:
                        pipeline.hset(keys.API_KEYS_BY_DIGEST(), digest, Holder(key_id, until).encode())
                    else:
                        pipeline.hdel(keys.API_KEYS_BY_DIGEST(), digest)
            pipeline.hset(keys.API_KEYS_BY_DIGEST(), digest_of(new), key_id)
            pipeline.hset(keys.API_KEYS(), key_id, key.model_dump_json())
            return key

        return self._transaction(rotate, keys.API_KEYS(), keys.API_KEYS_BY_DIGEST()), new

    def owners(self) -> tuple[str, ...]:
        """Ids of all keys, also of revoked ones."""
        ids = [*self.client.hkeys(keys.API_KEYS()), *self.client.smembers(keys.API_KEYS_REVOKED())]
        return tuple(sorted(key_id.decode() for key_id in ids))

    def revoke(self, key_id: str) -> ApiKey:
        """Makes a key useless. Its jobs stay until they expire.

        Raises:
            KeyNotFoundError: If there is none.
        """
        key = self.get(key_id)
        for digest, holder in self.client.hgetall(keys.API_KEYS_BY_DIGEST()).items():
            if Holder.decode(holder).key_id == key_id:
                self.client.hdel(keys.API_KEYS_BY_DIGEST(), digest)
        with self.client.pipeline() as pipeline:
            pipeline.sadd(keys.API_KEYS_REVOKED(), key_id)
            pipeline.hdel(keys.API_KEYS(), key_id)
            pipeline.execute()
        return key

    def has_any(self) -> bool:
        """Whether there are keys at all."""
        return bool(self.client.hlen(keys.API_KEYS()))

    def _add(self, key: ApiKey, secret: str) -> None:
        with self.client.pipeline() as pipeline:
            pipeline.hset(keys.API_KEYS(), key.id, key.model_dump_json())
            pipeline.hset(keys.API_KEYS_BY_DIGEST(), digest_of(secret), key.id)
            pipeline.hsetnx(keys.WEBHOOK_SECRETS(), key.id, make_secrets().model_dump_json())
            pipeline.execute()


def _decode(key_id: str, content: bytes | None) -> ApiKey:
    if content is None:
        raise KeyNotFoundError(f"there is no key {key_id!r}; `dovetail keys list` shows all")
    return ApiKey.model_validate_json(content)
