"""The final time stamps of decoded frames, and what is found out about frames on the way."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from av.video.frame import VideoFrame

from media._captions import UNREADABLE_WARNING, CaptionQueue, captions_of
from media._clock import Clock
from media._deinterlace import FIELDS_PER_FRAME
from media._notes import Notes
from media.errors import InputLimitError
from media.info import MediaInfo


def origin_ticks(info: MediaInfo) -> Fraction:
    """Where time is 0, in ticks of the video stream."""
    return info.origin_seconds / info.video.time_base


def stamp_frames(
    frames: Iterable[VideoFrame],
    info: MediaInfo,
    *,
    may_be_spliced: Callable[[], bool],
    max_seconds: float,
    is_deinterlaced: bool,
    captions: CaptionQueue,
    notes: Notes,
) -> Iterator[VideoFrame]:
    """Give frames their final pts, in the stream's ticks, and put their captions aside.

    Args:
        frames: As decoded.
        info: Of their file.
        may_be_spliced: Whether packets have stepped back in time so far.
        max_seconds: Longest video that is accepted.
        is_deinterlaced: Whether each field becomes a frame later.
        captions: Takes the captions, at the pts of the frames that come of it.
        notes: Told what may be unexpected.

    Raises:
        InputLimitError: The video is longer than allowed.
    """
    video = info.video
    fields = FIELDS_PER_FRAME if is_deinterlaced else 1
    clock = Clock(time_base=video.time_base, rate=video.rate, origin_ticks=origin_ticks(info), notes=notes)
    for frame in frames:
        pts = None if video.is_untimed else frame.pts
        frame.pts = clock.stamp(pts, may_be_spliced=may_be_spliced())
        if frame.pts * video.time_base > max_seconds:
            raise InputLimitError(
                f"the video is longer than {max_seconds:g} s, the most that is accepted; "
                "cut it, or ask for a part of it"
            )
        if frame.interlaced_frame and not is_deinterlaced:
            notes.add(
                "woven",
                "some frames are interlaced and were passed on as stored; --deinterlace changes that",
            )
        found = captions_of(frame)
        if found is None and video.has_captions:
            notes.add("captions", UNREADABLE_WARNING)
        captions.put(frame.pts * fields, found or b"")
        yield frame
