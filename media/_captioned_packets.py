"""Closed captions from frames that go into an encoder to the packets that come out of it."""

from typing import Any

from av.packet import Packet
from av.video.stream import VideoStream

from media._caption_units import add_captions
from media._codecs import Codec
from media._losses import CAPTION_CODECS, describe_lost_captions


class PacketCaptions:
    """Puts captions into the packets with the pts of their frames.

    Args:
        codec: Of the packets.

    Attributes:
        warnings: That the codec has no place for captions, once there were some.
    """

    def __init__(self, codec: Codec) -> None:
        self.warnings: tuple[str, ...] = ()
        self._codec = codec
        self._waiting: dict[int, bytes] = {}

    def put(self, pts: int, captions: bytes) -> None:
        """Keep the captions of a frame, if it has any, until its packet comes."""
        if not captions:
            return
        if self._codec in CAPTION_CODECS:
            self._waiting[pts] = captions
        else:
            self.warnings = (describe_lost_captions(self._codec),)

    def add_to(self, packet: "Packet[VideoStream]") -> "Packet[VideoStream]":
        """The packet, or one in its place that has the captions of its frame."""
        if not self._waiting or packet.pts not in self._waiting:
            return packet
        captions = self._waiting.pop(packet.pts)
        # PyAV cannot replace a packet's data.
        made: Packet[Any] = Packet(add_captions(bytes(packet), captions, self._codec))
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        made.time_base, made.is_keyframe, made.stream = packet.time_base, packet.is_keyframe, packet.stream
        return made
