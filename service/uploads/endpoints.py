"""`/v1/uploads`: tus 1.0 with creation, creation-with-upload, checksum, expiration and termination."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from jobs.upload_records import Upload
from jobs.uploads import UploadStore
from service.auth import PUBLIC, Caller, Reader, Writer
from service.context import Context, ServiceContext
from service.errors import MalformedRequestError, ServiceError
from service.openapi import with_headers
from service.problems import MEDIA_TYPE, responses
from service.uploads.protocol import (
    BODY_TYPE,
    CHECKSUM_ALGORITHMS,
    EXTENSIONS,
    VERSION,
    TusRoute,
    check_body_type,
    check_version,
    parse_checksum,
    parse_size,
    upload_headers,
)
from service.uploads.schemas import UploadSchema
from service.uploads.service import append, create_upload, delete_upload, remove_upload, require_current

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=TusRoute)

UploadId = Annotated[
    str,
    Path(
        pattern=r"^upl_[0-9a-z]{26}$",
        examples=["upl_01k9zq3v5n8w2c7m4t6y1x0abc"],
        description="Of the upload.",
    ),
]
LOCKED: dict[int | str, dict[str, Any]] = {
    423: {
        "description": "Another request writes to it.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
_BODY: dict[str, Any] = {
    "content": {BODY_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}


# Checked in the endpoints, after ids and headers: a malformed request is malformed in any version.
TusResumable = Annotated[str | None, Header(description="Version of the protocol.", examples=[VERSION])]
Length = Annotated[
    str | None, Header(alias="Upload-Length", description="Bytes of the whole file.", examples=["10485760"])
]
Offset = Annotated[
    str | None,
    Header(alias="Upload-Offset", description="Where the body begins: as HEAD says.", examples=["0"]),
]
Metadata = Annotated[
    str | None,
    Header(
        alias="Upload-Metadata",
        description="`filename` and its base64 value; other names are kept and given back.",
        examples=["filename Y2xpcC5tcDQ="],
    ),
]
ChecksumHeader = Annotated[
    str | None,
    Header(
        alias="Upload-Checksum",
        description="Algorithm and base64 digest of the body: sha1, sha256, md5 or crc32.",
        examples=["sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="],
    ),
]


@router.options("", status_code=204, summary="What the server's tus can do", openapi_extra=PUBLIC)
async def describe_protocol(response: Response, context: Context) -> None:
    """Version, extensions, checksum algorithms and the largest size, as headers."""
    response.headers.update(
        {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
            "Tus-Max-Size": str(context.settings.max_upload_bytes),
        }
    )


@router.options(
    "/{upload_id}",
    status_code=204,
    summary="What the server's tus can do",
    responses=responses(),
    openapi_extra=PUBLIC,
)
async def describe_protocol_of_upload(upload_id: UploadId, response: Response, context: Context) -> None:
    """The same."""
    await describe_protocol(response, context)


@router.post(
    "",
    name="create_upload",
    status_code=201,
    response_class=Response,
    summary="Begin an upload",
    responses={
        **responses(400, 409, 410, 412, 413, 415, 460, 507),
        **LOCKED,
        201: with_headers("Location"),
    },
    openapi_extra={"requestBody": {"required": False, **_BODY}},
)
async def begin_upload(
    request: Request,
    context: Context,
    caller: Writer,
    tus_resumable: TusResumable = None,
    upload_length: Length = None,
    upload_metadata: Metadata = None,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Answers the upload's address in `Location`. The body may hold the first bytes already."""
    check_version(tus_resumable)
    if "upload-defer-length" in request.headers:
        raise MalformedRequestError("Upload-Defer-Length is not supported; send Upload-Length")
    size_bytes = parse_size("Upload-Length", upload_length)
    checksum = parse_checksum(upload_checksum)
    length = _content_length(request)
    has_body = length is None or length > 0
    if has_body:
        check_body_type(request.headers.get("content-type"))
    upload = await context.lanes.storage.run(
        caller.owner, create_upload, context, caller, size_bytes=size_bytes, metadata=upload_metadata or ""
    )
    if has_body:
        try:
            upload = await append(
                context,
                caller,
                upload.id,
                request.stream(),
                offset=0,
                content_length=length,
                checksum=checksum,
            )
        except ServiceError:
            # The sender does not know the address, so nobody could go on with it.
            await run_in_threadpool(remove_upload, context, UploadStore(context.client), upload.id)
            raise
    headers = {**upload_headers(upload), "Location": f"/v1/uploads/{upload.id}"}
    return Response(status_code=201, headers=headers)


