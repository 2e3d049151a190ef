"""The video streams of an open file, in the order in which they are tried."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from media._decoder import has_decoder
from media._open import open_input
from media._stream_choice import VideoCandidate, rank_streams
from media._survey import read_packets
from media.errors import NoVideoError, StreamChoiceError
from media.limits import InputLimits

PICTURE_ONLY = Disposition.attached_pic | Disposition.timed_thumbnails

# A track of one picture shows itself as one when the others have given some dozens.
_MAX_COUNTED_PACKETS = 500


def list_video_streams(path: Path, container: InputContainer, *, limits: InputLimits) -> list[VideoCandidate]:
    """All video streams with packets, pictures too, in the order of the file."""
    streams = list(container.streams.video)
    is_told = len(streams) < 2 or all(stream.frames for stream in streams)
    counted: Counter[int] = Counter()
    if not is_told:
        counted = _count_packets(path, streams, limits)
        if counted.total() < _MAX_COUNTED_PACKETS:  # the whole file
            streams = [stream for stream in streams if counted[stream.index]] or streams
    return [
        VideoCandidate(
            index=stream.index,
            codec=stream.codec_context.codec.canonical_name if has_decoder(stream) else "unknown",
            width=stream.codec_context.width if has_decoder(stream) else 0,
            height=stream.codec_context.height if has_decoder(stream) else 0,
            num_frames=stream.frames if is_told else counted[stream.index],
            is_picture=bool(stream.disposition & PICTURE_ONLY),
            is_default=bool(stream.disposition & Disposition.default),
        )
        for stream in streams
    ]


def order_to_try(
    path: Path, container: InputContainer, candidates: Sequence[VideoCandidate], wanted: int | None
) -> list[VideoStream]:
    """The streams that may be the film, the likeliest first.

    Args:
        path: For messages.
        container: The open file.
        candidates: Its video streams.
        wanted: The only one to try, if somebody has said so.

    Raises:
        StreamChoiceError: The wanted one is no video.
        NoVideoError: There is none.
    """
    by_index = {stream.index: stream for stream in container.streams.video}
    if wanted is not None:
        if wanted not in by_index:
            there = ", ".join(candidate.words for candidate in candidates) or "none"
            raise StreamChoiceError(
                f"stream {wanted} of '{path.name}' is no video; its video streams are: {there}"
            )
        return [by_index[wanted]]
    films = [candidate for candidate in rank_streams(candidates) if not candidate.is_picture]
    if not films:
        raise NoVideoError(_explain_no_video(path, container))
    return [by_index[candidate.index] for candidate in films]


def _count_packets(path: Path, streams: Sequence[VideoStream], limits: InputLimits) -> Counter[int]:
    """Packets of each stream near the start of the file."""
    indexes = [stream.index for stream in streams]
    with open_input(path, limits=limits) as container:
        packets = read_packets(container, [container.streams[index] for index in indexes])
        return Counter(packet.stream.index for packet in islice(packets, _MAX_COUNTED_PACKETS))


def _explain_no_video(path: Path, container: InputContainer) -> str:
    kinds = ", ".join(sorted({stream.type for stream in container.streams}))
    if kinds in ("", "data", "unknown"):
        return f"'{path.name}' has no readable stream; it was probably cut off, so copy or upload it again"
    cover = " (a cover picture, which is no video)" if container.streams.video else ""
    return f"'{path.name}' has no video stream, only {kinds}{cover}; give a file with moving pictures"
