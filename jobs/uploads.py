"""Records of resumable uploads: how far each is, who is writing to it, and what it turned out to be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict

from jobs.errors import JobsError
from jobs.objects import upload_key
from jobs.outages import reported_outage
from jobs.records import InputInfo

_EXPIRING = "dv:uploads:expiring"
# No key has this id.
_NOBODY = "nobody"

# All of these act only for the writer that holds the lock: one that was thought dead, and is not, must not
# move the offset of its successor.
# KEYS: record, lock. ARGV: token, offset.
_ADVANCE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'offset', ARGV[2])
return 1
"""
# KEYS: record, lock, expiring. ARGV: token, id, found, expires_at in ms.
_FINISH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'offset', redis.call('HGET', KEYS[1], 'size'), 'found', ARGV[3],
  'expires_at', ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
return 1
"""
# KEYS: record. ARGV: owner.
_DISOWN = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'owner', ARGV[1]) end"
# KEYS: record, lock, expiring, its users. ARGV: id. After it no job can be made of the upload (`CREATE`).
_DELETE_UNUSED = """
if redis.call('SCARD', KEYS[4]) > 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""
# KEYS: record, expiring. ARGV: id, expires_at in ms.
_POSTPONE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'expires_at', ARGV[2])
return redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
"""
# KEYS: lock. ARGV: token, ttl in ms.
_LOCK = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# KEYS: lock. ARGV: token, ttl in ms.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
# KEYS: lock. ARGV: token.
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class UploadStatus(StrEnum):
    """Where an upload is."""

    UPLOADING = "uploading"
    COMPLETED = "completed"


class Upload(BaseModel):
    """An upload as it is now.

    Attributes:
        id: "upl_" and a ULID.
        owner: Whose.
        size_bytes: Announced length.
        offset: Bytes that are safely kept.
        filename: What the customer calls it.
        metadata: Their `Upload-Metadata` as it came.
        created_at: UTC.
        expires_at: When it is removed, unless a job reads it.
        found: What the probe found; None until all bytes are there and in the storage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    owner: str
    size_bytes: int
    offset: int = 0
    filename: str | None = None
    metadata: str = ""
    created_at: datetime
    expires_at: datetime
    found: InputInfo | None = None

    @property
    def status(self) -> UploadStatus:
        """Where it is."""
        return UploadStatus.UPLOADING if self.found is None else UploadStatus.COMPLETED


class UploadNotFoundError(JobsError):
    """Raised when there is no upload of that id, or none that the asker may see."""

    code = "not_found"

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"there is no upload {upload_id!r}; it was deleted, has expired, or never existed")


class LostUploadLockError(JobsError):
    """Raised when a writer has been silent so long that it may not go on."""

    code = "wrong_state"


