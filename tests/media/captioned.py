"""Videos with closed captions in them, written without the code under test, and the captions of a file."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from tests.media.clips import flag_fields, frame_of, moving_picture

RATE = 25


def captions_for(number: int) -> bytes:
    """Captions of a frame: every third has none, others have up to eight triplets, many of them zeros."""
    if number % 3 == 1:
        return b""
    return b"".join(bytes([0xFC, 0, number % 4 * n]) for n in range(number % 7 + 2))


def write_captioned(
    path: Path, num_frames: int, *, width: int = 64, height: int = 48, is_interlaced: bool = False
) -> list[bytes]:
    """MPEG-2 with captions as user data of its pictures (ATSC A/53 part 4, 6.2.2), from 0 on.

    Returns:
        The captions of each frame.
    """
    captions = [captions_for(number) for number in range(num_frames)]
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg2video", rate=RATE, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.thread_count = 5, 0, 1
        if is_interlaced:
            context.flags |= 1 << 18 | 1 << 29
        packets: list[Any] = []
        for number in range(num_frames):
            frame = frame_of(moving_picture(number, width=width, height=height), "yuv420p", width, height)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            packets += stream.encode(flag_fields(frame, "tff") if is_interlaced else frame)
        packets += stream.encode(None)
        for packet, triplets in zip(packets, captions, strict=True):
            output.mux(_with_user_data(packet, triplets) if triplets else packet)
    return captions


def _with_user_data(packet: Any, triplets: bytes) -> Any:
    data = bytes(packet)
    first_slice = data.index(b"\0\0\1\1")
    count = 0xC0 | len(triplets) // 3
    unit = b"\0\0\1\xb2GA94\x03" + bytes([count, 0xFF]) + triplets + b"\xff"
    made: Any = Packet(data[:first_slice] + unit + data[first_slice:])
    made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
    made.duration, made.is_keyframe, made.stream = packet.duration, packet.is_keyframe, packet.stream
    return made


def captions_in(path: Path) -> dict[Fraction, bytes]:
    """The captions of all frames of a file that have some, by their time in seconds, as FFmpeg reads them."""
    found: dict[Fraction, bytes] = {}
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            kinds: Any = frame.side_data
            data = b"".join(bytes(kind) for kind in kinds if kind.type.name == "A53_CC")
            assert frame.pts is not None
            assert frame.time_base is not None
            if data:
                found[frame.pts * frame.time_base] = data
    return found


def by_time(captions: Sequence[bytes], *, first: int = 0) -> dict[Fraction, bytes]:
    """Captions of frames as `captions_in` gives them; `first` is the frame that is shown at 0."""
    return {Fraction(n, RATE): data for n, data in enumerate(captions[first:]) if data}
