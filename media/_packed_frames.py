"""Times of frames in AVI, which stores no presentation times: the order of decoding tells them."""

import heapq

from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


def has_decoding_order_only(container: InputContainer, codec: str) -> bool:
    """Whether presentation times are FFmpeg's guess, and wrong where frames are packed.

    DivX puts a P and a B frame into one packet and an empty one behind it, so that AVI sees no reordering.
    """
    return container.format.name == "avi" and codec == "mpeg4"


class DecodingOrderClock:
    """Gives the frames that leave a decoder the decoding times that went in, the smallest first."""

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def decode(self, context: VideoCodecContext, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
        """Decode a packet, None for what the decoder still holds."""
        if packet is not None and packet.dts is not None:
            heapq.heappush(self._waiting, packet.dts)
            # The decoder holds no more frames than it reorders: what is left over belongs to packets
            # that gave none.
            while len(self._waiting) > context.reorder_depth + 1:
                heapq.heappop(self._waiting)
        frames = context.decode(packet)
        for frame in frames:
            frame.pts = heapq.heappop(self._waiting) if self._waiting else None
        return frames