@router.head(
    "/{upload_id}",
    response_class=Response,
    summary="How far an upload is",
    responses=responses(404, 410, 412),
)
async def look_at_offset(
    upload_id: UploadId, context: Context, caller: Writer, tus_resumable: TusResumable = None
) -> Response:
    """`Upload-Offset` and `Upload-Length`."""
    check_version(tus_resumable)
    upload = await _own_upload(upload_id, context, caller)
    headers = {**upload_headers(upload), "Upload-Length": str(upload.size_bytes)}
    if upload.metadata:
        headers["Upload-Metadata"] = upload.metadata
    return Response(status_code=200, headers=headers)


@router.patch(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="Send bytes of an upload",
    responses={**responses(400, 404, 409, 410, 412, 413, 415, 460, 507), **LOCKED},
    openapi_extra={"requestBody": {"required": True, **_BODY}},
)
async def send_bytes(
    upload_id: UploadId,
    request: Request,
    context: Context,
    caller: Writer,
    tus_resumable: TusResumable = None,
    upload_offset: Offset = None,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Appends the body. After the last byte the file is looked into: 415 or 422 if it is no video."""
    check_version(tus_resumable)
    check_body_type(request.headers.get("content-type"))
    upload = await append(
        context,
        caller,
        upload_id,
        request.stream(),
        offset=parse_size("Upload-Offset", upload_offset),
        content_length=_content_length(request),
        checksum=parse_checksum(upload_checksum),
    )
    return Response(status_code=204, headers=upload_headers(upload))


@router.delete(
    "/{upload_id}",
    name="delete_upload",
    status_code=204,
    response_class=Response,
    summary="End an upload",
    responses={**responses(404, 410, 412), **LOCKED},
)
async def end_upload(
    upload_id: UploadId, context: Context, caller: Writer, tus_resumable: TusResumable = None
) -> Response:
    """Removes it and its bytes. Jobs that read it already keep them."""
    check_version(tus_resumable)
    await delete_upload(context, caller, upload_id)
    return Response(status_code=204)


@router.post(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="PATCH, HEAD or DELETE for clients that cannot send these",
    responses={
        **responses(400, 404, 409, 410, 412, 413, 415, 460, 507),
        **LOCKED,
        200: {"description": "As HEAD."},
    },
    openapi_extra={"requestBody": {"required": False, **_BODY}},
)
async def override_method(
    upload_id: UploadId,
    request: Request,
    context: Context,
    caller: Writer,
    method: Annotated[Literal["PATCH", "HEAD", "DELETE"], Header(alias="X-HTTP-Method-Override")],
    tus_resumable: TusResumable = None,
    upload_offset: Offset = None,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Does what `X-HTTP-Method-Override` says."""
    if method == "HEAD":
        return await look_at_offset(upload_id, context, caller, tus_resumable)
    if method == "DELETE":
        return await end_upload(upload_id, context, caller, tus_resumable)
    return await send_bytes(
        upload_id, request, context, caller, tus_resumable, upload_offset, upload_checksum
    )


@router.get("/{upload_id}", summary="Look at an upload", responses=responses(404, 410))
async def get_upload(upload_id: UploadId, context: Context, caller: Reader) -> UploadSchema:
    """The same as HEAD as JSON, without the protocol's headers."""
    return UploadSchema.of(await _own_upload(upload_id, context, caller))


async def _own_upload(upload_id: str, context: ServiceContext, caller: Caller) -> Upload:
    store = UploadStore(context.client)
    return require_current(await run_in_threadpool(store.get, upload_id, owner=caller.owner))


def _content_length(request: Request) -> int | None:
    """Bytes of the body; None where the sender does not know."""
    if "transfer-encoding" in request.headers:
        return None
    return parse_size("Content-Length", request.headers.get("content-length", "0"))
