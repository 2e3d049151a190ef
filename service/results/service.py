"""Which object answers which request, and what to say while it is not there."""

from __future__ import annotations

from pathlib import PurePath

from jobs.records import FinishedSegment, Job, JobState, OutputInfo, StreamSound
from jobs.specs import InputInfo
from service.context import ServiceContext
from service.errors import GoneError, NotFoundError, NotReadyError
from service.results.files import ServedFile, content_disposition

# Objects with these names never change, and nobody but their owner may see them.
_IMMUTABLE = {"Cache-Control": "private, max-age=604800, immutable"}
# What a customer sent is shown only as a video: whatever else is in it must not run in our page's place.
_HARMLESS = {"Content-Security-Policy": "default-src 'none'; sandbox"}
_SHORTEST_WAIT, _LONGEST_WAIT = 2, 60

# Names that FFmpeg gives containers, and what browsers call them.
_CONTAINERS = {
    "mov": "video/mp4",
    "matroska": "video/x-matroska",
    "avi": "video/x-msvideo",
    "mpegts": "video/mp2t",
    "mpeg": "video/mpeg",
    "mpegvideo": "video/mpeg",
    "flv": "video/x-flv",
    "asf": "video/x-ms-wmv",
    "ogg": "video/ogg",
    "mxf": "application/mxf",
    "gif": "image/gif",
}
# Of stills, by their kinds.
_PICTURE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
}
OUTPUT_TYPES = {
    "mp4": "video/mp4",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "webm": "video/webm",
    **_PICTURE_TYPES,
}
_WEBM_CODECS = frozenset({"vp8", "vp9", "av1"})


def require_output(job: Job) -> OutputInfo:
    """The finished file.

    Raises:
        NotReadyError: If it is still being made.
        GoneError: If it will not be made.
    """
    if job.output is not None and job.state is JobState.COMPLETED:
        return job.output
    if not job.state.is_final:
        raise NotReadyError(
            f"job {job.id} is {job.state} ({job.progress} %); there is no result yet",
            retry_after_seconds=_wait_seconds(job),
        )
    reason = f": {job.error.message}" if job.error is not None else ""
    raise GoneError(f"job {job.id} is {job.state} and has no result{reason}")


def require_video(job: Job) -> None:
    """Makes sure that there is something to play.

    Raises:
        NotFoundError: If the result is a still.
    """
    if job.spec.gives_picture:
        raise NotFoundError(
            f"job {job.id} gives a picture ({job.spec.options.container}), which is not played; get "
            f"/v1/jobs/{job.id}/content when it is completed"
        )


def output_file(job: Job, *, is_download: bool) -> ServedFile:
    """The result as a file.

    Raises:
        NotReadyError: If it is still being made.
        GoneError: If it will not be made.
    """
    output = require_output(job)
    kind = "attachment" if is_download else "inline"
    container = job.spec.options.container
    name = download_name(job.spec.filename, container)
    return ServedFile(
        output.key,
        output.size_bytes,
        OUTPUT_TYPES[container],
        f'"{output.sha256}"',
        job.completed_at or job.updated_at,
        {"Content-Disposition": content_disposition(kind, name)},
    )


def source_file(job: Job) -> ServedFile:
    """The upload as a file.

    Raises:
        NotReadyError: If it is still being fetched.
        GoneError: If it will not be fetched.
    """
    found = job.spec.input
    if found is None:
        if job.state.is_final:
            raise GoneError(f"job {job.id} is {job.state}, and its source was never fetched")
        raise NotReadyError(f"the source of job {job.id} is still being fetched")
    disposition = content_disposition("inline", found.filename)
    return ServedFile(
        job.spec.input_key,
        found.size_bytes,
        media_type_of(found),
        f'"{job.id}-source"',
        job.spec.created_at,
        {"Content-Disposition": disposition, **_HARMLESS},
    )


def segment_file(job: Job, segment: FinishedSegment | None) -> ServedFile:
    """A segment of the HLS playlist as a file.

    Raises:
        NotFoundError: If it is not there.
    """
    if segment is None:
        raise NotFoundError(f"job {job.id} has no segment of that number, or not yet")
    return ServedFile(
        segment.key, segment.size_bytes, "video/mp4", _etag_of(segment.key), job.spec.created_at, _IMMUTABLE
    )


def audio_file(job: Job, sound: StreamSound | None) -> ServedFile:
    """The sound of the HLS playlist as a file.

    Raises:
        NotFoundError: If there is none.
    """
    if sound is None:
        raise NotFoundError(f"job {job.id} has no sound, or its plan is not made yet")
    return ServedFile(
        sound.key, sound.size_bytes, "audio/mp4", _etag_of(sound.key), job.spec.created_at, _IMMUTABLE
    )


async def newest_preview(context: ServiceContext, job: Job) -> tuple[str, str]:
    """Key and name of the newest segment's picture.

    Raises:
        NotReadyError: If there is none yet.
        GoneError: If there will be none.
    """
    key = await context.segments.newest_preview(job)
    if key is None:
        if job.state.is_final:
            raise GoneError(f"job {job.id} is {job.state} and has no preview")
        raise NotReadyError(f"job {job.id} has no finished segment yet")
    return key, PurePath(key).stem


def download_name(filename: str, container: str) -> str:
    """The name of a result, made of the upload's."""
    return f"{PurePath(filename).stem or 'video'}-upscaled.{container}"


def media_type_of(found: InputInfo) -> str:
    """The type of an upload, told from what the probe found and not from its name."""
    if found.picture is not None:
        return "image/heif" if found.codec == "hevc" else _PICTURE_TYPES[found.picture]
    container = found.format_name.partition(",")[0]
    if container == "matroska" and found.codec in _WEBM_CODECS:
        return "video/webm"
    return _CONTAINERS.get(container, "application/octet-stream")


def _etag_of(key: str) -> str:
    """Keys hold their attempt's token, so an object under another key has another tag."""
    return f'"{PurePath(key).stem}"'


def _wait_seconds(job: Job) -> int:
    return int(min(_LONGEST_WAIT, max(_SHORTEST_WAIT, job.eta_seconds or 5)))
