"""The store of uploads: how far each is, who is writing to it, and what it turned out to be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Literal

from jobs import keys
from jobs._record_format import input_to_json
from jobs._scripts import fields, uploads
from jobs.clock import from_unix_ms, milliseconds, unix_ms
from jobs.errors import LostUploadLockError, StoredBytesLimitError, UploadNotFoundError, UploadsLimitError
from jobs.locks import Lock
from jobs.objects import upload_key
from jobs.redis_store import RedisStore
from jobs.specs import InputInfo
from jobs.upload_records import Upload, UploadParts

# No key has this id.
_NOBODY = "nobody"

Removal = Literal["removed", "used", "kept"]
"""What became of an upload that was to be removed: it is gone, also if there was none; a job reads it; or its
time is not over."""


class UploadStore(RedisStore):
    """The records of uploads."""

    def create(self, upload: Upload, *, max_unfinished: int = 0, max_stored_bytes: int = 0) -> None:
        """Adds an upload; its whole size counts from now on.

        Args:
            upload: What is announced.
            max_unfinished: How many its owner may have at a time; 0 for any number.
            max_stored_bytes: That the owner's objects may take together; 0 for any number.

        Raises:
            QuotaExceededError: If there are so many, or no room for it.
        """
        values = upload.model_dump(mode="json", include={"owner", "metadata"})
        values |= {
            "size": upload.size_bytes,
            "offset": upload.offset,
            "created_at": unix_ms(upload.created_at),
            "expires_at": unix_ms(upload.expires_at),
        }
        if upload.filename is not None:
            values["filename"] = upload.filename
        outcome, number = self._run(
            uploads.CREATE,
            upload.id,
            upload.owner,
            upload.size_bytes,
            unix_ms(upload.expires_at),
            max_unfinished,
            max_stored_bytes,
            *chain.from_iterable(values.items()),
        )
        if outcome == b"uploads_full":
            raise UploadsLimitError(number, max_unfinished)
        if outcome == b"stored_full":
            raise StoredBytesLimitError(number, upload.size_bytes, max_stored_bytes)

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
        with self.client.pipeline(transaction=False) as pipeline:
            for upload_id in upload_ids:
                pipeline.hgetall(keys.UPLOAD(upload_id))
            pipeline.time()
            *answers, (seconds, micros) = pipeline.execute()
        now = datetime.fromtimestamp(seconds + micros / 1e6, UTC)
        return [
            _from_hash(upload_id, values, now) if values else None
            for upload_id, values in zip(upload_ids, answers, strict=True)
        ]

    def lock(self, upload_id: str, *, ttl: timedelta, token: str | None = None) -> Lock:
        """What its only writer holds; what a writer changes, it changes with the lock's token."""
        return Lock(self.client, keys.UPLOAD_LOCK(upload_id), ttl=ttl, token=token)

    def parts(self, upload_id: str) -> UploadParts:
        """What an upload has in an object store."""
        values = self.client.hgetall(keys.UPLOAD_PARTS(upload_id))
        return UploadParts.of({name.decode(): value.decode() for name, value in values.items()})

    def advance(self, upload_id: str, token: str, offset: int, parts: UploadParts | None = None) -> None:
        """Says that the bytes up to `offset` are safe, and where they are.

        Args:
            upload_id: Of which.
            token: Of the lock.
            offset: Of the first byte that is missing.
            parts: What is new in an object store, and all pieces.

        Raises:
            LostUploadLockError: If another writer has taken over, or the upload is gone.
        """
        pairs = chain.from_iterable(parts.fields().items()) if parts else ()
        kept = self._run(uploads.ADVANCE, upload_id, token, offset, *pairs)
        _require(kept, upload_id)

    def finish(self, upload_id: str, token: str, found: InputInfo, *, ttl: timedelta) -> None:
        """Says that the upload is a video and in the storage, and kept for so long from now.

        Raises:
            LostUploadLockError: If another writer has taken over, or the upload is gone.
        """
        kept = self._run(uploads.FINISH, upload_id, token, input_to_json(found), milliseconds(ttl))
        _require(kept, upload_id)

    def postpone(self, upload_id: str, ttl: timedelta) -> None:
        """Has the upload kept for so long from now."""
        expiring = keys.UPLOADS_EXPIRING()
        self._run(fields.EXPIRE, keys.UPLOAD(upload_id), expiring, upload_id, milliseconds(ttl))

    def disown(self, upload_id: str) -> None:
        """Makes an upload nobody's: its bytes stay for the jobs that read them, until it expires."""
        self._run(fields.SET, keys.UPLOAD(upload_id), "owner", _NOBODY)

    def remove(self, upload_id: str, *, only_expired: bool = False) -> Removal:
        """Forgets an upload, unless a job reads it; its bytes are the caller's to remove then.

        Args:
            upload_id: Which.
            only_expired: Whether to keep it unless its time is over at this moment.
        """
        answer = self._run(uploads.REMOVE, upload_id, int(only_expired), upload_key(upload_id))
        outcome: Removal = answer.decode()
        return outcome

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of uploads whose time is over, the longest first."""
        return self._expired(keys.UPLOADS_EXPIRING(), limit)


def _from_hash(upload_id: str, values: dict[bytes, bytes], now: datetime) -> Upload | None:
    text = {name.decode(): value.decode() for name, value in values.items()}
    if "owner" not in text:
        return None
    expires_at = from_unix_ms(text["expires_at"])
    return Upload(
        id=upload_id,
        owner=text["owner"],
        size_bytes=int(text["size"]),
        offset=int(text["offset"]),
        filename=text.get("filename"),
        metadata=text["metadata"],
        created_at=from_unix_ms(text["created_at"]),
        expires_at=expires_at,
        is_expired=expires_at <= now,
        found=InputInfo.model_validate_json(text["found"]) if "found" in text else None,
    )


def _require(kept: int, upload_id: str) -> None:
    if not kept:
        raise LostUploadLockError(f"another request writes to upload {upload_id}, or it is gone")
