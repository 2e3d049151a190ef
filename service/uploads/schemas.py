"""What uploads look like on the wire, apart from tus's own headers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.multipart import MAX_PARTS
from jobs.upload_records import Upload, UploadStatus
from service.uploads.direct import MAX_ADDRESSES, PartsOverview


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


class PartsRequest(BaseModel):
    """Which parts to get addresses for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"numbers": [3, 4]}]})

    numbers: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_PARTS)]] | None,
        Field(min_length=1, max_length=MAX_ADDRESSES, description="From 1; null for those that are missing."),
    ] = None


class PartSchema(BaseModel):
    """Where to send a part."""

    number: Annotated[int, Field(description="From 1.")]
    offset: Annotated[int, Field(description="Of its first byte in the file.")]
    size_bytes: Annotated[int, Field(description="Its size; no other is taken.")]
    url: Annotated[str, Field(description="Of a PUT with the bytes as its body.")]


class PartsSchema(BaseModel):
    """How far an upload's parts are, and where to send them."""

    object: Literal["upload_parts"] = "upload_parts"
    part_size_bytes: Annotated[int, Field(description="Of each part but the last.")]
    num_parts: Annotated[int, Field(description="In all.")]
    arrived: Annotated[list[int], Field(description="Numbers of the parts that are there.")]
    parts: list[PartSchema]
    expires_at: Annotated[datetime, Field(description="When the addresses end.")]

    @classmethod
    def of(cls, overview: PartsOverview) -> Self:
        """An overview as customers see it."""
        return cls(
            part_size_bytes=overview.part_bytes,
            num_parts=overview.num_parts,
            arrived=list(overview.arrived),
            parts=[
                PartSchema(number=part.number, offset=part.offset, size_bytes=part.size_bytes, url=part.url)
                for part in overview.addresses
            ],
            expires_at=overview.expires_at,
        )


class SentPart(BaseModel):
    """A part that was sent."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    etag: Annotated[str, Field(max_length=200, description="As the storage answered it.")]


class CompletionRequest(BaseModel):
    """What the parts of an upload are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{}, {"parts": [{"number": 1, "etag": '"9a0364b9e99bb480"'}]}]},
    )

    parts: Annotated[
        list[SentPart] | None,
        Field(max_length=MAX_PARTS, description="All of them; null takes the parts as they are."),
    ] = None
