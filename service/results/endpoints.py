"""`/v1/jobs/{job_id}/...`: what customers get back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from jobs.errors import ObjectNotFoundError
from jobs.records import Job, JobState
from service.auth import OPEN_STREAM
from service.context import Context, ServiceContext
from service.errors import GoneError
from service.jobs.dependencies import OwnJob
from service.problems import responses
from service.results.files import serve_file
from service.results.growing import GrowingResponse, growing_bytes
from service.results.pictures import PreviewSide, cut_side
from service.results.playlists import MEDIA_TYPE, PlaylistKind, render_playlist
from service.results.service import (
    OUTPUT_TYPES,
    audio_file,
    newest_preview,
    output_file,
    require_output,
    require_video,
    segment_file,
    source_file,
)

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])

SegmentNumber = Annotated[int, Path(ge=0, le=10_000_000, description="Position in the output, from 0.")]
_VIDEO: dict[str, Any] = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}
_RESULTS = dict.fromkeys(OUTPUT_TYPES.values(), _VIDEO["video/mp4"])
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It has not changed."}}
_PARTIAL: dict[int | str, dict[str, Any]] = {
    206: {"description": "The wanted range; several as multipart/byteranges."}
}


def _file_responses(description: str, content: dict[str, Any], *statuses: int) -> dict[int | str, Any]:
    """OpenAPI responses of an endpoint that serves a file."""
    whole: dict[int | str, Any] = {200: {"description": description, "content": content}}
    return {**responses(404, 410, 416, *statuses), **whole, **_PARTIAL, **_NOT_MODIFIED}


@router.head("/content", include_in_schema=False)
@router.get(
    "/content",
    summary="Get the result",
    response_class=Response,
    responses={
        **_file_responses("The finished video or picture.", _RESULTS, 409),
        307: {"description": "The finished file is at this address, for some hours."},
    },
)
async def get_content(
    request: Request,
    job: OwnJob,
    context: Context,
    download: Annotated[bool, Query(description="Whether browsers should save instead of play it.")] = False,
) -> Response:
    """The finished video with its sound, or the picture; takes `Range`, so players can seek and downloads can
    go on.

    The `ETag` is the file's SHA-256. Services may send to their storage for it (307); it has other ETags.
    """
    file = output_file(job, is_download=download)
    return await serve_file(request, context.storage, file, bucket=context.download_bucket)


@router.head("/source", include_in_schema=False)
@router.get(
    "/source",
    summary="Get the upload",
    response_class=Response,
    responses=_file_responses(
        "What was submitted; octets where browsers know no name for the container.",
        dict.fromkeys(("video/*", "image/*", "application/octet-stream"), _VIDEO["video/mp4"]),
    ),
)
async def get_source(request: Request, job: OwnJob, context: Context) -> Response:
    """The video as it was submitted, for comparing both side by side."""
    return await serve_file(request, context.storage, source_file(job))


@router.get(
    "/report",
    summary="Get the media report",
    response_class=Response,
    responses={
        **responses(404, 409, 410),
        200: {
            "description": "What became of every stream, and how the video was made.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
    },
)
async def get_report(job: OwnJob, context: Context) -> Response:
    """What became of pictures, sound, subtitles, chapters and time stamps."""
    content = await _read(context, job, require_output(job).report_key)
    return Response(content, media_type="application/json", headers={"Cache-Control": "private, no-cache"})


@router.get(
    "/stream",
    summary="Play the result while it is made",
    response_class=Response,
    responses=_file_responses("A fragmented MP4 that grows, or the finished file.", _VIDEO),
    dependencies=[OPEN_STREAM],
)
async def get_stream(request: Request, job: OwnJob, context: Context) -> Response:
    """One MP4 that begins with the first finished segment and goes on as more are finished, with sound.

    It ends when the video does. If the job fails or is cancelled the connection is closed before the last
    chunk. Of a completed job it is the finished file, in which players can seek. A picture has none (404).
    """
    require_video(job)
    if job.state is JobState.COMPLETED:
        return await serve_file(request, context.storage, output_file(job, is_download=False))
    if job.state.is_final or job.state is JobState.CANCELLING:
        raise GoneError(f"job {job.id} is {job.state}; there is nothing to play")
    headers = {"Cache-Control": "no-store", "Accept-Ranges": "none", "X-Accel-Buffering": "no"}
    return GrowingResponse(growing_bytes(context, job.id), headers=headers)


def _add_playlist(kind: PlaylistKind, summary: str) -> None:
    async def get_playlist(
        job: OwnJob, context: Context, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        require_video(job)
        etag = f'"{kind}-{job.num_finished_segments}-{job.is_planned:d}-{job.state}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if if_none_match == etag:
            return Response(status_code=304, headers=headers)
        text = await context.lanes.listing.run(job.spec.owner, render_playlist, context, job, kind)
        return Response(text, headers=headers, media_type=MEDIA_TYPE)

    get_playlist.__doc__ = "Grows while the job does; complete (`EXT-X-ENDLIST`) when all segments are there."
    router.add_api_route(
        f"/hls/{kind}.m3u8",
        get_playlist,
        methods=["GET"],
        name=f"get_hls_{kind}",
        summary=summary,
        response_class=Response,
        responses={
            **responses(404, 409, 410),
            200: {"description": "A playlist.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
            **_NOT_MODIFIED,
        },
    )


_add_playlist("playlist", "HLS: the playlist to open")
_add_playlist("video", "HLS: the list of segments")
_add_playlist("audio", "HLS: the list of sound")


@router.head("/hls/segments/{number}.mp4", include_in_schema=False)
@router.get(
    "/hls/segments/{number}.mp4",
    summary="HLS: a segment",
    response_class=Response,
    responses=_file_responses("A segment.", _VIDEO),
)
async def get_segment(request: Request, job: OwnJob, context: Context, number: SegmentNumber) -> Response:
    """A finished segment; playlists name ranges of it."""
    require_video(job)
    segment = await context.segments.one(job, number)
    return await serve_file(request, context.storage, segment_file(job, segment))


@router.head("/hls/audio.mp4", include_in_schema=False)
@router.get(
    "/hls/audio.mp4",
    summary="HLS: the sound",
    response_class=Response,
    responses=_file_responses("The sound.", {"audio/mp4": _VIDEO["video/mp4"]}),
)
async def get_audio(request: Request, job: OwnJob, context: Context) -> Response:
    """The sound as a fragmented MP4; playlists name ranges of it."""
    require_video(job)
    sound = await context.lanes.storage.run(job.spec.owner, context.segments.sound, job)
    return await serve_file(request, context.storage, audio_file(job, sound))


@router.get(
    "/preview.jpg",
    summary="Look at a picture",
    response_class=Response,
    responses={
        **responses(404, 409, 410),
        200: {
            "description": "The last frame of the newest finished segment.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
        **_NOT_MODIFIED,
    },
)
async def get_preview(
    job: OwnJob,
    context: Context,
    side: Annotated[PreviewSide, Query(description="Left half, right half, or both.")] = "both",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The last frame of the newest finished segment, before and after."""
    key, name = await newest_preview(context, job)
    headers = {"ETag": f'"{name}-{side}"', "Cache-Control": "private, no-cache"}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    picture = await run_in_threadpool(cut_side, await _read(context, job, key), side)
    return Response(picture, headers=headers, media_type="image/jpeg")


async def _read(context: ServiceContext, job: Job, key: str) -> bytes:
    try:
        return await context.lanes.storage.run(job.spec.owner, context.storage.get_bytes, key)
    except ObjectNotFoundError as error:
        raise GoneError("it was there and has been removed") from error
