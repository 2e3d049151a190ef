"""The growing stream: one fragmented MP4 that is sent while its segments are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Send

from jobs.errors import JobNotFoundError, JobsError
from jobs.records import FinishedSegment, Job, JobState
from media.errors import MediaError
from media.growing import GrowingStream, Piece, SegmentIndex, stream_init
from service.context import ServiceContext
from service.results.audio import StreamAudio

# Also looked at without a wake-up: pub/sub forgets what is sent while it is not connected.
_LOOK_SECONDS = 5.0
_log = structlog.get_logger(__name__)
# Bytes of an object: key, offset, length.
_Read = Callable[[str, int, int], Awaitable[bytes]]


class StreamCutError(Exception):
    """Raised when a stream cannot go on: the job has failed, was cancelled or deleted, or a part is gone."""


class GrowingResponse(StreamingResponse):
    """A body that is ended properly only if it is whole.

    A stream that cannot go on has no last chunk, and the server closes the connection: clients can tell half
    a video from a whole one.
    """

    media_type = "video/mp4"

    async def stream_response(self, send: Send) -> None:
        """Sends the pieces as they come."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self.body_iterator:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (StreamCutError, JobsError, MediaError) as error:
            _log.info("stream.cut", error=str(error))
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def growing_bytes(context: ServiceContext, job_id: str) -> AsyncIterator[bytes]:
    """The stream from its beginning; waits for segments that are not there yet.

    Holds one fragment (about two seconds of video) at a time.

    Raises:
        StreamCutError: If there will be no more although it is not whole.
        JobsError: If store or storage do not answer.
        MediaError: If the segments do not fit together.
    """
    stream: GrowingStream | None = None
    audio: StreamAudio | None = None
    async for job, segment in segments_in_order(context, job_id):
        read = partial(_read, context, job.spec.owner)
        index = SegmentIndex.from_dict(segment.boxes)
        if stream is None:
            audio = await context.lanes.storage.run(job.spec.owner, StreamAudio.read, context, job)
            stream = GrowingStream(None if audio is None else audio.index)
            yield await _read_init(read, segment, index, audio)
        for piece in stream.add_segment(index):
            yield await _read_piece(read, piece, segment.key, audio)
    if stream is None:
        raise StreamCutError(f"{job_id} has no segments")
    for piece in stream.finish():
        yield await _read_piece(read, piece, "", audio)


async def segments_in_order(
    context: ServiceContext, job_id: str
) -> AsyncIterator[tuple[Job, FinishedSegment]]:
    """The segments of a job from the first to the last, each as soon as it and those before it are there.

    Raises:
        StreamCutError: If there will be no more although some are missing.
    """
    index = 0
    async with context.events.subscription(job_id) as news:
        while True:
            news.clear()
            try:
                job = await context.reader.get(job_id)
            except JobNotFoundError as error:
                raise StreamCutError(f"{job_id} was deleted") from error
            while (segment := await _segment_of(context, job, index)) is not None:
                yield job, segment
                index += 1
            if job.is_planned and index == job.num_segments:
                return
            if job.state.is_final:
                raise StreamCutError(f"{job_id} is {job.state} after {index} of its segments")
            try:
                await asyncio.wait_for(news.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue


async def _segment_of(context: ServiceContext, job: Job, index: int) -> FinishedSegment | None:
    # Before the plan has said whether there is sound, nothing can be sent: the tracks stand in front.
    if not job.is_playable or job.state in (JobState.CANCELLING, JobState.CANCELLED):
        return None
    return await context.segments.one(job, index)


async def _read_init(
    read: _Read, segment: FinishedSegment, index: SegmentIndex, audio: StreamAudio | None
) -> bytes:
    video_init = await read(segment.key, 0, index.init_size)
    audio_init = None if audio is None else await read(audio.key, 0, audio.index.init_size)
    return stream_init(video_init, audio_init)


async def _read_piece(read: _Read, piece: Piece, video_key: str, audio: StreamAudio | None) -> bytes:
    key = video_key if piece.source == "video" or audio is None else audio.key
    return piece.apply(await read(key, piece.offset, piece.length))


async def _read(context: ServiceContext, owner: str, key: str, offset: int, length: int) -> bytes:
    return await context.lanes.storage.run(
        owner, context.storage.get_bytes, key, offset=offset, length=length
    )