class UploadStore:
    """The records of uploads. Thread-safe.

    Args:
        client: Of the store's database, without `decode_responses`.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._advance = client.register_script(_ADVANCE)
        self._finish = client.register_script(_FINISH)
        self._take = client.register_script(_LOCK)
        self._renew = client.register_script(_RENEW)
        self._disown = client.register_script(_DISOWN)
        self._delete_unused = client.register_script(_DELETE_UNUSED)
        self._postpone = client.register_script(_POSTPONE)
        self._unlock = client.register_script(_UNLOCK)

    def create(self, upload: Upload) -> None:
        """Adds an upload."""
        values = upload.model_dump(mode="json", include={"owner", "metadata"})
        values |= {
            "size": upload.size_bytes,
            "offset": upload.offset,
            "created_at": _ms(upload.created_at),
            "expires_at": _ms(upload.expires_at),
        }
        if upload.filename is not None:
            values["filename"] = upload.filename
        with reported_outage(), self._client.pipeline() as pipeline:
            pipeline.hset(_key(upload.id), mapping=values)
            pipeline.zadd(_EXPIRING, {upload.id: _ms(upload.expires_at)})
            pipeline.execute()

    def get(self, upload_id: str, *, owner: str | None = None) -> Upload:
        """Reads an upload.

        Raises:
            UploadNotFoundError: If there is none, or it is not theirs.
        """
        [found] = self.get_many([upload_id])
        if found is None or (owner is not None and found.owner != owner):
            raise UploadNotFoundError(upload_id)
        return found

    def get_many(self, upload_ids: list[str]) -> list[Upload | None]:
        """Reads uploads; None for each that is not there."""
        with reported_outage(), self._client.pipeline(transaction=False) as pipeline:
            for upload_id in upload_ids:
                pipeline.hgetall(_key(upload_id))
            answers = pipeline.execute()
        return [
            _from_hash(upload_id, values) if values else None
            for upload_id, values in zip(upload_ids, answers, strict=True)
        ]

    def lock(self, upload_id: str, token: str, *, ttl: timedelta) -> bool:
        """Makes the caller the only writer, unless there is another one."""
        with reported_outage():
            return bool(self._take(keys=[_lock(upload_id)], args=[token, _duration_ms(ttl)]))

    def renew(self, upload_id: str, token: str, *, ttl: timedelta) -> None:
        """Stays the only writer.

        Raises:
            LostUploadLockError: If the lock has gone to another writer, or expired.
        """
        with reported_outage():
            kept = self._renew(keys=[_lock(upload_id)], args=[token, _duration_ms(ttl)])
        _require(kept, upload_id)

    def unlock(self, upload_id: str, token: str) -> None:
        """Lets other writers go on."""
        with reported_outage():
            self._unlock(keys=[_lock(upload_id)], args=[token])

    def advance(self, upload_id: str, token: str, offset: int) -> None:
        """Says that the bytes up to `offset` are on the disk.

        Raises:
            LostUploadLockError: If another writer has taken over, or the upload is gone.
        """
        with reported_outage():
            kept = self._advance(keys=[_key(upload_id), _lock(upload_id)], args=[token, offset])
        _require(kept, upload_id)

    def finish(self, upload_id: str, token: str, found: InputInfo, *, expires_at: datetime) -> None:
        """Says that the upload is a video and in the storage.

        Raises:
            LostUploadLockError: If another writer has taken over, or the upload is gone.
        """
        with reported_outage():
            kept = self._finish(
                keys=[_key(upload_id), _lock(upload_id), _EXPIRING],
                args=[token, upload_id, found.model_dump_json(), _ms(expires_at)],
            )
        _require(kept, upload_id)

    def postpone(self, upload_id: str, expires_at: datetime) -> None:
        """Moves the time at which the upload is removed."""
        with reported_outage():
            self._postpone(keys=[_key(upload_id), _EXPIRING], args=[upload_id, _ms(expires_at)])

    def disown(self, upload_id: str) -> None:
        """Makes an upload nobody's: its bytes stay for the jobs that read them, until it expires."""
        with reported_outage():
            self._disown(keys=[_key(upload_id)], args=[_NOBODY])

    def delete_unused(self, upload_id: str) -> bool:
        """Forgets an upload that no job reads; harmless if there is none.

        Returns:
            False if a job reads it, or an input of a batch will.
        """
        users = f"dv:input:{upload_key(upload_id)}"
        keys = [_key(upload_id), _lock(upload_id), _EXPIRING, users]
        with reported_outage():
            return bool(self._delete_unused(keys=keys, args=[upload_id]))

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of uploads whose time is over, the longest first."""
        now = _ms(datetime.now(UTC))
        with reported_outage():
            found = self._client.zrangebyscore(_EXPIRING, 0, now, start=0, num=limit)
        return [item.decode() for item in found]


def _key(upload_id: str) -> str:
    return f"dv:upload:{upload_id}"


def _lock(upload_id: str) -> str:
    return f"dv:upload:{upload_id}:lock"


def _from_hash(upload_id: str, values: dict[bytes, bytes]) -> Upload | None:
    text = {name.decode(): value.decode() for name, value in values.items()}
    if "owner" not in text:
        return None
    return Upload(
        id=upload_id,
        owner=text["owner"],
        size_bytes=int(text["size"]),
        offset=int(text["offset"]),
        filename=text.get("filename"),
        metadata=text["metadata"],
        created_at=_time(text["created_at"]),
        expires_at=_time(text["expires_at"]),
        found=InputInfo.model_validate_json(text["found"]) if "found" in text else None,
    )


def _require(kept: int, upload_id: str) -> None:
    if not kept:
        raise LostUploadLockError(f"another request writes to upload {upload_id}, or it is gone")


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _duration_ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
