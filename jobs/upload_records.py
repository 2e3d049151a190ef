"""Records of resumable uploads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from jobs.specs import InputInfo
from jobs.values import Value


class UploadStatus(StrEnum):
    """Where an upload is."""

    UPLOADING = "uploading"
    COMPLETED = "completed"


class Upload(Value):
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
        is_expired: Whether that was over when the record was read, by the store's clock.
        found: What the probe found; None until all bytes are there and in the storage.
    """

    id: str
    owner: str
    size_bytes: int
    offset: int = 0
    filename: str | None = None
    metadata: str = ""
    created_at: datetime
    expires_at: datetime
    is_expired: bool = False
    found: InputInfo | None = None

    @property
    def status(self) -> UploadStatus:
        """Where it is."""
        return UploadStatus.UPLOADING if self.found is None else UploadStatus.COMPLETED


@dataclass(frozen=True)
class UploadParts:
    """What an upload has in an object store: parts of one size from its beginning on, then pieces of others.

    Attributes:
        multipart_id: Of its parts; "" before there is one.
        etags: Of the parts, by number from 1. Those behind the upload's offset do not count.
        pieces: Keys and sizes of objects with the bytes behind the parts, in order.
        is_direct: Whether its owner sends the parts to the object store.
    """

    multipart_id: str = ""
    etags: Mapping[int, str] = field(default_factory=dict)
    pieces: tuple[tuple[str, int], ...] = ()
    is_direct: bool = False

    def fields(self) -> dict[str, str]:
        """As it is kept; merged into what is there."""
        values = {str(number): etag for number, etag in self.etags.items()}
        if self.multipart_id:
            values["multipart"] = self.multipart_id
        if self.is_direct:
            values["direct"] = "1"
        return {**values, "pieces": json.dumps(self.pieces)}

    @classmethod
    def of(cls, values: Mapping[str, str]) -> UploadParts:
        """From what is kept."""
        return cls(
            multipart_id=values.get("multipart", ""),
            etags={int(name): etag for name, etag in values.items() if name.isdigit()},
            pieces=tuple((key, size) for key, size in json.loads(values.get("pieces", "[]"))),
            is_direct="direct" in values,
        )
