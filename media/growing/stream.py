"""The order of a growing stream: which bytes of which object come next. Others read and send them."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from media.errors import SegmentMismatchError
from media.growing.index import Fragment, SegmentIndex
from media.growing.tracks import AUDIO_TRACK_ID, VIDEO_TRACK_ID, merge_inits, retrack


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One fragment of the stream: read it, `apply` it, send it."""

    source: Literal["video", "audio"]
    segment: int
    """Number of the video segment; 0 for audio, which is one file."""
    offset: int
    """Byte range in that file."""
    length: int
    """Also of what `apply` returns."""
    position: int
    """Bytes of the stream before this piece, counted from the end of the init."""
    sequence_number: int

    def apply(self, fragment: bytes) -> bytes:
        """The bytes to send, made of those read.

        Raises:
            MalformedSegmentError: They are not a fragment.
            SegmentMismatchError: They are not as many as the piece has.
        """
        if len(fragment) != self.length:
            raise SegmentMismatchError(f"read {len(fragment)} bytes of a fragment of {self.length}")
        track_id = VIDEO_TRACK_ID if self.source == "video" else AUDIO_TRACK_ID
        return retrack(fragment, track_id, self.sequence_number)


class GrowingStream:
    """Fed the indices of segments in order, gives the pieces of one fragmented MP4 in order.

    The order follows from the fragments alone, not from when segments came: two clients get the same bytes,
    and a position in the stream means the same tomorrow. Behind each video fragment comes the audio that ends
    with it or before; so audio is never ahead of the picture and less than one fragment behind. What is left
    of it comes at the end. The stream is `init` and then what the pieces give; it can be decoded up to any
    end of a piece.

    Args:
        audio: Index of the file from `extract_audio`, None without sound.
    """

    def __init__(self, audio: SegmentIndex | None = None) -> None:
        self._audio = audio
        self._first: SegmentIndex | None = None
        self._num_segments = 0
        self._num_audio_used = 0
        self._last_start = -1
        self._position = 0
        self._sequence_number = 0
        self._is_finished = False

    @property
    def num_segments(self) -> int:
        """Segments fed so far; the number of the next one."""
        return self._num_segments

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was called."""
        return self._is_finished

    def add_segment(self, index: SegmentIndex) -> list[Piece]:
        """Take the next segment.

        Returns:
            The pieces that can be sent now, at least one.

        Raises:
            SegmentMismatchError: It does not fit behind the others (it was encoded with other settings, or
                begins before the last one), or the stream was finished.
        """
        self._check(index)
        self._num_segments += 1
        pieces: list[Piece] = []
        for fragment in index.fragments:
            pieces.append(self._piece("video", self._num_segments - 1, fragment))
            pieces += self._audio_until(index.seconds(fragment.end))
        return pieces

    def finish(self) -> list[Piece]:
        """Say that there are no more segments.

        Returns:
            The rest of the audio; nothing the second time.
        """
        self._is_finished = True
        return self._audio_until(None)

    def _check(self, index: SegmentIndex) -> None:
        number = self._num_segments
        if self._is_finished:
            raise SegmentMismatchError(f"segment {number} comes after the stream was finished")
        self._first = self._first or index
        require_same_init(self._first, index, number)
        start = index.fragments[0].start
        # Not compared with the last one's end: how long a last frame is shown is often only a guess.
        if start <= self._last_start:
            raise SegmentMismatchError(
                f"segment {number} begins at {start} ticks, after one at {self._last_start}; segments must "
                "follow one another in time"
            )
        self._last_start = index.fragments[-1].start

    def _audio_until(self, end: Fraction | None) -> list[Piece]:
        """The audio fragments not sent yet that end at a time or before it; None is all."""
        pieces: list[Piece] = []
        while self._audio is not None and self._num_audio_used < len(self._audio.fragments):
            fragment = self._audio.fragments[self._num_audio_used]
            if end is not None and self._audio.seconds(fragment.end) > end:
                break
            pieces.append(self._piece("audio", 0, fragment))
            self._num_audio_used += 1
        return pieces

    def _piece(self, source: Literal["video", "audio"], segment: int, fragment: Fragment) -> Piece:
        self._sequence_number += 1
        piece = Piece(
            source=source,
            segment=segment,
            offset=fragment.offset,
            length=fragment.size,
            position=self._position,
            sequence_number=self._sequence_number,
        )
        self._position += fragment.size
        return piece


def stream_init(video_init: bytes, audio_init: bytes | None) -> bytes:
    """What a growing stream begins with.

    Args:
        video_init: The first `init_size` bytes of any segment.
        audio_init: Of the audio file, None without sound.

    Raises:
        MalformedSegmentError: One of them is damaged.
    """
    return video_init if audio_init is None else merge_inits(video_init, audio_init)


def require_same_init(first: SegmentIndex, index: SegmentIndex, number: int) -> None:
    """Check that a segment can be decoded behind the first one's init.

    Raises:
        SegmentMismatchError: It cannot.
    """
    if index.init_digest != first.init_digest:
        raise SegmentMismatchError(
            f"segment {number} ({_summary(index)}) was encoded differently from the first one "
            f"({_summary(first)}); encode all segments with the same options"
        )


def _summary(index: SegmentIndex) -> str:
    return f"{index.format.codec}, {index.format.width}x{index.format.height}, {index.timescale} ticks/s"
