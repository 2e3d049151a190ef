"""What uploads look like on the wire, apart from tus's own headers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.upload_records import Upload, UploadStatus


class UploadSchema(BaseModel):
    """An upload."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "upl_01k9zq3v5n8w2c7m4t6y1x0abc",
                    "object": "upload",
                    "status": "uploading",
                    "size_bytes": 10485760,
                    "offset": 4194304,
                    "filename": "clip.mp4",
                    "created_at": "2026-11-21T12:00:00Z",
                    "expires_at": "2026-11-22T12:00:00Z",
                }
            ]
        }
    )

    id: str
    object: Literal["upload"] = "upload"
    status: UploadStatus
    size_bytes: Annotated[int, Field(description="Announced length.")]
    offset: Annotated[int, Field(description="Bytes that have arrived and are safe.")]
    filename: str | None
    created_at: datetime
    expires_at: Annotated[datetime, Field(description="When it is removed, unless a job reads it.")]

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """An upload as customers see it."""
        return cls(
            id=upload.id,
            status=upload.status,
            size_bytes=upload.size_bytes,
            offset=upload.offset,
            filename=upload.filename,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
        )
