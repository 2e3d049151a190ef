"""Pictures that change on the way: size, shape of the pixels, interlacing, as a stream of packets tells."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from media._mpeg_headers import is_interlaced_picture, start_code_units
from media.info import PictureShape
from media.limits import InputLimits

# A stream may describe itself alike throughout and have interlaced pictures in places, so it is looked at
# this often. Twenty milliseconds a look.
_SAMPLE_SECONDS = 10
_MAYBE_INTERLACED = frozenset({"h264", "mpeg2video", "vc1"})


def _units_of(is_description: Callable[[int], bool]) -> Callable[[bytes], bytes]:
    """The units whose first byte says that they describe the sequence."""
    return lambda data: b"".join(unit for unit in start_code_units(data) if is_description(unit[0]))


# What of a keyframe's packet describes the pictures, by codec. It may be more than that, since a description
# that was met before costs nothing, and less than all where the container holds it. Codecs that are not here
# do not change on the way.
_DESCRIPTIONS: dict[str, Callable[[bytes], bytes]] = {
    "mpeg1video": _units_of(lambda kind: kind == 0xB3),
    "mpeg2video": _units_of(lambda kind: kind in (0xB3, 0xB5)),
    "mpeg4": _units_of(lambda kind: 0x20 <= kind < 0x30),
    "h264": _units_of(lambda kind: kind & 0x1F == 7),
    "hevc": _units_of(lambda kind: kind >> 1 & 0x3F == 33),
    "vc1": _units_of(lambda kind: kind == 0x0F),
    "vp8": lambda data: data[3:10],
    "vp9": lambda data: data[:9],
    "av1": lambda data: data[:20],
}


@dataclass(frozen=True, kw_only=True)
class PicturePart:
    """Packets in a row with pictures of one kind."""

    shape: PictureShape
    is_interlaced: bool
    num_frames: int


class ChangeFinder:
    """Watches a video's packets; decodes a keyframe where what describes them changes, and one now and then.

    Args:
        stream: The video; its own decoder is not used.
        limits: For the pictures that are decoded.
    """

    def __init__(self, stream: VideoStream, *, limits: InputLimits) -> None:
        self.parts: list[PicturePart] = []
        self.num_frames = 0
        self._stream = stream
        self._codec = stream.codec_context.codec.canonical_name
        self._options = {"max_pixels": str(limits.max_pixels)}
        self._described: bytes | None = None
        self._known: dict[bytes, PicturePart] = {}
        self._last_look: Fraction | None = None

    def add(self, packet: "Packet[Any]") -> None:
        """The next packet."""
        self.num_frames += 1
        if packet.is_keyframe and self._codec in _DESCRIPTIONS:
            self._look(packet)
        if not self.parts:
            return
        last = self.parts[-1]
        if not last.is_interlaced and self._codec == "mpeg2video" and is_interlaced_picture(bytes(packet)):
            last = self._begin(replace(last, is_interlaced=True, num_frames=0))
        self.parts[-1] = replace(last, num_frames=last.num_frames + 1)

    def _look(self, packet: "Packet[Any]") -> None:
        described = _DESCRIPTIONS[self._codec](bytes(packet))
        if packet.has_sidedata("new_extradata"):
            described += bytes(packet.get_sidedata("new_extradata"))
        time = None if packet.dts is None else packet.dts * packet.time_base
        is_due = self._codec in _MAYBE_INTERLACED and (
            self._last_look is None or time is None or abs(time - self._last_look) >= _SAMPLE_SECONDS
        )
        if described == self._described and not is_due:
            return
        self._described = described
        part = self._known.get(described)
        if part is None or is_due:
            self._last_look = time
            part = self._decode(packet)
            if part is None:
                return
            self._known[described] = part
        last = self.parts[-1] if self.parts else None
        if last is None or replace(last, num_frames=0) != part:
            self._begin(part)

    def _begin(self, part: PicturePart) -> PicturePart:
        if self.parts and self.parts[-1].num_frames == 0:
            self.parts.pop()
        self.parts.append(part)
        return part

    def _decode(self, packet: "Packet[Any]") -> PicturePart | None:
        """What a keyframe's picture is like; None where it gives none."""
        template = self._stream.codec_context
        context = av.CodecContext.create(template.codec.name, "r")
        assert isinstance(context, VideoCodecContext)
        context.extradata = template.extradata
        context.options, context.thread_count = self._options, 1
        try:
            frames = [*context.decode(packet), *context.decode(None)]
        except (av.FFmpegError, ValueError):
            return None
        if not frames:
            return None
        return PicturePart(
            shape=PictureShape(
                width=frames[0].width,
                height=frames[0].height,
                sample_aspect_ratio=context.sample_aspect_ratio or Fraction(1),
            ),
            is_interlaced=frames[0].interlaced_frame,
            num_frames=0,
        )
